"""The Celery application: broker, queues, acknowledgement. Why each setting is what it is stands beside it."""

from celery import Celery
from kombu.entity import Exchange, Queue

from workers import broker
from workers.settings import read_settings

app = Celery("aigc", include=[])


def configure() -> None:
    """Read the settings into the application; called when the module is loaded."""
    settings = read_settings()
    broker.repair()
    app.conf.update(
        broker_url=settings.redis_url.get_secret_value(),
        result_backend=None,  # the ledger has the results
        task_ignore_result=True,
        accept_content=["json"],
        task_default_queue="generation",
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in ("generation", "training", "maintenance")],
        task_create_missing_queues=False,  # a misspelt queue is an error, not a place where tickets wait for ever
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # the default gives up after 100
        broker_channel_error_retry=True,  # a full Redis must not end the worker
        broker_pool_acquire_timeout=10,
        worker_eta_task_limit=100,
        worker_send_task_events=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,  # cancel and drain are ledger state
        task_acks_late=False,  # a ticket is a hint: losing one costs a reaper tick, repeating one finds no work
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_step": 0.5, "interval_max": 2},
        broker_transport_options={
            # Tickets are acknowledged when a thread takes them up: those that wait longer were reserved by a dead worker.
            "visibility_timeout": 600,
            "unacked_restore_interval": 5,  # the defaults look every 100 s
            "unacked_restore_throttle": 1,
            "unacked_restore_limit": 200,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "client_name": "aigc",  # in CLIENT LIST, where somebody looks for what floods Redis
        },
        # SIGTERM ends a worker; with threads a soft shutdown would only sleep (workers/watchdog.py).
        worker_soft_shutdown_timeout=0,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the lease decides, not the socket
        beat_max_loop_interval=30,
        beat_sync_every=1,  # a beat that was killed must know what it sent, or a schedule of days begins anew
        timezone="UTC",
    )


configure()
