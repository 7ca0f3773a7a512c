"""The Celery surface of a generation worker: a ticket in, one chunk (or a job's finalising) done."""

from functools import cache

from aigc_core.generation.finalise import finalise
from aigc_core.generation.run_chunk import ChunkRunner
from aigc_core.jobs.execute import Heartbeat
from aigc_core.jobs.records import FINALISE, ChunkReport, Lease
from aigc_core.jobs.states import JobKind
from workers.celery_app import app
from workers.lifecycle import runtime, work_on
from workers.queues import WORK_GENERATION


@app.task(name=WORK_GENERATION)
def work() -> None:
    """Work on what is next if there is anything; safe to deliver any number of times."""
    work_on(JobKind.GENERATION, run, task="generate")


def run(lease: Lease, heartbeat: Heartbeat) -> ChunkReport:
    """What a lease of a generation job asks for."""
    if lease.chunk == FINALISE:
        made = runtime()
        job = made.ledger.job(lease.job_id)
        return finalise(job, ledger=made.ledger, store=made.store, clock=made.clock, check=heartbeat.check)
    return _runner().run(lease, heartbeat)


@cache
def _runner() -> ChunkRunner:
    made = runtime()
    return ChunkRunner(predictor=made.predictor, store=made.store, clock=made.clock, threads=made.threads)
