"""Commands that order work: dataset ingest, train, generate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from aigc_core.errors import InvalidSpec, ManifestRefused
from aigc_core.jobs.records import Job
from aigc_core.jobs.states import JobKind
from aigc_core.storage import layout
from workers.bootstrap import Runtime
from workers.cli.durations import Duration
from workers.cli.estimates import print_estimate, print_left_out, print_problems
from workers.cli.output import emit_json, json_option
from workers.cli.views import done_of, exit_code, follow

F = TypeVar("F", bound=Callable[..., Any])


def order_options(command: F) -> F:
    """Adds what every order can say of itself."""
    for option in reversed(
        (
            click.option("--team", help="Who orders; without it AIGC_TEAM."),
            click.option("--priority", type=int, help="0 is served first, 9 last; without it 5."),
            click.option("--background", is_flag=True, help="Only while nothing else could be worked on."),
            click.option("--start-in", type=Duration(), help="Begin after this time: 30m, 2h, 1d."),
            click.option("--deadline-in", type=Duration(), help="Wanted by then; goes before other orders of the team."),
            click.option("--expires-in", type=Duration(), help="Make nothing after this time; what was made is kept."),
            click.option("--webhook", help="URL that is told when the order has ended."),
            click.option("--idempotency-key", help="The same key of a team gives the same job."),
        )
    ):
        command = option(command)
    return command


def terms(made: Runtime, order: dict[str, Any]) -> dict[str, Any]:
    """The options of `order_options` as fields of a spec; what was not given is left to the defaults."""
    times = {"start_at": order["start_in"], "deadline_at": order["deadline_in"], "expires_at": order["expires_in"]}
    given = {name: made.clock.now() + seconds for name, seconds in times.items() if seconds is not None}
    given |= {name: order[name] for name in ("team", "priority", "webhook", "idempotency_key") if order[name] is not None}
    return given | ({"lane": "background"} if order["background"] else {})


@click.group()
def dataset() -> None:
    """Work with data sets."""


@dataset.command()
@click.argument("source")
@click.option("--name", required=True, help="Name of the data set.")
@click.option("--size", required=True, type=int, help="Pixels, width and height.")
@click.option("--channels", default=3, type=int, help="1 grey, 3 colour.")
@json_option
def ingest(source: str, name: str, size: int, channels: int, as_json: bool) -> None:
    """Clean the pictures of SOURCE (a folder, s3://bucket/prefix, or `digits`) and store them as a data set."""
    from rich.console import Console
    from rich.progress import Progress

    from aigc_core.datasets.ingest import ingest_dataset

    made = Runtime.from_env()
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task("reading pictures", total=None)
        card = ingest_dataset(
            source,
            name=name,
            size=size,
            channels=channels,
            store=made.store,
            clock=made.clock,
            open_bucket=made.bucket,
            on_progress=lambda done, total: bar.update(shown, completed=done, total=total),
        )
    if as_json:
        emit_json(card)
        return
    click.echo(card.in_words())
    click.echo(made.store.uri(layout.dataset_card_key(card.name)))


@click.command()
@click.option("--dataset", "dataset_name", required=True, help="Name of an ingested data set.")
@click.option("--model", required=True, help="Name under which versions are published.")
@click.option("--preset", help="Network and recipe; without it, the one for the data set's size.")
@click.option("--steps", type=int, help="Steps at most.")
@click.option("--minutes", type=float, help="Minutes of training at most.")
@click.option("--seed", type=int, help="Seed of the run.")
@order_options
@click.option("--wait", is_flag=True, help="Wait for the end.")
@json_option
def train(
    dataset_name: str,
    model: str,
    preset: str | None,
    steps: int | None,
    minutes: float | None,
    seed: int | None,
    wait: bool,
    as_json: bool,
    **order: Any,
) -> None:
    """Train a model on a data set and publish it as a new version."""
    from workers.producer import Producer

    made = Runtime.from_env()
    choices = {"steps": steps, "minutes_max": minutes, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in choices.items() if value is not None}
    job_id = Producer(made).train(dataset=dataset_name, model=model, preset=preset, **given, **terms(made, order))
    _report(made, job_id, wait=wait, as_json=as_json)


@click.command()
@click.option("--model", required=True, help="NAME, or NAME@VERSION.")
@click.option("--count", type=int, help="Pictures.")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="Instead of --count, --seed and --classes: a .csv (header line: seed,class,id,format) or .jsonl with a picture a "
    "line, or a matrix of classes, seeds and formats as .json or .yaml. Lines count from 1, the header's too.",
)
@click.option("--skip-bad", is_flag=True, help="Leave wrong lines of the manifest out instead of refusing all of it.")
@click.option("--dry-run", is_flag=True, help="Check the order and say what it would come to; order nothing.")
@click.option("--seed", type=int, help="Seed of the first picture, else 0; the next has the next seed.")
@click.option("--classes", default="", help="Class names, comma separated, repeated in turn; without it all.")
@click.option("--format", "image_format", default="png", help="png, jpeg or webp.")
@click.option("--packing", default="objects", help="objects: one per picture; tar: one WebDataset shard per chunk.")
@order_options
@click.option("--wait", is_flag=True, help="Wait for the end.")
@json_option
def generate(
    model: str,
    count: int | None,
    manifest: Path | None,
    skip_bad: bool,
    dry_run: bool,
    seed: int | None,
    classes: str,
    image_format: str,
    packing: str,
    wait: bool,
    as_json: bool,
    **order: Any,
) -> None:
    """Order generated pictures."""
    made = Runtime.from_env()
    name, at, version = model.partition("@")
    if at and not version.isdigit():
        raise InvalidSpec(f"model {model!r}: expected NAME or NAME@VERSION with a whole number")
    _check_choice(count=count, manifest=manifest, in_lines=seed is not None or bool(classes), skip_bad=skip_bad)
    choices = {"model": name, "version": int(version) if at else None, "image_format": image_format, "packing": packing}
    choices |= terms(made, order)
    if manifest is not None:
        job_id = _by_manifest(made, manifest, choices, skip_bad=skip_bad, dry_run=dry_run, as_json=as_json)
    else:
        named = tuple(part.strip() for part in classes.split(",") if part.strip())
        plain = choices | {"count": count, "seed": seed or 0, "classes": named}
        job_id = _by_count(made, plain, dry_run=dry_run, as_json=as_json)
    if job_id:
        _report(made, job_id, wait=wait, as_json=as_json)


