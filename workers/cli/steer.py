"""Commands of operations: cancel, pause, resume, priority, retry, dead, drain, workers, team, teams, audit.

Every one of them is a move of the ledger: it survives restarts, and leaves an entry in the audit record.
"""

import getpass
import os
import socket
from collections import Counter
from dataclasses import replace

import click

from aigc_core.errors import NotFound
from aigc_core.jobs.records import By, DeadLetter, Job, TeamLimits
from workers.bootstrap import Runtime
from workers.cli.output import emit_json, json_option, table, when
from workers.cli.views import state_of

why_option = click.option("--why", default="", help="The reason, for the audit record.")


def by(made: Runtime, why: str) -> By:
    """Who calls."""
    if made.settings.actor:
        return By(who=made.settings.actor, why=why)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user of a container that has no name
        user = str(os.getuid())
    return By(who=f"{user}@{socket.gethostname()}", why=why)


@click.command()
@click.argument("job_id")
@click.option("--soft", is_flag=True, help="Finish the chunks in work first.")
@why_option
@json_option
def cancel(job_id: str, soft: bool, why: str, as_json: bool) -> None:
    """End a job early; what was made is kept and listed in its results."""
    from workers.producer import Producer

    made = Runtime.from_env()
    found = Producer(made).cancel(job_id, by=by(made, why), hard=not soft)
    said = _unless_ended(found, f"is being cancelled; `aigc job {found.id}` says when it is over")
    _print_job(found, said, as_json=as_json)


@click.command()
@click.argument("job_id")
@why_option
@json_option
def pause(job_id: str, why: str, as_json: bool) -> None:
    """Hand out no more chunks of a job; those in work are finished."""
    from workers.producer import Producer

    made = Runtime.from_env()
    found = Producer(made).pause(job_id, by=by(made, why))
    said = _unless_ended(found, f"is paused; `aigc resume {found.id}` lets it go on")
    _print_job(found, said, as_json=as_json)


@click.command()
@click.argument("job_id")
@why_option
@json_option
def resume(job_id: str, why: str, as_json: bool) -> None:
    """Let a paused job go on."""
    from workers.producer import Producer

    made = Runtime.from_env()
    found = Producer(made).resume(job_id, by=by(made, why))
    _print_job(found, f"is {state_of(found)}", as_json=as_json)


@click.command()
@click.argument("job_id")
@click.argument("value", type=int)
@why_option
@json_option
def priority(job_id: str, value: int, why: str, as_json: bool) -> None:
    """Move a job in its team's line: 0 is served first, 9 last."""
    from workers.producer import Producer

    made = Runtime.from_env()
    found = Producer(made).prioritise(job_id, value, by=by(made, why))
    _print_job(found, f"has priority {found.priority}", as_json=as_json)


@click.command()
@click.argument("job_id")
@click.option("--fingerprint", default="", help="Only failures of this kind; `aigc dead` lists them.")
@click.option("--rate", default=0.0, type=click.FloatRange(0, 1e6), help="Chunks per second at most; 0: all at once.")
@click.option("--dry-run", is_flag=True, help="Say what would be made again.")
@why_option
@json_option
def retry(job_id: str, fingerprint: str, rate: float, dry_run: bool, why: str, as_json: bool) -> None:
    """Make again what a job gave up; what it made stays as it is."""
    from workers.producer import Producer

    made = Runtime.from_env()
    options = {"fingerprint": fingerprint, "chunks_per_second": rate, "dry_run": dry_run}
    retried = Producer(made).retry(job_id, by=by(made, why), **options)  # type: ignore[arg-type]
    if as_json:
        emit_json(retried)
    elif not retried.chunks and retried.more:
        click.echo(f"the papers of {job_id} are put together again")
    else:
        verb = "would be made" if dry_run else "are made"
        click.echo(f"{retried.items:,} pictures in {retried.chunks:,} chunks of {job_id} {verb} again")


@click.command()
@click.argument("job_id", required=False, default="")
@json_option
def dead(job_id: str, as_json: bool) -> None:
    """List what was given up, of one job or of all, by kind of failure."""
    letters = Runtime.from_env().ledger.dead_letters(job_id)
    groups = grouped(letters)
    if as_json:
        emit_json(groups)
        return
    table(
        ("fingerprint", "chunks", "jobs", "reason of the first"),
        ((g["fingerprint"], g["chunks"], len(g["jobs"]), g["reason"][:120]) for g in groups),  # type: ignore[arg-type, index]
    )


