"""A small installation of real pieces for one row of the fault matrix: Redis, S3, model server, workers, beat.

Leases run out after 3 s and the reaper comes every 0.5 s. The model is an ONNX product of 8×8 pixels, so that a job of
thousands of pictures takes seconds. Orders are recorded without a ticket: the reaper's tick publishes them.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from contract import serving_models
from servers import free_port, redis_servers

from aigc_core.clock import SystemClock
from aigc_core.jobs.records import Event
from aigc_core.jobs.redis_ledger import RedisLedger, connect
from aigc_core.jobs.specs import GenerationSpec
from aigc_core.jobs.submit import submit
from aigc_core.storage.s3 import S3ObjectStore
from faults.verify import digests, problems
from serving.contract import ModelCard
from serving.repository import publish

LEASE_SECONDS, TICK_SECONDS = 3.0, 0.5
MODEL = "pictures"

#: Pictures whose digests are known from a run that nothing disturbed; every order is a beginning of it.
REFERENCE_COUNT = 4_096
ROOT = Path(__file__).parents[2]
AIGC = [sys.executable, "-m", "workers.cli"]
ACCESS_KEY, SECRET_KEY, BUCKET = "accesskey0123456", "secretkey0123456", "bucket"


class Stuck(AssertionError):
    """Something that had to happen did not."""


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask until the answer is true, and give it; `Stuck` after so many seconds."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > end:
            raise Stuck(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)
    return answer


def memory() -> Path | None:
    """A file system without a disk for what the pieces keep, where there is one: a hundred thousand small files."""
    shm = Path("/dev/shm")
    return shm if shm.is_dir() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """What a killed worker held."""

    at: float  # seconds since 1970, when it died
    chunks: frozenset[tuple[str, int]]  # (job, chunk)


class Plant:
    """Started pieces below one folder; `close` ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with suppress(ValueError):  # not the main thread
            signal.signal(
                signal.SIGTERM, lambda *_: sys.exit(1)
            )  # by way of `close`: the pieces are no children of a terminal
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.changed: set[str] = set()  # processes that run with settings of their own
        self.ports = {name: free_port() for name in ("redis", "s3", "serving")}
        self.bucket_folder = folder / "s3" / BUCKET
        self.bucket_folder.mkdir(parents=True)
        (folder / "redis").mkdir()
        (folder / "home").mkdir()
        self.redis_url = f"redis://127.0.0.1:{self.ports['redis']}/0"
        self.reference: list[str] = []
        self.position = "0"
        self.events: list[Event] = []

    # ── pieces ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> "Plant":
        """Servers, model, beat and two workers; then the run that all others are held against."""
        self.start_redis()
        rclone = [str(Path(sys.executable).parent / "rclone"), "serve", "s3", str(self.folder / "s3")]
        rclone += ["--addr", f"127.0.0.1:{self.ports['s3']}", "--config", "/dev/null"]
        self.spawn("s3", [*rclone, "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"])
        self.client = connect(self.redis_url)
        self.ledger = RedisLedger(self.client)
        self.store = S3ObjectStore(BUCKET, endpoint=self.s3_url(), access_key=ACCESS_KEY, secret_key=SECRET_KEY)
        self.celery = Celery("tests", broker=self.redis_url, set_as_current=False)
        self._wait_for_port("s3")
        self.publish_model()
        self.start_serving()
        self.beat("beat")
        self.worker("a")
        self.worker("b")
        for name in ("a", "b"):
            self.wait_ready(name)
        job_id = self.order(REFERENCE_COUNT)
        self.wait_final(job_id, 120)
        self.reference = digests(self, job_id)
        found = problems(self, job_id)
        assert not found, found
        return self

    def start_redis(self) -> None:
        """Redis on its data, with the ledger's own durability."""
        command = [redis_servers()[os.environ.get("AIGC_FAULTS_REDIS", "wheel")], "--port", str(self.ports["redis"])]
        command += ["--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder / "redis")]
        command += ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
        self.spawn("redis", command)
        self.wait_redis()

    def wait_redis(self) -> None:
        def answers() -> bool:
            with suppress(redis.RedisError), redis.Redis(port=self.ports["redis"], socket_timeout=1) as client:
                return bool(client.ping())
            return False

        until(answers, 20, "Redis answers")

    def start_serving(self) -> None:
        command = [sys.executable, "-m", "serving.embedded", f"--port={self.ports['serving']}", "--bind_address=127.0.0.1"]
        command += [f"--model_config_file={self.folder / 'models' / 'models.config'}"]
        command += ["--model_config_file_poll_wait_seconds=1", "--file_system_poll_wait_seconds=1"]
        self.spawn("serving", command)
        self._wait_for_port("serving")

    def publish_model(self, *, level: float = 127.5) -> ModelCard:
        """The next version of the model; `level` makes its pictures lighter or darker."""

        def build(folder: Path) -> dict[str, float]:
            serving_models.write_onnx(folder, level=level, labels=False)
            return {}

        def card(version: int) -> ModelCard:
            return ModelCard(
                name=MODEL, version=version, latent_dim=serving_models.LATENT_DIM, height=8, width=8, channels=1,
                class_names=(), dataset="none", dataset_fingerprint="none", job_id=f"level-{level}", code_revision="none",
                created_at=0.0,
            )  # fmt: skip

        return publish(self.folder / "models", card, build, store=self.store)

    def worker(self, name: str, **settings: str) -> None:
        self.spawn(name, [*AIGC, "worker", "generation"], **settings)

    def beat(self, name: str, **settings: str) -> None:
        home = self.folder / f"home-{name}"
        home.mkdir(exist_ok=True)
        self.spawn(name, [*AIGC, "beat"], AIGC_HOME=str(home), **settings)

    def spawn(self, name: str, command: list[str], **settings: str) -> None:
        """A process of its own group under a name; its log is `<name>.log`."""
        self.end(name)
        if settings.keys() - {"AIGC_HOME"}:
            self.changed.add(name)
        else:
            self.changed.discard(name)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.children[name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment() | settings,
                cwd=self.folder,
                start_new_session=True,
            )

    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("AIGC_")}
        return own | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "AIGC_HOME": str(self.folder / "home"),
            "AIGC_REDIS_URL": self.redis_url,
            "AIGC_S3_ENDPOINT": self.s3_url(),
            "AIGC_S3_BUCKET": BUCKET,
            "AIGC_S3_ACCESS_KEY": ACCESS_KEY,
            "AIGC_S3_SECRET_KEY": SECRET_KEY,
            "AIGC_SERVING_TARGETS": f"127.0.0.1:{self.ports['serving']}",
            "AIGC_MODEL_BASE_PATH": str(self.folder / "models"),
            "AIGC_LEASE_SECONDS": str(LEASE_SECONDS),
            "AIGC_REAP_INTERVAL_SECONDS": str(TICK_SECONDS),
        }

    def s3_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    def wait_ready(self, name: str) -> None:
        """Return when a worker takes tickets."""
        child = self.children[name]
        ready = self.folder / "home" / "run" / f"metrics-{child.pid}.json"
        until(lambda: ready.exists() or child.poll() is not None, 60, f"worker {name} is ready")

    def alive(self, name: str) -> bool:
        return name in self.children and self.children[name].poll() is None

    def calm(self) -> None:
        """Back to two undisturbed workers, one beat, and events from here on; before a row."""
        for name in set(self.children) - {"redis", "s3", "serving", "beat", "a", "b"}:
            self.end(name)
        if not self.alive("redis"):
            self.start_redis()
        if not self.alive("serving"):
            self.start_serving()
        if not self.alive("beat") or "beat" in self.changed:
            self.beat("beat")
        for name in ("a", "b"):
            if not self.alive(name) or name in self.changed:
                self.worker(name)
        for name in ("a", "b"):
            self.wait_ready(name)
        self.forget_events()

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.children[name].pid, number)

    def end(self, name: str) -> None:
        """kill -9, if it is there."""
        child = self.children.pop(name, None)
        if child is not None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def run_code(self, code: str, *, check: bool = True, **settings: str) -> subprocess.CompletedProcess[str]:
        """Python in a process of its own, with the plant's settings."""
        environment = self.environment() | settings
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=self.folder, capture_output=True, text=True, timeout=300
        )
        assert not check or done.returncode == 0, done.stderr[-2000:]
        return done

    def close(self) -> None:
        for name in list(self.children):
            self.end(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    # ── orders ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def order(self, count: int, *, chunk_items: int = 64, window: int = 32, **choices: Any) -> str:
        """A job on the first pictures of the reference."""
        spec = GenerationSpec(
            model=MODEL, version=1, count=count, seed=0, latent_dim=serving_models.LATENT_DIM, width=8, height=8, channels=1,
            chunk_items=chunk_items, **choices,
        )  # fmt: skip
        ledger = RedisLedger(self.client, window=window)
        return submit(spec, ledger=ledger, store=self.store, publish=lambda *_: None, clock=SystemClock())

    def publish_tickets(self, count: int) -> None:
        with self.celery.producer_or_acquire() as producer:
            for _ in range(count):
                self.celery.send_task("workers.generation.work", queue="generation", producer=producer)

    def wait_final(self, job_id: str, seconds: float) -> None:
        until(lambda: self.ledger.job(job_id).state.is_final, seconds, f"job {job_id} ends")

    def wait_chunks(self, job_id: str, count: int, seconds: float = 30) -> None:
        """Return when so many chunks are committed."""
        until(lambda: self.ledger.job(job_id).chunks_done >= count, seconds, f"{count} chunks of {job_id}")

    def leases_of(self, name: str) -> frozenset[tuple[str, int]]:
        """(job, chunk) of every live lease of a worker."""
        held = set()
        ending = f"-{self.children[name].pid}"
        for member in self.client.zrange("aigc:leases", 0, -1):
            job_id, chunk = str(member).split()
            lease = self.client.hget(f"aigc:job:{job_id}:leases", chunk)
            if lease and str(lease).endswith(ending):
                held.add((job_id, int(chunk)))
        return frozenset(held)

    def kill(self, name: str) -> Orphans:
        """kill -9 a worker, or find it dead; what it held, as nobody else can have taken it yet."""
        self.signal(name, signal.SIGKILL)
        at = time.time()
        self.children[name].wait()
        return Orphans(at=at, chunks=self.leases_of(name))

    # ── what happened ───────────────────────────────────────────────────────────────────────────────────────────────────

    def read_events(self) -> list[Event]:
        """Everything that the ledger has told since the row began; to be called before the stream is cut."""
        while found := self.ledger.events(after=self.position, wait_seconds=0.001, count_max=5_000):
            self.events += found
            self.position = found[-1].id
        return self.events

    def forget_events(self) -> None:
        self.events = []
        self.position = self.ledger.last_event()

    def recovered(self, orphans: Orphans, seconds: float = 30) -> list[float]:
        """Wait until every orphan was taken over; `recovery_seconds` of them."""

        def all_() -> bool:
            self.read_events()
            return len(self.recovery_seconds(orphans)) >= len(orphans.chunks)

        until(all_, seconds, f"orphans {sorted(orphans.chunks)} are taken over")
        return self.recovery_seconds(orphans)

    def recovery_seconds(self, orphans: Orphans) -> list[float]:
        """From the death until each orphaned chunk was committed by somebody else."""
        seconds = []
        for job_id, chunk in orphans.chunks:
            seconds += [
                event.at - orphans.at
                for event in self.events
                if event.job_id == job_id and event.at > orphans.at
                and (event.facts.get("chunk") == chunk if chunk >= 0 else True)
                and event.type == ("chunk.completed" if chunk >= 0 else "job.completed")
            ][:1]  # fmt: skip
        return seconds

    def first_commit_after(self, at: float) -> float:
        """Seconds from a time to the next commit of any chunk; waits for it."""

        def found() -> list[float]:
            return [e.at for e in self.read_events() if e.at > at and e.type == "chunk.completed"]

        return float(until(found, 60, "a chunk is committed again")[0] - at)

    def losses(self) -> int:
        return sum(event.type == "chunk.lost" for event in self.read_events())

    def log_count(self, name: str, text: str) -> int:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace").count(text) if path.exists() else 0

    def file_limit(self, name: str, count: int) -> None:
        """How many files a running process may have open."""
        pid = self.children[name].pid
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, hard))

    def open_files(self, name: str) -> int:
        return len(os.listdir(f"/proc/{self.children[name].pid}/fd"))

    def _wait_for_port(self, name: str) -> None:
        import socket

        def open_() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.ports[name]), timeout=1):
                return True
            return False

        until(open_, 60, f"{name} listens")