def _check_choice(*, count: int | None, manifest: Path | None, in_lines: bool, skip_bad: bool) -> None:
    """`InvalidSpec` for options that do not go together. `in_lines`: something is given that a manifest has in its lines."""
    if (count is None) == (manifest is None):
        raise InvalidSpec("how many pictures: expected either --count or --manifest")
    if manifest is not None and in_lines:
        raise InvalidSpec("--seed and --classes: the lines of a manifest have them; leave them out")
    if manifest is None and skip_bad:
        raise InvalidSpec("--skip-bad: only a manifest has lines to leave out")


def _by_count(made: Runtime, choices: dict[str, Any], *, dry_run: bool, as_json: bool) -> str:
    """The id of the job; empty after a dry run."""
    from workers.producer import Producer

    producer = Producer(made)
    if not dry_run:
        return producer.generate(**choices)
    choices.pop("idempotency_key", None)
    priced = bool(made.settings.cost_per_image or made.settings.cost_per_hour)
    print_estimate(producer.estimate(producer.specify(**choices)), priced=priced, manifest=None, as_json=as_json)
    return ""


def _by_manifest(made: Runtime, path: Path, choices: dict[str, Any], *, skip_bad: bool, dry_run: bool, as_json: bool) -> str:
    """As `_by_count`; wrong lines are told before the error goes on."""
    from workers.producer import Producer

    producer, key = Producer(made), choices.pop("idempotency_key", None)
    try:
        with producer.specify_manifest(path, skip_bad=skip_bad, **choices) as (spec, manifest):
            if not dry_run:
                job_id = producer.order_manifest(spec, manifest, idempotency_key=key)
                print_left_out(made, job_id, manifest)
                return job_id
            priced = bool(made.settings.cost_per_image or made.settings.cost_per_hour)
            found = producer.estimate(spec, formats=manifest.formats)
            print_estimate(found, priced=priced, manifest=manifest, as_json=as_json)
    except ManifestRefused as refused:
        print_problems(refused, file=str(path), as_json=as_json)
        raise
    return ""


def _report(made: Runtime, job_id: str, *, wait: bool, as_json: bool) -> None:
    if not wait:
        if as_json:
            emit_json({"id": job_id})
        else:
            click.echo(f"{job_id} accepted; `aigc watch {job_id}` follows it")
        return
    found = made.ledger.job(job_id) if made.ledger.job(job_id).state.is_final else follow(made, job_id)
    if as_json:
        emit_json(found)
    else:
        print_end(made, found)
    raise click.exceptions.Exit(exit_code(found))


def print_end(made: Runtime, found: Job) -> None:
    """How a job ended and where its papers are."""
    click.echo(f"{found.id} {found.state}: {done_of(found)}")
    if found.last_error:
        click.echo(f"last error: {found.last_error}")
    if found.kind is JobKind.GENERATION:
        for name, key in (
            ("results", layout.results_key(found.id)),
            ("summary", layout.summary_key(found.id)),
            ("contact sheet", layout.contact_sheet_key(found.id)),
        ):
            click.echo(f"  {name:14s}{made.store.uri(key)}")
    else:
        click.echo(f"  {'run':14s}{made.store.uri(layout.training_prefix(found.id))}")