def grouped(letters: list[DeadLetter]) -> list[dict[str, object]]:
    """Dead letters by fingerprint, the most frequent first."""
    counts = Counter(letter.fingerprint for letter in letters)
    groups: list[dict[str, object]] = []
    for fingerprint, count in counts.most_common():
        of_kind = [letter for letter in letters if letter.fingerprint == fingerprint]
        jobs = sorted({letter.job_id for letter in of_kind})
        groups.append({"fingerprint": fingerprint, "chunks": count, "jobs": jobs, "reason": of_kind[0].reason})
    return groups


@click.command()
@click.argument("worker")
@click.option("--undo", is_flag=True, help="Give it work again.")
@why_option
@json_option
def drain(worker: str, undo: bool, why: str, as_json: bool) -> None:
    """Give a worker nothing new; `aigc workers` lists them."""
    made = Runtime.from_env()
    if worker not in made.ledger.workers():
        raise NotFound(f"no worker {worker!r} has asked for work; `aigc workers` lists them")
    made.ledger.drain(worker, by(made, why), draining=not undo)
    if as_json:
        emit_json({"worker": worker, "draining": not undo})
        return
    click.echo(f"{worker} {'takes work again' if undo else 'gets nothing new; what it works on is finished'}")


@click.command()
@json_option
def workers(as_json: bool) -> None:
    """List the workers that asked for work during the last day."""
    found = Runtime.from_env().ledger.workers()
    if as_json:
        emit_json([{"worker": name, "asked_at": at, "draining": draining} for name, (at, draining) in sorted(found.items())])
    else:
        rows = ((name, when(at), "yes" if draining else "no") for name, (at, draining) in sorted(found.items()))
        table(("worker", "last asked", "draining"), rows)


@click.command()
@click.argument("name")
@click.option("--weight", type=float, help="Share of the pictures while several teams wait.")
@click.option("--queued-max", type=int, help="Pictures waiting or in work; 0: no limit.")
@click.option("--running-max", type=int, help="Chunks in work at once; 0: no limit.")
@why_option
@json_option
def team(name: str, why: str, as_json: bool, **given: float | None) -> None:
    """Set what a team gets; what is not given stays as it is."""
    made = Runtime.from_env()
    known = {team.name: team.limits for team in made.ledger.teams()}
    limits = replace(known.get(name, TeamLimits()), **{field: value for field, value in given.items() if value is not None})  # type: ignore[arg-type]
    made.ledger.set_team(name, limits, by(made, why))
    if as_json:
        emit_json(limits)
        return
    queued, running = _limit(limits.queued_max), _limit(limits.running_max)
    click.echo(f"team {name}: weight {limits.weight:g}, waiting at most {queued}, chunks at once {running}")


@click.command()
@json_option
def teams(as_json: bool) -> None:
    """List the teams: their shares, their limits, what they have waiting."""
    found = Runtime.from_env().ledger.teams()
    if as_json:
        emit_json(found)
        return
    rows = (
        (
            t.name,
            t.limits.weight,
            f"{t.queued:,}",
            _limit(t.limits.queued_max),
            sum(t.running.values()),
            _limit(t.limits.running_max),
        )
        for t in found
    )
    table(("team", "weight", "waiting", "at most", "chunks in work", "at most"), rows)


def _limit(value: int) -> str:
    return f"{value:,}" if value else "∞"


@click.command()
@click.option("--count", default=20, type=click.IntRange(1, 10_000), help="Entries at most, newest first.")
@json_option
def audit(count: int, as_json: bool) -> None:
    """List who steered what, and why."""
    entries = Runtime.from_env().ledger.audit_trail(count_max=count)
    if as_json:
        emit_json(entries)
        return
    table(
        ("at", "who", "move", "subject", "before", "after", "why"),
        ((when(e.at), e.by.who, e.move, e.subject, e.before, e.after, e.by.why) for e in entries),
    )


def _unless_ended(found: Job, said: str) -> str:
    return f"had already ended: {found.state}" if found.state.is_final else said


def _print_job(found: Job, said: str, *, as_json: bool) -> None:
    if as_json:
        emit_json(found)
    else:
        click.echo(f"{found.id} {said}")
