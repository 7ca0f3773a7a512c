"""The Celery surface of the webhooks: one tick notes what has ended and hands what is due to threads of its own.

A slow receiver costs a thread of this module and never one that works on chunks. What is in such a thread when the process
dies is claimed again by another one, under the same id.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

from aigc_core.errors import AigcError
from aigc_core.webhooks.announce import announce, deliver
from aigc_core.webhooks.deliveries import Message
from aigc_core.webhooks.post import post
from workers import metrics
from workers.celery_app import app
from workers.lifecycle import log, runtime
from workers.queues import WEBHOOKS

#: Requests at once per process. A receiver that lets every one time out takes 10 s each: 24 such messages a minute.
SENDERS = 4

_free = threading.Semaphore(SENDERS)


@app.task(name=WEBHOOKS)
def tick() -> None:
    """Note the messages of jobs that have ended, and begin to send what is due; any number may run at once."""
    made = runtime()
    try:
        announce(ledger=made.ledger, store=made.store, deliveries=made.deliveries)
        if made.settings.webhook_secret.get_secret_value():  # what is due waits for one
            _send_due()
    except AigcError as error:
        log.warning("webhooks", error=str(error))


def _send_due() -> None:
    while _free.acquire(blocking=False):
        try:
            claimed = runtime().deliveries.claim(count_max=1)
        except AigcError:
            _free.release()
            raise
        if not claimed:
            _free.release()
            return
        _senders().submit(_send, claimed[0])


def _send(message: Message) -> None:
    made = runtime()
    try:
        outcome = deliver(
            message,
            deliveries=made.deliveries,
            secret=made.settings.webhook_secret.get_secret_value(),
            post=partial(post, allow_private=made.settings.webhook_allow_private),
            clock=made.clock,
        )
        metrics.WEBHOOKS.labels(outcome).inc()
        log.info("webhook", job=message.job_id, webhook=message.webhook_id, attempt=message.attempt, outcome=outcome)
    except Exception:
        log.exception("webhook", job=message.job_id, webhook=message.webhook_id)  # claimed again when its time is over
    finally:
        _free.release()


@cache
def _senders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(SENDERS, thread_name_prefix="webhook")
