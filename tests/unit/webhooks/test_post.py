"""One request against real sockets: what is refused, what is cut off, what is an answer."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from aigc_core.webhooks.post import ANSWER_BYTES_MAX, ForbiddenAddress, check_address, post


@contextmanager
def answering(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does this with its one connection; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                handle(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/hook?team=ads"
        thread.join(5)


def said(text: bytes) -> Callable[[socket.socket], None]:
    def handle(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(text)

    return handle


def sent(url: str, *, allow_private: bool = True, seconds_max: float = 5) -> tuple[int, str]:
    answer = post(url, b"{}", {"webhook-id": "m"}, allow_private=allow_private, seconds_max=seconds_max)
    return answer.status, answer.text


def test_a_2xx_is_accepted_and_anything_else_is_not() -> None:
    for status, accepted in ((b"204 No Content", True), (b"302 Found\r\nLocation: /x", False), (b"500 Oh", False)):
        with answering(said(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")) as url:
            assert post(url, b"{}", {}, allow_private=True).accepted is accepted


def test_path_query_body_and_headers_arrive() -> None:
    got = []

    def handle(connection: socket.socket) -> None:
        got.append(connection.recv(65_536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with answering(handle) as url:
        assert sent(url) == (200, "ok")
    assert got[0].startswith(b"POST /hook?team=ads HTTP/1.1\r\n")
    assert b"webhook-id: m\r\n" in got[0]


def test_of_an_endless_answer_only_the_beginning_is_read() -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 65_536)

    with answering(handle) as url:
        assert sent(url) == (200, "x" * ANSWER_BYTES_MAX)


@pytest.mark.parametrize(
    ("scheme", "first"),
    [("http", b""), ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"), ("https", b"\x16\x03\x03\x40\x00")],
    ids=["head", "body", "handshake"],
)
def test_an_answer_that_drips_is_cut_off(scheme: str, first: bytes) -> None:
    ended = threading.Event()

    def handle(connection: socket.socket) -> None:
        try:
            connection.sendall(first)  # of https: the head of a long record, so that the handshake waits for the rest
            while not ended.is_set():
                connection.sendall(b"H")
                time.sleep(0.05)  # the drip itself
        except OSError:
            return

    with answering(handle) as url:
        alarm = threading.Timer(4, ended.set)  # what is not cut ends with the connection, and is told from it
        alarm.start()
        assert sent(url.replace("http", scheme), seconds_max=1) == (0, "no answer within 1 s")
        assert not ended.is_set()
        alarm.cancel()


def test_silence_and_a_closed_port_are_answers_too() -> None:
    with answering(lambda connection: connection.recv(65_536) and None) as url:
        status, _ = sent(url)
        assert status == 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert sent(f"http://127.0.0.1:{port}/")[1].startswith("ConnectionRefusedError")
    assert sent("ftp://127.0.0.1/")[0] == 0
    assert sent("http://127.0.0.1:99999/")[0] == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "2130706433", "0x7f.1"])
def test_nothing_is_sent_to_this_machine_unless_a_setting_allows_it(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        status, text = sent(f"http://{host}:{server.getsockname()[1]}/", allow_private=False)
        assert status == 0
        assert "AIGC_WEBHOOK_ALLOW_PRIVATE" in text
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "0.0.0.0", "::1", "fe80::1%eth0",
     "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "ff02::1"],
)  # fmt: skip
def test_an_address_that_is_not_of_the_public_internet_is_forbidden(address: str) -> None:
    with pytest.raises(ForbiddenAddress):
        check_address(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_a_public_address_is_allowed(address: str) -> None:
    check_address(address)
