"""From the start of a process to its end: the runtime, the logs, the scrape address. And how a ticket is worked on."""

import json
import os
from functools import cache

import structlog
from celery.signals import setup_logging, worker_ready

from aigc_core.jobs.execute import Work
from aigc_core.jobs.records import Outcome
from workers import metrics
from workers.bootstrap import Runtime
from workers.logs import configure_logs
from workers.queues import publish_tickets

log = structlog.get_logger("aigc")


@cache
def runtime() -> Runtime:
    """The runtime of this process, built at its first use."""
    return Runtime.from_env()


@setup_logging.connect
def _logs(**_: object) -> None:
    configure_logs(runtime().settings.log_level)


@worker_ready.connect
def _ready(**_: object) -> None:
    serve_metrics("worker")


def serve_metrics(role: str) -> None:
    """Open the scrape address and write it down where `aigc status` looks."""
    settings = runtime().settings
    port = metrics.serve(settings.metrics_host, settings.metrics_port)
    folder = settings.home / "run"
    if settings.home.exists():
        folder.mkdir(exist_ok=True)
        (folder / f"metrics-{os.getpid()}.json").write_text(
            json.dumps({"role": role, "pid": os.getpid(), "url": f"http://{settings.metrics_host}:{port}/metrics"})
        )
    log.info("ready", role=role, metrics_port=port)


def work_on(job_id: str, work: Work, *, queue: str, task: str) -> Outcome:
    """One ticket: execute, log, count, pass the next ticket on."""
    metrics.TASK_STARTED.labels(queue, task).inc()
    with structlog.contextvars.bound_contextvars(job=job_id):
        outcome = runtime().executor.execute(job_id, work)
        if outcome.next_ticket and outcome.kind is not None:
            publish_tickets(job_id, outcome.kind, 1)
        if outcome.result != "nothing":
            write = log.info if outcome.result in ("ok", "cancelled") else log.warning
            write(
                "chunk",
                chunk=outcome.chunk,
                attempt=outcome.attempt,
                result=outcome.result,
                error=outcome.error,
                seconds=round(outcome.seconds, 3),
            )
    metrics.observe(outcome, queue=queue, task=task)
    return outcome
