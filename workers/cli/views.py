"""Commands that look: jobs, job, watch, models, datasets."""

import json
import time
from types import TracebackType

import click

from aigc_core.clock import Clock
from aigc_core.errors import NotFound, Unavailable
from aigc_core.jobs.records import Event, Job
from aigc_core.jobs.states import JobKind, JobState
from aigc_core.storage import layout
from workers.bootstrap import Runtime
from workers.cli.output import emit_json, json_option, table, when

#: How long `watch` and --wait bear with a ledger that is away, in seconds.
PATIENCE_SECONDS = 300.0


@click.command()
@click.option("--count", default=20, type=click.IntRange(1, 1000), help="Jobs at most, newest first.")
@json_option
def jobs(count: int, as_json: bool) -> None:
    """List jobs, newest first."""
    found = Runtime.from_env().ledger.jobs(count_max=count)
    if as_json:
        emit_json(found)
        return
    table(
        ("job", "kind", "model", "state", "done", "failed", "created"),
        ((j.id, j.kind, model_of(j), state_of(j), done_of(j), j.counts.failed, when(j.created_at)) for j in found),
    )


@click.command()
@click.argument("job_id")
@json_option
def job(job_id: str, as_json: bool) -> None:
    """Show one job: its state, its counts, what it waits for, where its results are."""
    made = Runtime.from_env()
    found = made.ledger.job(job_id)
    if as_json:
        emit_json(found)
        return
    click.echo(f"job        {found.id} ({found.kind}, team {found.team})")
    click.echo(f"model      {model_of(found)}")
    click.echo(f"state      {state_of(found)}")
    click.echo(f"done       {done_of(found)}, failed {found.counts.failed}, {found.counts.payload_bytes:,} bytes")
    click.echo(
        f"chunks     {found.chunks_done} done, {found.chunks_running} running, {found.chunks_discarded} given up, "
        f"{found.chunk_count} in all; attempts lost {found.attempts_lost}, failed {found.attempts_error}"
    )
    times = f"created {when(found.created_at)}, started {when(found.started_at)}, finished {when(found.finished_at)}"
    click.echo(f"times      {times}")
    limits = [
        f"{word} {when(at)}"
        for word, at in (("starts", found.start_at), ("due", found.deadline_at), ("expires", found.expires_at))
        if at
    ]
    click.echo(f"order      priority {found.priority}, lane {found.lane}, {', '.join(limits)}")
    if found.waiting_for and not found.state.is_final:
        click.echo(f"waits for  {found.waiting_for}")
    if found.last_error:
        click.echo(f"last error {found.last_error}")
    if found.kind is JobKind.GENERATION:
        click.echo(f"results    {made.store.uri(layout.job_prefix(found.id))}")
    else:
        click.echo(f"run        {made.store.uri(layout.training_prefix(found.id))}")
        if found.progress:
            click.echo(f"progress   {json.dumps(found.progress)}")


@click.command()
@click.argument("job_id")
@json_option
def watch(job_id: str, as_json: bool) -> None:
    """Follow a job's events until it ends; exit code 1 when it ends failed or cancelled. With --json one object a line."""
    made = Runtime.from_env()
    position = made.ledger.last_event()
    found = made.ledger.job(job_id)
    patience = Patience(made.clock)
    while not found.state.is_final:
        with patience:
            for event in made.ledger.events(after=position, wait_seconds=2):
                position = event.id
                if event.job_id == job_id:
                    print_event(event, as_json=as_json)
            found = made.ledger.job(job_id)
    if as_json:
        click.echo(json.dumps({"type": "end", "job": found.id, "state": found.state, "completed": found.counts.completed}))
    else:
        click.echo(f"{found.id} {found.state}: {done_of(found)}")
    raise click.exceptions.Exit(exit_code(found))


