"""The main job once, on embedded servers: digits → data set → GAN → model server → 1,000 pictures → results."""

import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from aigc_core.datasets.ingest import ingest_dataset
from aigc_core.jobs.records import Job
from aigc_core.storage import layout
from workers.bootstrap import Runtime
from workers.cli import stack
from workers.cli.orders import print_end
from workers.cli.output import emit_json, json_option
from workers.cli.views import exit_code, follow
from workers.settings import home

IMAGE_COUNT = 1_000


@click.command()
@click.option("--minutes", type=float, help="Minutes of training at most; without it the preset's.")
@json_option
def quickstart(minutes: float | None, as_json: bool) -> None:
    """Run the main job on embedded servers and show what came out; stops what it started."""
    started_at = time.monotonic()
    say = partial(click.echo, err=as_json)
    say("[1/4] starting Redis, S3, the model server and the workers on this machine")
    started = stack.start()
    try:
        trained, generated = _main_job(minutes, say=say, as_json=as_json)
        folder = _papers(Runtime.from_env(), generated, home() / "quickstart")
    finally:
        stack.stop(names=started)
    seconds = time.monotonic() - started_at
    papers = sorted(str(path) for path in folder.iterdir())
    if as_json:
        emit_json({"training": trained.id, "generation": generated.id, "seconds": round(seconds), "papers": papers})
        return
    click.echo(
        f"\nDone in {seconds:.0f} s: trained {trained.progress.get('step', 0):,} steps, made "
        f"{generated.counts.completed:,} pictures. Look at"
    )
    for path in papers:
        click.echo(f"    {path}")
    click.echo(
        "What this command started is stopped again; `aigc up` starts it with this data, "
        "`aigc generate --model digits …` orders more."
    )


def _main_job(minutes: float | None, *, say: Callable[[str], None], as_json: bool) -> tuple[Job, Job]:
    """The training job and the generation job, both ended well."""
    # Celery reads its settings when it is imported, and the stack's are written by its start.
    from workers.producer import Producer

    made = Runtime.from_env()
    say("[2/4] reading 1,797 handwritten digits")
    card = ingest_dataset("digits", name="digits", size=32, channels=1, store=made.store, clock=made.clock, open_bucket=None)
    say(f"    {card.in_words()}")
    say("[3/4] training a GAN on them, on the training worker")
    choices: dict[str, Any] = {} if minutes is None else {"minutes_max": minutes}
    producer = Producer(made)
    training = producer.train(dataset="digits", model="digits", preset="quick-32", **choices)
    trained = _followed(made, training, as_json=as_json)
    say(f"[4/4] generating {IMAGE_COUNT:,} pictures on the generation worker")
    generation = producer.generate(model="digits", count=IMAGE_COUNT)
    return trained, _followed(made, generation, as_json=as_json)


def _followed(made: Runtime, job_id: str, *, as_json: bool) -> Job:
    """The job as it ended; one that ended badly ends the command, with exit code 1."""
    ended = follow(made, job_id)
    if not as_json:
        print_end(made, ended)
    if code := exit_code(ended):
        if as_json:
            emit_json(ended)
        raise click.exceptions.Exit(code)
    return ended


def _papers(made: Runtime, job: Job, folder: Path) -> Path:
    """Copy the job's papers out of S3 and the workers' metrics beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for key in (layout.contact_sheet_key(job.id), layout.results_key(job.id), layout.summary_key(job.id)):
        (folder / Path(key).name).write_bytes(made.store.get(key))
    pages = []
    for url in stack.metrics_urls():
        with urllib.request.urlopen(url, timeout=5) as answer:
            pages.append(answer.read().decode())
    (folder / "metrics.txt").write_text("\n".join(pages))
    return folder
