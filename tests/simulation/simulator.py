"""One random history of a whole installation: producers, a broker that loses and repeats, workers that die and freeze,
reapers that die, a ledger that loses its last seconds. Then the faults end, and every order has to come to its end.

What runs is the real submit, the real executor with the real rules of retrying, and the ledger in memory, in virtual time.
`python tests/simulation/simulator.py SEED` shows one history.
"""

import random
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from watched_ledger import Violation, WatchedLedger
from world import Actor, Killed, World

from aigc_core.errors import InvalidSpec, NotFound, Transient, Unavailable
from aigc_core.generation.finalise import final_state
from aigc_core.jobs.execute import Executor, Heartbeat
from aigc_core.jobs.ledger import LOSSES_MAX
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.plan import chunk_range
from aigc_core.jobs.records import FINALISE, By, ChunkReport, Job, Lease, TeamLimits
from aigc_core.jobs.specs import GenerationSpec
from aigc_core.jobs.states import JobKind, JobState
from aigc_core.jobs.submit import submit
from aigc_core.storage import layout
from aigc_core.storage.memory import MemoryObjectStore

#: Virtual seconds: faults happen until then; all must be over by then.
STORM_SECONDS, END_SECONDS = 300.0, 4_000.0
LEASE_SECONDS, TICK_SECONDS = 30.0, 5.0
NEVER = 1e6
WORKERS, WINDOW, CHUNK_ITEMS = 4, 3, 64

#: What people do to a live order, as often as it stands here.
PEOPLE = ("pause", "resume", "priority") * 3 + ("cancel",)

BY = By(who="simulator")

LedgerClass = Callable[..., MemoryLedger]


@dataclass(slots=True)
class Report:
    """What happened."""

    seed: int
    seconds: float = 0.0  # virtual, until the last order had ended
    jobs: int = 0
    states: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)  # faults and repairs, by name

    def count(self, event: str) -> None:
        self.events[event] = self.events.get(event, 0) + 1


@dataclass(slots=True)
class Order:
    """What somebody wants, until it is known to be taken."""

    spec: GenerationSpec
    key: str
    job_id: str = ""


def simulate(seed: int, *, ledger: LedgerClass = MemoryLedger) -> Report:
    """Run the history of a seed; `Violation` names the seed and what was broken."""
    simulation = Simulation(seed, ledger)
    try:
        return simulation.run()
    except Violation as error:
        raise Violation(f"seed {seed}, after {simulation.world.seconds:.3f} s: {error}") from error


