"""Repairs and schedules: plain functions behind the tasks that beat sends. Any number of them may run at once."""

from aigc_core.errors import AigcError
from aigc_core.jobs.records import Repair
from workers import metrics
from workers.celery_app import app
from workers.lifecycle import log, runtime
from workers.producer import Producer
from workers.queues import REAP, RETRAIN, top_up_tickets


@app.task(name=REAP)
def reap() -> None:
    """One pass of the reaper."""
    reap_once()


@app.task(name=RETRAIN)
def retrain(slot_seconds: float) -> None:
    """Train the configured model on the newest state of its data set, once per slot of the schedule.

    The slot is the order's idempotency key: two beats or a clock jump give one run, and a tick that failed can be repeated.
    """
    made = runtime()
    settings = made.settings
    slot = str(int(made.clock.now() // slot_seconds))
    try:
        job_id = Producer(made).train(
            dataset=settings.retrain_dataset,
            model=settings.retrain_model,
            preset=settings.retrain_preset,
            idempotency_key=f"retrain-{settings.retrain_model}-{slot}",
        )
        log.info("retrain", job=job_id, slot=slot)
    except AigcError as error:
        log.error("retrain", error=str(error), slot=slot)


def reap_once() -> Repair:
    """Take expired leases back, end what has expired, and see that there are tickets for all that can be claimed."""
    repair = runtime().ledger.reap()
    for kind, claimable in repair.claimable.items():
        if claimable:
            top_up_tickets(kind, claimable)
    metrics.observe_repair(repair)
    if repair.expired or repair.jobs_expired:
        log.info("reaped", expired=repair.expired, jobs_expired=repair.jobs_expired)
    return repair
