"""Real servers for the tests, started when first asked for, on free ports of the loopback."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest
import redis
from servers import free_port, process, redis_servers, running_redis, wait_for_port

from aigc_core.jobs.redis_ledger import connect
from aigc_core.storage.s3 import S3ObjectStore

sys.path.insert(0, str(Path(__file__).parent))

# A slow machine is no failure of a property.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

S3_ACCESS_KEY, S3_SECRET_KEY = "accesskey0123456", "secretkey0123456"


@pytest.fixture(scope="session")
def redis_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An empty Redis of the test session's own, of every version that is there."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running_redis(server, tmp_path_factory.mktemp(f"redis-{name}")))
            for name, server in redis_servers().items()
        }


@pytest.fixture
def redis_clients(redis_urls: dict[str, str]) -> Iterator[dict[str, redis.Redis]]:
    """A client of every Redis, emptied."""
    clients = {name: connect(url) for name, url in redis_urls.items()}
    for client in clients.values():
        client.flushall()
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture
def redis_client(redis_clients: dict[str, redis.Redis]) -> redis.Redis:
    """A client of an emptied Redis."""
    return redis_clients["wheel"]


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
