"""From the start of a process to its end: the runtime, the logs, the scrape address. And how a ticket is worked on."""

import json
import os
from contextlib import suppress
from functools import cache

import structlog
from celery.signals import setup_logging, worker_ready

from aigc_core import failpoints
from aigc_core.errors import AigcError, Unavailable
from aigc_core.jobs.execute import Heartbeat, Work
from aigc_core.jobs.records import FINALISE, ChunkReport, Lease, Outcome
from aigc_core.jobs.states import JobKind
from workers import metrics
from workers.bootstrap import Runtime
from workers.in_work import InWork, StoppableHeartbeat
from workers.logs import configure_logs
from workers.queues import WEBHOOKS, publish_tick, publish_tickets

log = structlog.get_logger("aigc")


@cache
def runtime() -> Runtime:
    """The runtime of this process, built at its first use."""
    return Runtime.from_env()


@cache
def in_work() -> InWork:
    """What this process works on."""
    return InWork(runtime().clock)


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


def work_on(kind: JobKind, work: Work, *, task: str) -> Outcome | None:
    """One ticket: execute, log, count, pass the next ticket on. None when the ledger is away: a ticket is lost, no work."""
    queue = str(kind)
    metrics.TASK_STARTED.labels(queue, task).inc()
    try:
        outcome = runtime().executor.execute(kind, _logged(work))
    except Unavailable as error:
        log.warning("claim", error=str(error))
        return None
    if outcome.more:
        failpoints.hit("before_next_ticket")
        with suppress(Unavailable):  # the reaper publishes it then
            publish_tickets(kind, 1)
        failpoints.hit("after_next_ticket")
    if outcome.chunk == FINALISE or (outcome.kind is JobKind.TRAINING and outcome.job_id):
        with suppress(Unavailable):  # beat's next tick tells of the end then
            publish_tick(WEBHOOKS)
    if outcome.result not in ("nothing", "draining"):
        write = log.info if outcome.result in ("ok", "cancelled") else log.warning
        write(
            "chunk",
            job=outcome.job_id,
            chunk=outcome.chunk,
            attempt=outcome.attempt,
            result=outcome.result,
            error=outcome.error,
            seconds=round(outcome.seconds, 3),
        )
    metrics.observe(outcome, queue=queue, task=task)
    return outcome


def _logged(work: Work) -> Work:
    """The work with job, chunk and attempt on every line that it logs, and with the trace of an error of no known class."""

    def run(lease: Lease, heartbeat: Heartbeat) -> ChunkReport:
        with structlog.contextvars.bound_contextvars(job=lease.job_id, chunk=lease.chunk, attempt=lease.attempt):
            try:
                with in_work().lease(lease):
                    return work(lease, StoppableHeartbeat(heartbeat, in_work()))
            except AigcError:
                raise
            except Exception:
                log.exception("unexpected")
                raise

    return run
