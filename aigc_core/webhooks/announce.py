"""From a job that has ended to a delivered message. Both steps may die anywhere and be done again: the id stays the same."""

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

from aigc_core.clock import Clock
from aigc_core.jobs.ledger import Ledger
from aigc_core.jobs.records import Job
from aigc_core.jobs.states import JobKind
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore
from aigc_core.webhooks.deliveries import Deliveries, Message
from aigc_core.webhooks.post import Answer
from aigc_core.webhooks.sign import headers_of

#: Sends a body with headers to a URL.
Post = Callable[[str, bytes, dict[str, str]], Answer]

#: Jobs per pass.
PASS_MAX = 200


def announce(*, ledger: Ledger, store: ObjectStore, deliveries: Deliveries) -> int:
    """Note a message for every job that has ended since, and how a training ended in S3; how many jobs.

    A training has no finalising that writes its summary, and a ledger that is rebuilt must know that it is over.
    """
    ended = ledger.unannounced(count_max=PASS_MAX)
    for job in ended:
        if job.kind is JobKind.TRAINING:
            text = json.dumps(facts_of(job, store), indent=1)
            store.put(layout.summary_key(job.id), text.encode(), content_type="application/json")
        url = json.loads(job.spec_json).get("webhook", "")
        if url:
            deliveries.enqueue(webhook_id_of(job), job_id=job.id, url=url, body=body_of(job, store))
        ledger.announced(job)
    return len(ended)


def deliver(message: Message, *, deliveries: Deliveries, secret: str, post: Post, clock: Clock) -> str:
    """One attempt; what came of it in a word."""
    headers = headers_of(secret, message.webhook_id, timestamp=int(clock.now()), body=message.body)
    started = clock.monotonic()
    answer = post(message.url, message.body, headers)
    return deliveries.record(message, answer, seconds=clock.monotonic() - started, jitter=random.random())


def webhook_id_of(job: Job) -> str:
    """One id per end: a job that was retried ends again, and says so in another message."""
    return f"msg_{job.id}_{int((job.finished_at or 0) * 1000)}"


def body_of(job: Job, store: ObjectStore) -> bytes:
    """What the receiver reads: type, time, and the facts of the job."""
    at = datetime.fromtimestamp(job.finished_at or 0, UTC).isoformat(timespec="milliseconds")
    message = {"type": f"job.{job.state}", "timestamp": at, "data": facts_of(job, store)}
    return json.dumps(message, separators=(",", ":")).encode()


def facts_of(job: Job, store: ObjectStore) -> dict[str, object]:
    """How a job ended, and where its papers are."""
    spec = json.loads(job.spec_json)
    facts: dict[str, object] = {
        "job": job.id,
        "kind": job.kind,
        "team": job.team,
        "model": spec["model"],
        "state": job.state,
        "stop": job.stop,
        "last_error": job.last_error,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "summary": store.uri(layout.summary_key(job.id)),
    }
    if job.kind is JobKind.TRAINING:
        return facts
    papers = {"results": store.uri(layout.results_key(job.id)), "errors": store.uri(layout.errors_key(job.id))}
    return facts | {"version": spec["version"], "counts": asdict(job.counts)} | papers
