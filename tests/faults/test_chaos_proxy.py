"""The proxy itself, over a server that answers in capitals."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from faults.chaos_proxy import ChaosProxy, chaos_proxy


class _Capitals(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while words := self.request.recv(1000):
            self.request.sendall(words.upper())


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture
def proxy() -> Iterator[ChaosProxy]:
    with _Server(("127.0.0.1", 0), _Capitals) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with chaos_proxy(server.server_address[1]) as made:
            yield made
        server.shutdown()


def ask(connection: socket.socket, words: bytes) -> bytes:
    connection.sendall(words)
    return connection.recv(1000)


def connected(proxy: ChaosProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=0.5)


def test_it_forwards_and_delays(proxy: ChaosProxy) -> None:
    with connected(proxy) as connection:
        assert ask(connection, b"one") == b"ONE"
        proxy.latency_seconds = 0.05
        started = time.monotonic()
        assert ask(connection, b"two") == b"TWO"
        assert time.monotonic() - started >= 0.1


def test_a_hole_swallows_on_connections_that_were_open_too(proxy: ChaosProxy) -> None:
    with connected(proxy) as old:
        assert ask(old, b"one") == b"ONE"
        proxy.mode = "hole"
        with connected(proxy) as new:
            for connection in (old, new):
                with pytest.raises(TimeoutError):
                    ask(connection, b"two")


def test_a_reset_ends_what_is_open_and_a_refusal_takes_nothing_more_until_it_passes_again(proxy: ChaosProxy) -> None:
    for mode in ("reset", "refuse"):
        proxy.mode = "pass"
        with connected(proxy) as connection:
            assert ask(connection, b"one") == b"ONE"
            proxy.mode = mode
            with suppress(OSError):
                assert ask(connection, b"two") == b""
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    proxy.mode = "pass"
    with connected(proxy) as connection:
        assert ask(connection, b"three") == b"THREE"


def test_the_reply_to_a_chosen_request_is_lost_after_it_was_done(proxy: ChaosProxy) -> None:
    proxy.drop_reply_when = lambda request: b"two" in request
    with connected(proxy) as connection:
        assert ask(connection, b"one") == b"ONE"
        with suppress(ConnectionError):
            assert ask(connection, b"two") == b""
    assert proxy.dropped_count == 1
