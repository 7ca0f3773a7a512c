"""Queue and task names, and how a ticket is published. A ticket carries nothing: its kind says which claim to make."""

from kombu.exceptions import OperationalError

from aigc_core.errors import Unavailable
from aigc_core.jobs.ledger import TICKETS_MAX
from aigc_core.jobs.states import JobKind
from workers.celery_app import app

GENERATION, TRAINING, MAINTENANCE = "generation", "training", "maintenance"
QUEUES = (GENERATION, TRAINING, MAINTENANCE)

WORK_GENERATION = "workers.generation.work"
WORK_TRAINING = "workers.training.work"
REAP = "workers.maintenance.reap"
RETRAIN = "workers.maintenance.retrain"
PRUNE = "workers.maintenance.prune"
WEBHOOKS = "workers.webhooks.tick"

_TASKS = {JobKind.GENERATION: (WORK_GENERATION, GENERATION), JobKind.TRAINING: (WORK_TRAINING, TRAINING)}


def publish_tickets(kind: JobKind, count: int) -> None:
    """Send `count` tickets; `Unavailable` when the broker does not answer (the reaper will send them)."""
    task, queue = _TASKS[kind]
    try:
        with app.producer_or_acquire() as producer:
            for _ in range(count):
                app.send_task(task, queue=queue, producer=producer)
    except (OperationalError, OSError) as error:
        raise Unavailable(f"the broker did not take {count} tickets ({error})") from error


def publish_tick(task: str) -> None:
    """Ask for a pass of a maintenance task now; `Unavailable` when the broker does not answer (beat will ask for one)."""
    try:
        app.send_task(task, queue=MAINTENANCE)
    except (OperationalError, OSError) as error:
        raise Unavailable(f"the broker did not take {task} ({error})") from error


def top_up_tickets(kind: JobKind, wanted: int) -> None:
    """See that `wanted` tickets wait, at most TICKETS_MAX; any ticket finds any work, so those that wait already count."""
    missing = min(wanted, TICKETS_MAX) - queued_messages()[_TASKS[kind][1]]
    if missing > 0:
        publish_tickets(kind, missing)


def queued_messages() -> dict[str, int]:
    """Messages waiting in the broker, by queue; those a worker has reserved are not counted. `Unavailable`."""
    try:
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            return {queue: channel._size(queue) for queue in QUEUES}
    except (OperationalError, OSError) as error:
        raise Unavailable(f"the broker did not answer ({error}); check AIGC_REDIS_URL and that it runs") from error
