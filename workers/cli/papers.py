"""The command that reads what a job has made: results."""

import sys
from collections.abc import Iterable

import click

from workers.bootstrap import Runtime


@click.command()
@click.argument("job_id")
@click.option("--errors", "wanted", flag_value="errors", help="What was given up, and why, instead.")
@click.option("--summary", "wanted", flag_value="summary", help="Counts that add up to the order, instead.")
def results(job_id: str, wanted: str | None) -> None:
    """Print a job's result lines, one JSON object per picture; of a running job those of the chunks that are done."""
    from aigc_core.generation.papers import Papers

    made = Runtime.from_env()
    papers = Papers(job_id, ledger=made.ledger, store=made.store)
    if wanted == "summary":
        _print([papers.summary(), b"\n"])
    else:
        _print(papers.errors() if wanted == "errors" else papers.results())


def _print(parts: Iterable[bytes]) -> None:
    for part in parts:
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()
