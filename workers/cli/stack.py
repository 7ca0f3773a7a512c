"""The embedded stack: real servers and workers on this machine's loopback. `up`, `status`, `down`."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import click
import psutil

from aigc_core.errors import AigcError, InvalidSpec, Unavailable
from workers.bootstrap import Runtime
from workers.cli.output import emit_json, json_option, table
from workers.cli.servers import Plan, Process, servers, worker_processes
from workers.settings import environment, home, settings_from

#: A process that is not healthy after this long is reported, in seconds.
START_SECONDS_MAX = 60.0

#: How far the start of a process, as the kernel tells it, may be from the clock, in seconds.
CLOCK_SECONDS = 2.0

PORT = click.IntRange(0, 65_535)


class StartFailed(AigcError):
    """A process of the stack died or did not become healthy."""


@click.command()
@click.option("--generation-workers", default=1, type=click.IntRange(1, 64), help="Generation workers.")
@click.option("--redis-port", default=0, type=PORT, help="0: a free one.")
@click.option("--s3-port", default=0, type=PORT, help="0: a free one.")
@click.option("--serving-port", default=0, type=PORT, help="0: a free one.")
@json_option
def up(generation_workers: int, redis_port: int, s3_port: int, serving_port: int, as_json: bool) -> None:
    """Start the embedded stack, or what of it is not running; goes on where `down` stopped."""
    start(generation_workers=generation_workers, redis_port=redis_port, s3_port=s3_port, serving_port=serving_port)
    _print_status(as_json=as_json)


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show the processes of the embedded stack; exit code 1 when one is not running."""
    if not _print_status(as_json=as_json):
        raise click.exceptions.Exit(1)


@click.command()
@json_option
def down(as_json: bool) -> None:
    """Stop the embedded stack; its data stays."""
    stopped = stop()
    if as_json:
        emit_json({"stopped": stopped})
    else:
        click.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


