"""Repairs and schedules: plain functions behind the tasks that beat sends. Any number of them may run at once."""

from aigc_core.errors import AigcError
from aigc_core.jobs.records import Repair
from workers.celery_app import app
from workers.lifecycle import log, runtime
from workers.producer import Producer
from workers.queues import REAP, RETRAIN, publish_tickets, queued_messages


@app.task(name=REAP)
def reap() -> None:
    """One pass of the reaper."""
    reap_once()


@app.task(name=RETRAIN)
def retrain(slot_seconds: float) -> None:
    """Train the configured model on the newest state of its data set, once per slot of the schedule."""
    made = runtime()
    settings = made.settings
    slot = str(int(made.clock.now() // slot_seconds))
    if not made.ledger.claim_slot("retrain", slot):
        return
    try:
        job_id = Producer(made).train(
            dataset=settings.retrain_dataset, model=settings.retrain_model, preset=settings.retrain_preset
        )
        log.info("retrain", job=job_id, slot=slot)
    except AigcError as error:
        log.error("retrain", error=str(error), slot=slot)


def reap_once() -> Repair:
    """Take expired leases back, find lost tickets and publish them again."""
    repair = runtime().ledger.reap(queued=queued_messages())
    for job_id, count in repair.tickets.items():
        publish_tickets(job_id, repair.kinds[job_id], count)
    if repair.expired or repair.tickets:
        log.info("reaped", expired=repair.expired, tickets=repair.tickets)
    return repair
