"""Every Prometheus metric of the workers, and how facts become counts. Labels come from small closed sets, never job ids."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from aigc_core.jobs.records import Outcome, Repair
from aigc_core.jobs.states import JobKind

disable_created_metrics()

REGISTRY = CollectorRegistry(auto_describe=True)

REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
RUN_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
WAIT_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)

TASK_STARTED = Counter("aigc_task_started_total", "Tickets taken up.", ["queue", "task"], registry=REGISTRY)
TASK_FINISHED = Counter(
    "aigc_task_finished_total", "Tickets ended, by what came of them.", ["queue", "task", "outcome"], registry=REGISTRY
)
TASK_FAILURES = Counter("aigc_task_failures_total", "Failed attempts.", ["queue", "task", "cause"], registry=REGISTRY)
TASK_RUNTIME = Histogram(
    "aigc_task_runtime_seconds", "Time in a chunk.", ["queue", "task"], buckets=RUN_SECONDS, registry=REGISTRY
)
TASK_WAIT = Histogram(
    "aigc_task_wait_seconds", "From submit to a job's first claim.", ["queue"], buckets=WAIT_SECONDS, registry=REGISTRY
)
LEASES_EXPIRED = Counter("aigc_leases_expired_total", "Leases whose worker vanished.", registry=REGISTRY)
CHUNK_STEP = Counter("aigc_chunk_step_seconds_total", "Time in a chunk's steps.", ["step"], registry=REGISTRY)
IMAGES = Counter("aigc_images_total", "Pictures, by what became of them.", ["model", "outcome"], registry=REGISTRY)
IMAGE_BYTES = Counter("aigc_image_bytes_total", "Bytes of stored pictures.", ["model"], registry=REGISTRY)
SERVING_REQUESTS = Counter(
    "aigc_serving_requests_total", "Predict requests.", ["model", "version", "code"], registry=REGISTRY
)
SERVING_SECONDS = Histogram(
    "aigc_serving_request_duration_seconds",
    "Predict requests.",
    ["model", "version"],
    buckets=REQUEST_SECONDS,
    registry=REGISTRY,
)
SERVING_BATCH = Histogram(
    "aigc_serving_batch_images",
    "Pictures per request.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
    registry=REGISTRY,
)
S3_REQUESTS = Counter("aigc_s3_requests_total", "S3 requests.", ["op", "code_class"], registry=REGISTRY)
S3_SECONDS = Histogram(
    "aigc_s3_request_duration_seconds", "S3 requests.", ["op"], buckets=REQUEST_SECONDS[1:], registry=REGISTRY
)
S3_BYTES = Counter("aigc_s3_bytes_total", "Bytes moved.", ["direction"], registry=REGISTRY)
TRAINING_RATE = Gauge("aigc_training_images_per_second", "Of the running training.", ["model"], registry=REGISTRY)
TRAINING_G = Gauge("aigc_training_generator_loss", "Of the running training.", ["model"], registry=REGISTRY)
TRAINING_D = Gauge("aigc_training_discriminator_loss", "Of the running training.", ["model"], registry=REGISTRY)
TRAINING_SECONDS = Histogram(
    "aigc_training_duration_seconds",
    "One attempt.",
    ["outcome"],
    buckets=(60, 300, 600, 1800, 3600, 7200, 14400, 28800, 86400),
    registry=REGISTRY,
)
EXPORTS = Counter("aigc_export_total", "Exports.", ["model", "outcome"], registry=REGISTRY)

WEBHOOKS = Counter("aigc_webhooks_total", "Attempts to deliver a webhook.", ["outcome"], registry=REGISTRY)

#: The outcomes of the executor that are outcomes of a task: no claim, no task.
OUTCOMES = frozenset({"ok", "failed", "retried", "cancelled", "lost", "snoozed"})


def observe(outcome: Outcome, *, queue: str, task: str) -> None:
    """Count one ticket's outcome."""
    if outcome.result not in OUTCOMES:
        return
    TASK_FINISHED.labels(queue, task, outcome.result).inc()
    TASK_RUNTIME.labels(queue, task).observe(outcome.seconds)
    if outcome.attempt == 1 and outcome.waited_seconds:
        TASK_WAIT.labels(queue).observe(outcome.waited_seconds)
    if outcome.result in ("failed", "retried"):
        TASK_FAILURES.labels(queue, task, outcome.cause).inc()
    if outcome.kind is not JobKind.GENERATION:
        return
    if outcome.items_given_up:
        IMAGES.labels(outcome.model, "failed").inc(outcome.items_given_up)
    if outcome.report is not None:
        for step, seconds in outcome.report.step_seconds.items():
            CHUNK_STEP.labels(step).inc(seconds)
        IMAGES.labels(outcome.model, "ok").inc(outcome.report.completed)
        IMAGE_BYTES.labels(outcome.model).inc(outcome.report.payload_bytes)


def observe_repair(repair: Repair) -> None:
    """Count what a pass of the reaper found."""
    LEASES_EXPIRED.inc(repair.expired)
    if repair.items_given_up:
        IMAGES.labels("", "failed").inc(repair.items_given_up)


def observe_s3(operation: str, code_class: str, seconds: float, size_bytes: int) -> None:
    """Count one S3 request."""
    S3_REQUESTS.labels(operation, code_class).inc()
    S3_SECONDS.labels(operation).observe(seconds)
    if size_bytes:
        S3_BYTES.labels("out" if operation == "put" else "in").inc(size_bytes)


def observe_serving(model: str, version: int, code: str, seconds: float, image_count: int) -> None:
    """Count one Predict request."""
    SERVING_REQUESTS.labels(model, str(version), code).inc()
    SERVING_SECONDS.labels(model, str(version)).observe(seconds)
    SERVING_BATCH.labels(model).observe(image_count)


def observe_training(model: str, facts: dict[str, float]) -> None:
    """Show the newest figures of the running training."""
    for gauge, name in (
        (TRAINING_RATE, "images_per_second"),
        (TRAINING_G, "generator_loss"),
        (TRAINING_D, "discriminator_loss"),
    ):
        if name in facts:
            gauge.labels(model).set(facts[name])


def serve(host: str, port: int) -> int:
    """Answer scrapes from a thread; the port, also when 0 asked for a free one."""
    server, _ = start_http_server(port, host, REGISTRY)
    return int(server.server_port)


__all__ = ["REGISTRY", "Collector", "GaugeMetricFamily", "observe", "observe_s3", "observe_serving", "serve"]
