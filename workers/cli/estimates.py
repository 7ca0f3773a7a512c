"""What `aigc generate` says beside the job: the estimate of --dry-run, and the wrong lines of a manifest."""

from collections.abc import Mapping
from dataclasses import asdict

import click

from aigc_core.errors import ManifestRefused
from aigc_core.jobs.estimate import Estimate
from aigc_core.jobs.manifest.read import Manifest
from aigc_core.storage import layout
from workers.bootstrap import Runtime
from workers.cli.output import emit_json

NOT_MEASURED = "not measured yet"


def print_estimate(found: Estimate, *, priced: bool, manifest: Manifest | None, as_json: bool) -> None:
    """Pictures, chunks, bytes, duration, cost. `priced`: a price is set."""
    if as_json:
        lines = {"wrong_lines": manifest.wrong_count, "problems": list(map(asdict, manifest.problems))} if manifest else {}
        emit_json(asdict(found) | lines)
        return
    bytes_said = NOT_MEASURED if found.payload_bytes is None else f"about {found.payload_bytes:,}"
    cost_said = f"about {_amount(found.cost)}" if found.cost is not None else NOT_MEASURED
    click.echo(f"pictures   {found.image_count:,}")
    click.echo(f"chunks     {found.chunk_count:,}")
    click.echo(f"bytes      {bytes_said}")
    click.echo(f"duration   {NOT_MEASURED if found.seconds is None else f'about {_duration(found.seconds)}'}")
    click.echo(f"cost       {cost_said if priced else 'not said: set AIGC_COST_PER_IMAGE or AIGC_COST_PER_HOUR'}")
    if found.measured_jobs:
        orders = "an earlier order" if found.measured_jobs == 1 else f"{found.measured_jobs} earlier orders"
        click.echo(f"measured   on {found.measured_images:,} pictures of {orders} of the model")
    if manifest is not None and manifest.wrong_count:
        click.echo(f"left out   {manifest.wrong_count:,} wrong lines")
    click.echo("nothing was ordered")


def print_problems(refused: ManifestRefused, *, file: str, as_json: bool) -> None:
    """One line per error on standard error; with --json all of it as one document on standard output."""
    if as_json:
        emit_json({"error": str(refused), "problem_count": refused.problem_count, "problems": _listed(refused)})
        return
    for problem in refused.problems:
        where = f"{file}:{problem.line}: {problem.field or 'line'}"
        click.echo(f"{where}: {problem.code}: {problem.text}", err=True)


def print_left_out(made: Runtime, job_id: str, manifest: Manifest) -> None:
    """Where the lines are listed that --skip-bad left out; nothing when there are none."""
    if manifest.wrong_count:
        where = made.store.uri(layout.refused_key(job_id))
        click.echo(f"left out {manifest.wrong_count:,} of {manifest.line_count:,} lines, listed in {where}", err=True)


def _listed(refused: ManifestRefused) -> list[Mapping[str, object]]:
    return [asdict(problem) for problem in refused.problems]


def _amount(cost: float) -> str:
    """Two decimals, or two digits of less than one."""
    return f"{cost:,.2f}" if cost >= 1 or not cost else f"{cost:.2g}"


def _duration(seconds: float) -> str:
    """Two units at most: 3 d 4 h, 5 min 10 s."""
    whole = max(1, round(seconds))
    for word, size, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {word} {whole % size // part} {smaller}"
    return f"{whole} s"
