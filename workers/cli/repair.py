"""Commands after something went wrong, or to see that nothing did: webhooks, recover, verify."""

from collections.abc import Iterator

import click

from aigc_core.errors import NotFound
from aigc_core.jobs.records import Job
from aigc_core.webhooks.deliveries import Delivery
from workers.bootstrap import Runtime
from workers.cli.output import emit_json, json_option, table, when


@click.command()
@click.argument("job_id")
@click.option("--replay", is_flag=True, help="Send the messages again, under the ids that they had.")
@json_option
def webhooks(job_id: str, replay: bool, as_json: bool) -> None:
    """Show what was sent when a job ended, every attempt, and what came of it."""
    from workers.queues import WEBHOOKS, publish_tick

    made = Runtime.from_env()
    if replay:
        made.deliveries.replay(job_id)
        publish_tick(WEBHOOKS)
    found = made.deliveries.of_job(job_id)
    if as_json:
        emit_json(found)
        return
    for one in found:
        due = f", next attempt {when(one.next_at)}" if one.next_at and one.state == "pending" else ""
        click.echo(f"{one.webhook_id} to {one.url}: {one.state}{due}")
    table(("message", "attempt", "at", "outcome", "status", "seconds", "answer"), _lines(found))


def _lines(found: list[Delivery]) -> Iterator[tuple[object, ...]]:
    for one in found:
        for line in one.attempts:
            row = (line.number, when(line.at), line.outcome, line.status or "–", f"{line.seconds:.2f}", line.text[:60])
            yield (one.webhook_id, *row)


@click.command()
@click.argument("job_ids", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only say what would be recovered.")
@json_option
def recover(job_ids: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Rebuild the ledger from S3 after Redis is gone: all jobs, or those named, that have no end there.

    Jobs that the ledger knows are left alone; pictures that are in S3 are not made again. Pauses, cancellations and changed
    priorities are not in S3. Exit code 1 when a job was refused.
    """
    from aigc_core.jobs import recover as recovering
    from serving.repository import published_by

    made = Runtime.from_env()
    made.ledger.ping()
    found = list(
        recovering.recover(
            ledger=made.ledger,
            store=made.store,
            is_published=lambda model, job_id: published_by(made.store, model, job_id) is not None,
            job_ids=job_ids,
            dry_run=dry_run,
        )
    )  # the reaper's next tick publishes the tickets
    if as_json:
        emit_json(found)
    else:
        rows = ((r.job_id, r.result, r.chunks_found, r.chunks_missing, f"{r.items:,}", r.reason) for r in found)
        table(("job", "would be" if dry_run else "result", "chunks found", "missing", "pictures kept", "reason"), rows)
    if any(one.result == "refused" for one in found):
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("job_id")
@click.option("--quick", is_flag=True, help="Compare names and sizes only, read no picture.")
@json_option
def verify(job_id: str, quick: bool, as_json: bool) -> None:
    """Compare a generation job's ledger, result lines, pictures and checksums; exit code 1 when something is wrong."""
    from aigc_core.generation.verify import verify as compared

    made = Runtime.from_env()
    job: Job | None
    try:
        job = made.ledger.job(job_id)
    except NotFound:
        job = None  # pruned, or Redis is new: S3 alone is judged
    done = made.ledger.done_chunks(job_id) if job else None
    report = compared(job_id, job=job, done=done, store=made.store, quick=quick)
    if as_json:
        emit_json(report)
    else:
        table(("problem", "key", "what"), ((p.code, p.key, p.text) for p in report.problems))
        known = "" if job else "; the ledger does not know the job (forgotten, or not recovered)"
        click.echo(f"{report.items:,} pictures, {report.payload_bytes:,} bytes: {report.problem_count} problems{known}")
    if report.problem_count:
        raise click.exceptions.Exit(1)
