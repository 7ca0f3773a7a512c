"""A TCP proxy of the loopback that misbehaves as it is told, while it runs, to connections that are open too.

pass     forwards
hole     accepts and swallows, answers nothing; what was open goes silent as well
refuse   closes what is open and takes nothing more: nobody listens
reset    cuts every connection with RST, what is open at once, what comes at its first byte
"""

import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

#: Sent instead of FIN when a socket with it is closed.
RST_ON_CLOSE = struct.pack("ii", 1, 0)


class ChaosProxy:
    """Forwards to one port; `mode`, `latency_seconds` and `drop_reply_when` may be set at any time."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.latency_seconds = 0.0  # before a request and before a reply goes on, each
        #: Given a request's bytes: True forwards it and drops what the server replies, then cuts the connection.
        self.drop_reply_when: Callable[[bytes], bool] | None = None
        self.dropped_count = 0
        self.request_count = 0
        self._mode = "pass"
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._silent: set[socket.socket] = set()  # clients that get no answer any more
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        assert mode in ("pass", "hole", "refuse", "reset"), mode
        was, self._mode = self._mode, mode
        if mode == "refuse" and was != "refuse":
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        if mode == "hole":
            with self._lock:
                self._silent |= {client for client, _ in self._pairs}
        if mode in ("refuse", "reset"):
            self.cut()
        if was == "refuse" and mode != "refuse":
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Reset every open connection."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            for one in pair:
                with suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._over.set()
        self.mode = "refuse"

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
            server.settimeout(None)
        except OSError:
            client.close()
            return
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        try:
            for one in pair:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pump(client, server)
        except OSError:
            pass
        finally:
            with self._lock:
                self._pairs.discard(pair)
                self._silent.discard(client)
            for one in pair:
                one.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        dropping = False
        with selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select():
                    chunk = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    if self._mode == "hole":
                        self._silent.add(client)
                    if client in self._silent:
                        if not chunk and key.fileobj is client:
                            return
                        if not chunk:
                            ready.unregister(server)
                        continue
                    if not chunk or self._mode == "reset":
                        return
                    if key.fileobj is client:
                        self.request_count += 1
                        dropping = dropping or (self.drop_reply_when is not None and self.drop_reply_when(chunk))
                    elif dropping:
                        self.dropped_count += 1
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
                        return
                    if self.latency_seconds:
                        self._over.wait(self.latency_seconds)
                    key.data.sendall(chunk)


@contextmanager
def chaos_proxy(target_port: int) -> Iterator[ChaosProxy]:
    """A running one."""
    proxy = ChaosProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.close()
