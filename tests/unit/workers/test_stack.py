"""What `aigc up` plans and what it takes for alive, without starting a server."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from aigc_core.errors import InvalidSpec
from serving.repository import write_config
from workers.cli import stack
from workers.cli.revision import code_revision
from workers.cli.servers import Plan
from workers.settings import settings_from

PORTS = ("redis_port", "s3_port", "serving_port")

#: Beyond what Linux gives out.
NO_PID = 2**22 + 1


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home, and nothing else from outside."""
    for name in [name for name in os.environ if name.startswith("AIGC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIGC_HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    return tmp_path


def plan(home: Path, **ports: int) -> Plan:
    return Plan.of(home, **(dict.fromkeys(PORTS, 0) | ports))


@pytest.mark.parametrize("name", PORTS)
def test_a_port_that_is_asked_for_and_taken_is_refused_by_its_option(home: Path, taken_port: int, name: str) -> None:
    with pytest.raises(InvalidSpec, match=f"--{name.replace('_', '-')} {taken_port} cannot be had .*in use"):
        plan(home, **{name: taken_port})
    assert not (home / "stack.json").exists()


def test_a_port_that_was_kept_and_is_taken_meanwhile_is_replaced_and_the_passwords_stay(home: Path, taken_port: int) -> None:
    first = plan(home)
    kept = json.loads((home / "stack.json").read_text())
    (home / "stack.json").write_text(json.dumps(kept | {"redis_port": taken_port}))
    second = plan(home)
    assert second.redis_port != taken_port
    assert (second.s3_port, second.redis_password) == (first.s3_port, first.redis_password)


def test_other_ports_than_those_of_a_running_stack_are_refused(home: Path) -> None:
    made = plan(home)
    assert Plan.kept(home, redis_port=made.redis_port, s3_port=0) == made
    with pytest.raises(InvalidSpec, match=f"the stack runs with {made.redis_port}; `aigc down` first"):
        Plan.kept(home, redis_port=made.redis_port + 1)


def test_a_port_beyond_the_last_is_refused_in_words() -> None:
    command = [sys.executable, "-m", "workers.cli", "up", "--redis-port", "70000"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--redis-port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_real_model_server_keeps_its_own_paths_and_a_real_s3_its_region(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_SERVING_TARGETS", "serving:8500")
    monkeypatch.setenv("AIGC_SERVING_BASE_PATH", "/models")
    monkeypatch.setenv("AIGC_S3_REGION", "eu-central-1")
    (home / "models" / "ads" / "1").mkdir(parents=True)

    settings = settings_from(plan(home).environment(home))
    write_config(settings.model_base_path, server_base_path=settings.serving_base_path)

    assert settings.s3_region == "eu-central-1"
    assert 'base_path: "/models/ads"' in (home / "models" / "models.config").read_text()


def announce(home: Path, name: str, pid: int, created: float) -> None:
    """What a process of the stack, and its start, leave in `run/`."""
    (home / "run" / f"{name}.json").write_text(json.dumps({"pid": pid, "created": created}))
    (home / "run" / f"metrics-{pid}.json").write_text(json.dumps({"url": f"http://127.0.0.1:1/{name}"}))


def test_only_those_that_live_are_asked_for_their_metrics(home: Path) -> None:
    announce(home, "generation-1", os.getpid(), psutil.Process().create_time())
    announce(home, "generation-2", NO_PID, 0.0)
    assert stack.metrics_urls() == ["http://127.0.0.1:1/generation-1"]


def test_the_metrics_addresses_of_the_dead_are_forgotten_also_when_their_pid_came_again(home: Path) -> None:
    announce(home, "generation-1", os.getpid(), psutil.Process().create_time())
    announce(home, "generation-2", NO_PID, 0.0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as later:
        announce(home, "generation-3", later.pid, 0.0)
        os.utime(home / "run" / f"metrics-{later.pid}.json", (1, 1))
        stack._remove_stale_metrics(home)
        later.communicate(b"\n")
    assert [path.name for path in (home / "run").glob("metrics-*")] == [f"metrics-{os.getpid()}.json"]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]
    return subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository that has the code, committed."""
    folder = tmp_path / "checkout"
    (folder / "workers" / "cli").mkdir(parents=True)
    (folder / "workers" / "cli" / "revision.py").write_text("one\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "First")
    git(folder, "tag", "v1")
    return folder


def test_the_revision_is_the_commit_and_says_when_files_differ_from_it(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD").strip()
    assert code_revision(checkout) == commit
    (checkout / "workers" / "cli" / "revision.py").write_text("two\n")
    assert code_revision(checkout) == f"{commit}-dirty"


def test_code_that_is_installed_in_the_checkout_of_something_else_has_no_revision(checkout: Path, tmp_path: Path) -> None:
    installed = checkout / ".venv" / "workers" / "cli"
    installed.mkdir(parents=True)
    (installed / "revision.py").write_text("one\n")
    assert code_revision(checkout / ".venv") == "unknown"
    assert code_revision(tmp_path / "nowhere") == "unknown"


def test_the_stack_tells_its_processes_the_revision_unless_it_is_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(home).environment(home)["AIGC_CODE_REVISION"] == code_revision()
    monkeypatch.setenv("AIGC_CODE_REVISION", "release-7")
    assert plan(home).environment(home)["AIGC_CODE_REVISION"] == "release-7"
