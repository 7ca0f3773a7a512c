"""The beat table, and the one process that samples the queues: what beat's scrape address shows is read at the scrape."""

from collections.abc import Iterator

from celery.signals import beat_init
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from aigc_core.errors import Unavailable
from workers import metrics
from workers.celery_app import app
from workers.lifecycle import runtime, serve_metrics
from workers.queues import MAINTENANCE, PRUNE, REAP, RETRAIN, WEBHOOKS, queued_messages
from workers.watchdog import watch_beat

#: Between two looks whether a model is due for retraining.
RETRAIN_TICK_SECONDS = 60.0


def beat_table() -> dict[str, dict[str, object]]:
    """What beat sends. A tick that nobody took within its interval is worth nothing: it expires."""
    settings = runtime().settings
    interval = settings.reap_interval_seconds
    table: dict[str, dict[str, object]] = {
        "reap": {"task": REAP, "schedule": interval, "options": {"queue": MAINTENANCE, "expires": max(interval, 1.0)}}
    }
    table["webhooks"] = {"task": WEBHOOKS, "schedule": interval, "options": table["reap"]["options"]}
    if settings.keep_jobs_days:
        table["prune"] = {"task": PRUNE, "schedule": 3600.0, "options": {"queue": MAINTENANCE, "expires": 3600.0}}
    if settings.retrain_every_hours:
        # A tick far more often than the slots: beat counts from its start, and one that is restarted every hour would never
        # come to a tick once a day. The task orders once per slot.
        table["retrain"] = {
            "task": RETRAIN,
            "schedule": RETRAIN_TICK_SECONDS,
            "args": [settings.retrain_every_hours * 3600],
            "options": {"queue": MAINTENANCE, "expires": RETRAIN_TICK_SECONDS},
        }
    return table


class QueueSampler(Collector):
    """Depths and jobs, read when somebody scrapes: O(queues), never a scan of messages."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        messages = GaugeMetricFamily("aigc_queue_messages", "Messages in the broker.", labels=["queue", "state"])
        jobs = GaugeMetricFamily("aigc_jobs", "Jobs that are not final.", labels=["kind", "state"])
        connected = GaugeMetricFamily("aigc_broker_connected", "1 while Redis answers.")
        at = GaugeMetricFamily("aigc_queue_sample_timestamp_seconds", "When this sample was taken.")
        try:
            for queue, count in queued_messages().items():
                messages.add_metric([queue, "ready"], count)
            for (kind, state), count in runtime().ledger.live_job_counts().items():
                jobs.add_metric(["generate" if kind == "generation" else "train", state], count)
            connected.add_metric([], 1)
            at.add_metric([], runtime().clock.now())
        except (Unavailable, OSError):
            connected.add_metric([], 0)
        yield from (messages, jobs, connected, at)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: the names are known at the first scrape, and registering must not read Redis."""
        return iter(())


@beat_init.connect
def _begin(**_: object) -> None:
    metrics.REGISTRY.register(QueueSampler())
    serve_metrics("beat")
    watch_beat(runtime().settings.reap_interval_seconds)


app.conf.beat_schedule = beat_table()
