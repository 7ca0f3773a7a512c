"""Repairs and schedules: plain functions behind the tasks that beat sends. Any number of them may run at once."""

from aigc_core import failpoints
from aigc_core.errors import AigcError, AlreadyOrdered
from aigc_core.jobs.ledger import Ledger
from aigc_core.jobs.records import Repair
from workers import metrics
from workers.bootstrap import Runtime
from workers.celery_app import app
from workers.lifecycle import log, runtime
from workers.producer import Producer
from workers.queues import PRUNE, REAP, RETRAIN, top_up_tickets

#: Steps of the retention per tick: 200 jobs each, so that a tick ends also where years of jobs are to be forgotten.
PRUNE_PASSES_MAX = 100

#: The last slot for which this process knows of a retraining: it need not ask again every minute.
_ordered: set[int] = set()


@app.task(name=REAP)
def reap() -> None:
    """One pass of the reaper."""
    reap_once()


@app.task(name=RETRAIN)
def retrain(slot_seconds: float) -> None:
    """Order the retraining of this slot of the schedule, if nobody has."""
    slot = int(runtime().clock.now() // slot_seconds)
    if slot not in _ordered and retrain_once(runtime(), slot):
        _ordered.clear()
        _ordered.add(slot)


def retrain_once(made: Runtime, slot: int) -> bool:
    """Train the configured model on the newest state of its data set; whether there is a run for this slot now.

    The slot is the order's idempotency key: two beats or a clock jump give one run, and a tick that failed is repeated.
    """
    settings = made.settings
    try:
        job_id = Producer(made).train(
            dataset=settings.retrain_dataset,
            model=settings.retrain_model,
            preset=settings.retrain_preset,
            idempotency_key=f"retrain-{settings.retrain_model}-{slot}",
        )
    except AlreadyOrdered:  # by another process, on an earlier state of the data set
        return True
    except AigcError as error:
        log.error("retrain", error=str(error), slot=slot)
        return False
    log.info("retrain", job=job_id, slot=slot)
    return True


@app.task(name=PRUNE)
def prune() -> None:
    """Forget jobs that ended longer ago than AIGC_KEEP_JOBS_DAYS; S3 keeps them."""
    made = runtime()
    forgotten = prune_once(made.ledger, keep_days=made.settings.keep_jobs_days)
    if forgotten:
        log.info("pruned", jobs=forgotten)


def prune_once(ledger: Ledger, *, keep_days: float, passes_max: int = PRUNE_PASSES_MAX) -> int:
    """Forget old jobs in steps of a few milliseconds each, so many at most; how many jobs. 0 days: nothing."""
    forgotten = 0
    for _ in range(passes_max if keep_days else 0):
        found = len(ledger.prune(keep_seconds=keep_days * 86_400))
        if not found:
            break
        forgotten += found
    return forgotten


def reap_once() -> Repair:
    """Take expired leases back, end what has expired, and see that there are tickets for all that can be claimed."""
    repair = runtime().ledger.reap()
    failpoints.hit("after_reap")
    for kind, claimable in repair.claimable.items():
        if claimable:
            top_up_tickets(kind, claimable)
    failpoints.hit("after_reap_tickets")
    metrics.observe_repair(repair)
    if repair.expired or repair.jobs_expired:
        log.info("reaped", expired=repair.expired, jobs_expired=repair.jobs_expired)
    return repair
