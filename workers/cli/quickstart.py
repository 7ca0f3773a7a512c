"""The main job once, on embedded servers: digits → data set → GAN → model server → 1,000 pictures → results."""

import time
import urllib.request
from pathlib import Path

import click

from aigc_core.datasets.ingest import ingest_dataset
from aigc_core.errors import AigcError
from aigc_core.jobs.records import Job
from aigc_core.jobs.states import JobState
from aigc_core.storage import layout
from workers.bootstrap import Runtime
from workers.cli import stack
from workers.cli.orders import print_end
from workers.cli.views import follow
from workers.producer import Producer
from workers.settings import home

IMAGE_COUNT = 1_000


@click.command()
@click.option("--minutes", type=float, help="Minutes of training at most; without it the preset's.")
def quickstart(minutes: float | None) -> None:
    """Run the main job on embedded servers and show what came out; stops what it started."""
    started = time.monotonic()
    try:
        _step(1, "starting Redis, S3, the model server and the workers on this machine")
        stack.start()
        made = Runtime.from_env()
        _step(2, "reading 1,797 handwritten digits")
        card = ingest_dataset(
            "digits", name="digits", size=32, channels=1, store=made.store, clock=made.clock, open_bucket=None
        )
        click.echo(f"    {card.in_words()}")
        _step(3, "training a GAN on them, on the training worker")
        choices = {} if minutes is None else {"minutes_max": minutes}
        producer = Producer(made)
        trained = _followed(made, producer.train(dataset="digits", model="digits", preset="quick-32", **choices))
        _step(4, f"generating {IMAGE_COUNT:,} pictures on the generation worker")
        generated = _followed(made, producer.generate(model="digits", count=IMAGE_COUNT))
        folder = _papers(made, generated, home() / "quickstart")
        seconds = time.monotonic() - started
        click.echo(
            f"\nDone in {seconds:.0f} s: trained {trained.progress.get('step', 0):,} steps, made "
            f"{generated.counts.completed:,} pictures. Look at"
        )
        for path in sorted(folder.iterdir()):
            click.echo(f"    {path}")
    finally:
        stack.stop()
    click.echo(
        "Everything was stopped again; `aigc up` starts it with this data, `aigc generate --model digits …` orders more."
    )


def _step(number: int, text: str) -> None:
    click.echo(f"[{number}/4] {text}")


def _followed(made: Runtime, job_id: str) -> Job:
    ended = follow(made, job_id)
    print_end(made, ended)
    if ended.state is not JobState.COMPLETED:
        raise AigcError(f"job {job_id} ended {ended.state}: {ended.last_error}")
    return ended


def _papers(made: Runtime, job: Job, folder: Path) -> Path:
    """Copy the job's papers out of S3 and the workers' metrics beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for key in (layout.contact_sheet_key(job.id), layout.results_key(job.id), layout.summary_key(job.id)):
        (folder / Path(key).name).write_bytes(made.store.get(key))
    pages = []
    for path in sorted((home() / "run").glob("metrics-*.json")):
        import json

        with urllib.request.urlopen(json.loads(path.read_text())["url"], timeout=5) as answer:
            pages.append(answer.read().decode())
    (folder / "metrics.txt").write_text("\n".join(pages))
    return folder
