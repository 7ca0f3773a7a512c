"""One HTTP POST to an address that a stranger chose: bounded in time and size, no redirects, no internal addresses."""

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

#: From the first packet to the last byte of the answer, in seconds; a receiver should answer first and work then.
POST_SECONDS_MAX = 10.0

#: For one address to take the connection, in seconds.
CONNECT_SECONDS_MAX = 3.0

#: What is read of an answer, in bytes; it is only for the log.
ANSWER_BYTES_MAX = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a request."""

    status: int  # of HTTP; 0 when no answer came or nothing was sent
    text: str  # the beginning of the answer, or why there is none

    @property
    def accepted(self) -> bool:
        """2xx: the receiver has it. A redirect is not followed, so it is a failure."""
        return 200 <= self.status < 300

    @property
    def refused_for_good(self) -> bool:
        """410: the receiver wants no more of it."""
        return self.status == 410


class ForbiddenAddress(OSError):
    """A host that is, or also is, inside our own network."""


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allow_private: bool,
    seconds_max: float = POST_SECONDS_MAX,
) -> Answer:
    """Send the body; whatever goes wrong is an `Answer` too.

    Unless `allow_private`, the host is resolved first, refused when any of its addresses is not public, and connected to
    by the address that was checked: a name that resolves differently a moment later changes nothing.
    """
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected http:// or https:// and a host")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        sock = _connected(parts.hostname, port, allow_private=allow_private)
    except (OSError, ValueError) as error:
        return Answer(status=0, text=_reason(error))
    connection = http.client.HTTPConnection(parts.hostname, port, timeout=seconds_max)
    sock.settimeout(seconds_max)
    connection.sock = sock
    over, wire = threading.Event(), [sock]  # the last is in use; http.client lets go of its own while an answer is read
    # Time-outs of sockets are per packet: an answer that drips would last for ever.
    alarm = threading.Timer(seconds_max, _cut, (wire, over))
    alarm.daemon = True
    alarm.start()
    try:
        if parts.scheme == "https":
            connection.sock = _secured(wire, parts.hostname)
        answer = _exchanged(connection, path, body, headers)
        if over.is_set():
            raise TimeoutError
        return answer
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = over.is_set() or isinstance(error, TimeoutError)
        return Answer(status=0, text=f"no answer within {seconds_max:.0f} s" if late else _reason(error))
    finally:
        alarm.cancel()
        connection.close()
        wire[-1].close()


def check_address(address: str) -> None:
    """`ForbiddenAddress` unless the IP address is one of the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if embedded is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if embedded is not None:
            check_address(str(embedded))
            if ip.ipv4_mapped:
                return
    if not ip.is_global or ip.is_multicast:
        raise ForbiddenAddress(f"{address} is no public address; AIGC_WEBHOOK_ALLOW_PRIVATE allows it")


def _connected(host: str, port: int, *, allow_private: bool) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if not allow_private:
        for *_, address in found:
            check_address(str(address[0]))
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(CONNECT_SECONDS_MAX)
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _secured(wire: list[socket.socket], host: str) -> ssl.SSLSocket:
    """TLS, with the certificate checked; it is on the wire before a server can drip."""
    context = ssl.create_default_context()
    secured = context.wrap_socket(wire[-1], server_hostname=host, do_handshake_on_connect=False)
    wire.append(secured)
    secured.do_handshake()
    return secured


def _exchanged(connection: http.client.HTTPConnection, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    connection.request("POST", path, body, dict(headers) | {"connection": "close"})
    response = connection.getresponse()
    return Answer(status=response.status, text=response.read(ANSWER_BYTES_MAX).decode("utf-8", "replace"))


def _cut(wire: list[socket.socket], over: threading.Event) -> None:
    over.set()
    with suppress(OSError):
        # Of the plain socket: an SSLSocket's own would put the connection in the clear for the thread that reads.
        socket.socket.shutdown(wire[-1], socket.SHUT_RDWR)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