class Simulation:
    """The installation."""

    def __init__(self, seed: int, ledger: LedgerClass) -> None:
        self.world = World(seed)
        random.seed(seed)  # the jitter of a back-off
        self.rng = self.world.rng
        self.report = Report(seed)
        self.memory = ledger(self.world.clock, window=WINDOW)
        self.ledger = WatchedLedger(self.memory, self.world, faults=lambda: 0.02 if self.is_stormy else 0.0)
        self.saved = self.ledger.snapshot()
        self.store = MemoryObjectStore()
        self.puts: list[tuple[float, str]] = []
        self.orders: list[Order] = []
        self.queue = 0  # tickets that wait
        self.idle = [f"worker-{number}" for number in range(WORKERS)]
        self.busy: dict[str, Actor] = {}
        self.poison = {(f"order-{self.rng.randrange(6)}", self.rng.randrange(3))} if self.world.chance(0.5) else set()

    @property
    def is_stormy(self) -> bool:
        return self.world.seconds < STORM_SECONDS

    def run(self) -> Report:
        self.memory.set_team("a", TeamLimits(running_max=self.rng.randint(0, 2)), BY)
        for number in range(self.rng.randint(2, 6)):
            self.orders.append(Order(self.a_spec(), f"order-{number}"))
            self.world.after(self.rng.uniform(0, STORM_SECONDS / 2), lambda order=self.orders[-1]: self.order(order))
        for first in (1.0, 2.5)[: self.rng.randint(1, 2)]:
            self.world.after(first, self.tick)
        for event, mean in ((self.save, 4), (self.lose_seconds, 90), (self.kill_one, 25), (self.steer, 20)):
            self.world.after(self.rng.expovariate(1 / mean), self.again(event, mean))
        self.world.after(STORM_SECONDS, self.calm)
        if not self.world.run(until=self.is_over, seconds_max=END_SECONDS):
            raise Violation(f"not over: {[job for job in self.memory.jobs(count_max=99) if not job.state.is_final]}")
        for actor in list(self.busy.values()):
            actor.kill()
        self.verify()
        return self.report

    def again(self, event: Callable[[], None], mean_seconds: float) -> Callable[[], None]:
        """Something that happens at random for as long as the storm lasts."""

        def happen() -> None:
            if self.is_stormy:
                event()
                self.world.after(self.rng.expovariate(1 / mean_seconds), happen)

        return happen

    # Producers and the broker

    def a_spec(self) -> GenerationSpec:
        now = self.world.clock.now()
        start_at = now + self.rng.uniform(0, 100) if self.world.chance(0.2) else 0.0
        expires_at = now + self.rng.uniform(150, 500) if self.world.chance(0.2) else 0.0
        return GenerationSpec(
            model="m", version=1, count=self.rng.randint(1, 640), seed=0, latent_dim=4, width=8, height=8, channels=1,
            chunk_items=CHUNK_ITEMS, team=self.rng.choice(("a", "b")), priority=self.rng.randint(0, 9),
            lane=self.rng.choice(("normal", "normal", "background")), start_at=start_at, expires_at=expires_at,
        )  # fmt: skip

    def order(self, order: Order) -> None:
        """Submit as a producer does that knows nothing of an earlier try."""
        if self.is_stormy and self.world.chance(0.1):  # it dies on the way, and somebody tries again
            self.report.count("producer died")
            self.world.after(self.rng.uniform(1, 20), lambda: self.order(order))
            if self.world.chance(0.5):
                return
        order.job_id = submit(
            order.spec,
            ledger=self.memory,
            store=self.store,
            publish=self.publish,
            clock=self.world.clock,
            idempotency_key=order.key,
        )

    def publish(self, kind: JobKind, count: int) -> None:
        for _ in range(count):
            if self.is_stormy and self.world.chance(0.15):
                self.report.count("ticket lost")
                continue
            for _ in range(2 if self.is_stormy and self.world.chance(0.1) else 1):
                self.world.after(self.rng.expovariate(1 if self.is_stormy else 20), self.arrive)

    def arrive(self) -> None:
        self.queue += 1
        self.hand_out()

    def hand_out(self) -> None:
        while self.queue and self.idle:
            self.queue -= 1
            worker = self.idle.pop(self.rng.randrange(len(self.idle)))
            actor = Actor(
                self.world,
                lambda actor, worker=worker: self.take(worker, actor),
                when_over=lambda worker=worker: self.free(worker),
            )
            self.busy[worker] = actor
            self.world.after(0, actor.resume)

    # Workers

    def free(self, worker: str) -> None:
        """A worker has nothing to do any more, or was killed and is started again."""
        del self.busy[worker]
        self.world.after(0.01, lambda: self.start(worker))

    def start(self, worker: str) -> None:
        self.idle.append(worker)
        self.hand_out()

    def take(self, worker: str, actor: Actor) -> None:
        """What `work_on` does with a ticket, in a process that may be killed."""
        executor = Executor(
            ledger=self.ledger,  # type: ignore[arg-type]
            clock=self.world.clock,
            worker=worker,
            lease_seconds=LEASE_SECONDS,
            renew_every_seconds=NEVER,  # `pass_time` renews, in the simulation's time
        )
        try:
            outcome = executor.execute(JobKind.GENERATION, lambda lease, heartbeat: self.work(lease, heartbeat, actor))
        except Unavailable:
            self.report.count("ledger away")
            return
        self.report.count(outcome.result)
        if self.is_stormy and self.world.chance(0.02):
            raise Killed
        if outcome.more:
            self.publish(JobKind.GENERATION, 1)

    def work(self, lease: Lease, heartbeat: Heartbeat, actor: Actor) -> ChunkReport:
        if lease.chunk == FINALISE:
            return self.finalise(lease, actor)
        spec = GenerationSpec.from_json(lease.spec_json)
        items = chunk_range(spec, lease.chunk)
        if (self.key_of(lease.job_id), lease.chunk) in self.poison:
            raise Killed
        for _ in range(self.rng.randint(1, 3)):
            self.pass_time(lease, heartbeat, actor)
            if self.is_stormy and self.world.chance(0.06):
                raise self.rng.choice((Transient("odd 7"), Unavailable("the model server is away"), Killed()))
            if self.is_stormy and self.world.chance(0.003):
                raise InvalidSpec("no such signature")
        heartbeat.check()
        self.put(layout.part_key(lease.job_id, lease.chunk), f"{items}\n".encode())
        self.pass_time(lease, heartbeat, actor)
        return ChunkReport(completed=len(items), payload_bytes=len(items))

    def pass_time(self, lease: Lease, heartbeat: Heartbeat, actor: Actor) -> None:
        """A step of the work: renewed and checked as a rule; now and then the whole process is frozen."""
        if self.is_stormy and self.world.chance(0.05):
            self.report.count("frozen")
            actor.sleep(self.rng.uniform(0.5, 3) * LEASE_SECONDS)
            return
        actor.sleep(self.rng.uniform(0.1, LEASE_SECONDS / 4))
        with suppress(Unavailable):
            heartbeat.state = self.ledger.renew(lease, lease_seconds=LEASE_SECONDS)
        heartbeat.check()

    def finalise(self, lease: Lease, actor: Actor) -> ChunkReport:
        """The papers of a job, without their pictures."""
        job = self.memory.job(lease.job_id)
        for chunk in self.memory.done_chunks(job.id):
            if not self.store.exists(layout.part_key(job.id, chunk)):
                raise Violation(f"chunk {chunk} of {job.id} counts as done and has no part")
        actor.sleep(self.rng.uniform(0.1, 5))
        self.put(layout.summary_key(job.id), final_state(job).encode())
        return ChunkReport(final_state=final_state(job))

    def put(self, key: str, payload: bytes) -> None:
        self.puts.append((self.world.seconds, key))
        self.store.put(key, payload)

    # Repairs, people and faults

    def tick(self) -> None:
        """Beat sends a reaper on its way; it may die between its moves."""
        self.world.after(TICK_SECONDS, self.tick)
        if self.is_stormy and self.world.chance(0.1):
            self.report.count("tick lost")
            return
        repair = self.memory.reap()
        if self.is_stormy and self.world.chance(0.1):
            self.report.count("reaper died")
            return
        missing = repair.claimable[JobKind.GENERATION] - self.queue
        if missing > 0:
            self.publish(JobKind.GENERATION, missing)

    def save(self) -> None:
        self.saved = self.ledger.snapshot()

    def lose_seconds(self) -> None:
        """Redis comes back with what was on its disk; orders that it has forgotten are taken up again from S3."""
        self.report.count("rolled back")
        self.ledger.roll_back(self.saved)
        for order in self.orders:
            if order.job_id and not self.knows(order.job_id):
                self.world.after(self.rng.uniform(0, 10), lambda order=order: self.order(order))

    def kill_one(self) -> None:
        if self.busy:
            self.report.count("killed")
            self.busy[self.rng.choice(sorted(self.busy))].kill()

    def steer(self) -> None:
        jobs = self.memory.jobs(count_max=99)
        failed = [job for job in jobs if job.chunks_discarded and job.stop not in ("cancelled", "expired")]
        if failed and self.world.chance(0.5):
            self.report.count("retry")
            self.ledger.retry(self.rng.choice(failed).id, BY)
            return
        live = [job for job in jobs if not job.state.is_final]
        if not live:
            return
        job = self.rng.choice(live)
        self.report.count(word := self.rng.choice(PEOPLE))
        if word == "cancel":
            self.memory.cancel(job.id, BY, hard=self.world.chance(0.5))
        elif word == "priority":
            self.memory.prioritise(job.id, self.rng.randint(0, 9), BY)
        else:
            getattr(self.memory, word)(job.id, BY)

    def calm(self) -> None:
        for job in self.memory.jobs(count_max=99):
            self.memory.resume(job.id, BY)

    def knows(self, job_id: str) -> bool:
        with suppress(NotFound):
            self.memory.job(job_id)
            return True
        return False

    def key_of(self, job_id: str) -> str:
        return next((order.key for order in self.orders if order.job_id == job_id), "")

    # The end

    def is_over(self) -> bool:
        if self.is_stormy or not all(order.job_id and self.knows(order.job_id) for order in self.orders):
            return False
        return all(job.state.is_final for job in self.memory.jobs(count_max=99))

    def verify(self) -> None:
        """All that was ordered has ended, and the ledger, the store and the counts tell the same."""
        self.report.seconds = self.world.seconds
        for order in self.orders:
            self.verify_job(self.memory.job(order.job_id), order.spec)
        for team in self.memory.teams():
            if team.queued or any(team.running.values()):
                raise Violation(f"nothing is left, but {team}")

    def verify_job(self, job: Job, spec: GenerationSpec) -> None:
        self.report.jobs += 1
        self.report.states[job.state] = self.report.states.get(job.state, 0) + 1
        done = self.memory.done_chunks(job.id)
        dead = {letter.chunk for letter in self.memory.dead_letters(job.id)}
        made = sum(len(chunk_range(spec, chunk)) for chunk in done)
        given_up = sum(len(chunk_range(spec, chunk)) for chunk in dead)
        stored = {key for _, key in self.puts}
        problems = {
            "parts that were not stored": [chunk for chunk in done if layout.part_key(job.id, chunk) not in stored],
            "chunks both done and given up": sorted(done & dead),
            "completed that was not made": job.counts.completed != made or job.counts.payload_bytes != made,
            "failed that was not given up": job.counts.failed != given_up,
            "open pictures of a job that was not stopped": job.counts.open and not job.stop,
            "live leases": job.chunks_running,
            "no papers": job.state is not JobState.FAILED and layout.summary_key(job.id) not in stored,
            "an end that does not fit": job.state not in (final_state(job), JobState.FAILED),
            "a loss too many": job.attempts_lost > LOSSES_MAX * (job.chunk_count + 1),
        }
        if found := {name: what for name, what in problems.items() if what}:
            raise Violation(f"{found} in {job}")


if __name__ == "__main__":
    try:
        print(simulate(int(sys.argv[1])))
    except Violation as error:
        sys.exit(str(error))