def start(*, generation_workers: int = 1, redis_port: int = 0, s3_port: int = 0, serving_port: int = 0) -> list[str]:
    """Start every process that is not running, in order, and name them; on a failure stop those that this call started."""
    folder = home()
    (folder / "run").mkdir(parents=True, exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    folder.chmod(0o700)
    _remove_stale_metrics(folder)
    running = _running(folder)
    plan_of = Plan.kept if {"redis", "s3", "serving"} & set(running) else Plan.of
    plan = plan_of(folder, redis_port=redis_port, s3_port=s3_port, serving_port=serving_port)
    settings = plan.environment(folder)
    made = Runtime(settings_from(settings))  # a setting that is wrong is refused before anything starts
    _write_environment(folder, settings)
    started: list[str] = []
    try:
        for process in servers(plan, folder):
            if process.name == "serving":
                _prepare(made)
            _start_if_needed(process, folder, settings, running, started)
        _prepare(made)
        for process in worker_processes(folder, generation_workers):
            _start_if_needed(process, folder, settings, running, started)
    except BaseException:
        stop(names=started)
        raise
    return started


def stop(names: Sequence[str] | None = None) -> list[str]:
    """End the stack's processes, last started first; the names of those that ran."""
    folder = home()
    running = _running(folder)
    chosen = [name for name in reversed(running) if names is None or name in names]
    graces = json.loads((folder / "run" / "graces.json").read_text()) if chosen else {}
    for path in [folder / "run" / f"{name}.json" for name in names or () if name not in running]:
        path.unlink(missing_ok=True)
    for servers_turn in (False, True):  # workers first: they still need the servers to hand their work back
        turn = [name for name in chosen if (name in ("redis", "s3", "serving")) is servers_turn]
        for name in turn:
            running[name].send_signal(signal.SIGTERM)
        for name in turn:
            try:
                running[name].wait(graces.get(name, 15))
            except psutil.TimeoutExpired:
                for process in [*running[name].children(recursive=True), running[name]]:
                    process.kill()
                running[name].wait(5)
            (folder / "run" / f"{name}.json").unlink(missing_ok=True)
            (folder / "run" / f"metrics-{running[name].pid}.json").unlink(missing_ok=True)
    return chosen


def metrics_urls() -> list[str]:
    """The scrape addresses of the stack's processes that live."""
    folder = home()
    return [url for process in _running(folder).values() if (url := _metrics_url(folder, process.pid))]


def _metrics_url(folder: Path, pid: int) -> str:
    """Empty for a process that has none."""
    path = folder / "run" / f"metrics-{pid}.json"
    return str(json.loads(path.read_text())["url"]) if path.exists() else ""


def _remove_stale_metrics(folder: Path) -> None:
    """Forget the scrape addresses of processes that were killed: their pids may come again."""
    for path in (folder / "run").glob("metrics-*.json"):
        try:
            process = psutil.Process(int(path.stem.removeprefix("metrics-")))
            left_over = process.create_time() > path.stat().st_mtime + CLOCK_SECONDS
        except psutil.NoSuchProcess:
            left_over = True
        if left_over:
            path.unlink(missing_ok=True)


def _start_if_needed(
    process: Process, folder: Path, settings: dict[str, str], running: dict[str, psutil.Process], started: list[str]
) -> None:
    if process.name in running:
        return
    log_path = folder / "logs" / f"{process.name}.log"
    with log_path.open("ab") as output:
        child = subprocess.Popen(
            process.command,
            env=environment() | settings | process.environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    started.append(process.name)
    facts = {"pid": child.pid, "created": psutil.Process(child.pid).create_time()}
    (folder / "run" / f"{process.name}.json").write_text(json.dumps(facts))
    graces_path = folder / "run" / "graces.json"
    graces = json.loads(graces_path.read_text()) if graces_path.exists() else {}
    graces_path.write_text(json.dumps(graces | {process.name: process.grace_seconds}))
    deadline = time.monotonic() + START_SECONDS_MAX
    while not process.healthy(child.pid):
        if child.poll() is not None:
            raise StartFailed(f"{process.name} ended with code {child.returncode}:\n{_last_lines(log_path)}")
        if time.monotonic() > deadline:
            raise StartFailed(f"{process.name} is not healthy after {START_SECONDS_MAX:.0f} s:\n{_last_lines(log_path)}")
        time.sleep(0.02)  # a server in start-up has no event to wait for


def _last_lines(path: Path, count: int = 8) -> str:
    lines = path.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(f"  {line}" for line in lines) + f"\n  (all of it: {path})"


def _prepare(made: Runtime) -> None:
    """Bucket and empty model repository, before anybody needs them."""
    from serving.repository import write_config

    for attempt in range(20):
        try:
            made.create_bucket()
            break
        except Unavailable:
            if attempt == 19:
                raise
            time.sleep(0.1)  # its port is open a moment before it answers
    write_config(made.settings.model_base_path, server_base_path=made.settings.serving_base_path)


def _write_environment(folder: Path, settings: dict[str, str]) -> None:
    path = folder / "stack.env"
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def _running(folder: Path) -> dict[str, psutil.Process]:
    """The stack's processes that live, in the order of their start; a pid that was reused is not one."""
    found: list[tuple[float, str, psutil.Process]] = []
    for path in (folder / "run").glob("*.json"):
        if path.name.startswith("metrics-") or path.name == "graces.json":
            continue
        facts = json.loads(path.read_text())
        try:
            process = psutil.Process(facts["pid"])
            if process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - facts["created"]) < CLOCK_SECONDS:
                found.append((facts["created"], path.stem, process))
        except psutil.NoSuchProcess:
            continue
    return {name: process for _, name, process in sorted(found, key=lambda entry: entry[0])}


def _print_status(*, as_json: bool) -> bool:
    """Print the stack; whether all of it runs."""
    folder = home()
    if not (folder / "run").exists():
        raise InvalidSpec(f"there is no stack in {folder}; `aigc up` makes one")
    running = _running(folder)
    rows = []
    for path in sorted((folder / "run").glob("*.json"), key=os.path.getmtime):
        if path.name.startswith("metrics-") or path.name == "graces.json":
            continue
        pid = json.loads(path.read_text())["pid"]
        state = "running" if path.stem in running else "not running"
        rows.append(
            {
                "name": path.stem,
                "state": state,
                "pid": pid,
                "metrics": _metrics_url(folder, pid) if path.stem in running else "",
                "log": str(folder / "logs" / path.stem) + ".log",
            }
        )
    if as_json:
        emit_json(rows)
    else:
        table(("process", "state", "pid", "metrics", "log"), ([*row.values()] for row in rows))
    return bool(rows) and all(row["state"] == "running" for row in rows)