@click.command()
@click.argument("action", required=False, type=click.Choice(["init"]))
@json_option
def models(action: str | None, as_json: bool) -> None:
    """List published model versions. `models init` makes the bucket and an empty repository for the model server."""
    from serving.repository import list_models, write_config

    made = Runtime.from_env()
    if action == "init":
        made.create_bucket()
        write_config(made.settings.model_base_path, server_base_path=made.settings.serving_base_path)
        if as_json:
            emit_json({"bucket": made.settings.s3_bucket, "repository": str(made.settings.model_base_path)})
        else:
            click.echo(f"bucket {made.settings.s3_bucket} and repository {made.settings.model_base_path} are there")
        return
    cards = list_models(made.store)
    if as_json:
        emit_json(cards)
        return
    table(
        ("model", "version", "picture", "classes", "data set", "steps", "created"),
        (
            (c.name, c.version, f"{c.width}×{c.height}×{c.channels}", len(c.class_names), c.dataset,
             int(c.figures.get("steps", 0)), when(c.created_at))
            for c in cards
        ),
    )  # fmt: skip


@click.command()
@json_option
def datasets(as_json: bool) -> None:
    """List data sets."""
    from aigc_core.datasets.shards import list_datasets

    cards = list_datasets(Runtime.from_env().store)
    if as_json:
        emit_json(cards)
        return
    table(
        ("data set", "pictures", "size", "classes", "fingerprint", "created"),
        (
            (c.name, c.kept_count, f"{c.size}×{c.size}×{c.channels}", len(c.class_names), c.fingerprint[:12],
             when(c.created_at))
            for c in cards
        ),
    )  # fmt: skip


def model_of(found: Job) -> str:
    """The model's name, with its version where it is pinned."""
    spec = json.loads(found.spec_json)
    return f"{spec['model']}@{spec['version']}" if "version" in spec else str(spec["model"])


def state_of(found: Job) -> str:
    """The state, with what the states alone do not say."""
    if found.stop and not found.state.is_final:
        return f"{found.state}, {found.stop}"
    if found.paused and not found.state.is_final:
        return f"{found.state}, paused"
    return f"{found.state}, waiting" if found.waiting_for and not found.state.is_final else str(found.state)


def done_of(found: Job) -> str:
    """How far a job is, in its own unit."""
    if found.kind is JobKind.TRAINING:
        steps = json.loads(found.spec_json)["steps"]
        return f"step {found.progress.get('step', 0):,} of at most {steps:,}"
    return f"{found.counts.completed:,} of {found.counts.total:,}"


def exit_code(found: Job) -> int:
    """0 for a job that made what was ordered, or some of it."""
    return 0 if found.state in (JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS) else 1


def print_event(event: Event, *, as_json: bool) -> None:
    """One line per event."""
    if as_json:
        click.echo(json.dumps({"type": event.type, "job": event.job_id, "at": event.at, **event.facts}))
    else:
        facts = "  ".join(f"{name}={value}" for name, value in event.facts.items())
        click.echo(f"{when(event.at)}  {event.type:22s} {facts}")


def follow(made: Runtime, job_id: str) -> Job:
    """Wait for a job's end behind a progress bar; the job as it ended."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    position = made.ledger.last_event()
    found = made.ledger.job(job_id)
    if found.id != job_id:
        raise NotFound(f"no job {job_id!r}")
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        shown = bar.add_task(job_id, total=1.0, done="")
        patience = Patience(made.clock)
        while True:
            said = f"waits for {found.waiting_for[:60]}" if found.waiting_for else done_of(found)
            bar.update(shown, completed=_share(found), done=said)
            if found.state.is_final:
                return found
            with patience:
                for event in made.ledger.events(after=position, wait_seconds=1):
                    position = event.id
                found = made.ledger.job(job_id)


class Patience:
    """Bears with a ledger that is away for a while: the job goes on without the one who watches it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._away_since: float | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if not isinstance(error, Unavailable):
            self._away_since = None
            return False
        now = self._clock.monotonic()
        if self._away_since is None:
            self._away_since = now
            click.echo(f"waiting: {error}", err=True)
        if now - self._away_since > PATIENCE_SECONDS:
            return False
        time.sleep(1)  # a server that is away has no event to wait for
        return True


def _share(found: Job) -> float:
    if found.state.is_final:
        return 1.0
    if found.kind is JobKind.TRAINING:
        return float(found.progress.get("share", 0.0))
    return found.counts.completed / found.counts.total
