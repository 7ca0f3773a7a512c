"""Commands that are a process: worker, beat, healthcheck."""

import os
import sys
import urllib.error
import urllib.request

import click


@click.command()
@click.argument("role", type=click.Choice(["generation", "training"]))
def worker(role: str) -> None:
    """Run a Celery worker: `generation` (chunks and maintenance) or `training` (one run at a time)."""
    from aigc_core.jobs.states import JobKind
    from workers.celery_app import app
    from workers.settings import read_settings
    from workers.watchdog import watch

    settings = read_settings()
    stop_seconds = settings.stop_seconds
    if role == "generation":
        import workers.generation
        import workers.maintenance
        import workers.webhooks

        queues, concurrency = "generation,maintenance", settings.worker_concurrency + 1
    else:
        import workers.maintenance
        import workers.training
        import workers.webhooks

        # Two threads for one run at a time: the reaper must go on where no generation worker runs.
        queues, concurrency = "training,maintenance", 2
        stop_seconds += workers.training.STOP_SECONDS  # its child leaves a checkpoint first
    # Threads: the work is done in other processes (model server, S3, the training child) or in code that gives the
    # interpreter's lock back; and gRPC channels do not survive a fork.
    quiet = ["--without-mingle", "--without-gossip", "--without-heartbeat", f"--loglevel={settings.log_level}"]
    name = f"--hostname={role}-{os.getpid()}@%h"
    watch(JobKind(role), queues.split(","), stop_seconds=stop_seconds)
    app.worker_main(["worker", f"--queues={queues}", "--pool=threads", f"--concurrency={concurrency}", name, *quiet])


@click.command()
def beat() -> None:
    """Run beat: the reaper's tick and the schedules, and the sampler of the queues."""
    import workers.schedule  # noqa: F401  its table and its sampler
    from workers.celery_app import app
    from workers.settings import read_settings

    settings = read_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    app.start(["beat", f"--schedule={settings.home / 'beat-schedule'}", "--pidfile=", f"--loglevel={settings.log_level}"])


@click.command()
def healthcheck() -> None:
    """Exit 0 when the process with AIGC_METRICS_PORT answers its scrape address."""
    from workers.settings import read_settings

    settings = read_settings()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.metrics_port}/metrics", timeout=3) as answer:
            answer.read(1)
    except (urllib.error.URLError, OSError) as error:
        click.echo(f"error: no answer at port {settings.metrics_port} ({error}); is AIGC_METRICS_PORT set?", err=True)
        sys.exit(2)
