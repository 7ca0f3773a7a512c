"""Random histories of the ledger in Redis: every move, in any order, repeated, late, and over a Redis that lost seconds.

After every step the keys are checked (`ledger_invariants`), and what was seen from outside: a chunk is committed once, by
its newest lease, and tokens only grow. Where a model is asked for, the ledger in memory goes through the same history with
the same clock, and must answer the same and hold the same jobs.
"""

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import redis
from builders import a_generation_spec, a_training_spec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger_invariants import check, read_keys
from ledgers import BY, CLOCK_LUA

from aigc_core.clock import FixedClock
from aigc_core.errors import AigcError
from aigc_core.generation.finalise import final_state
from aigc_core.jobs.ledger import EXPIRY_SECONDS
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.records import FINALISE, ChunkReport, Lease, TeamLimits
from aigc_core.jobs.redis_ledger import RedisLedger
from aigc_core.jobs.specs import GenerationSpec
from aigc_core.jobs.states import JobKind, JobState, LeaseState

WINDOW = 3
CHUNK_ITEMS = 64
JOBS_MAX = 5

#: Moves whose answer is the same when they are sent again; of the others only the effect is.
SAME_ANSWER = {"submit", "renew", "complete", "fail", "snooze"}

teams = st.sampled_from(["a", "b"])
picks = st.integers(0, 99)


class ResentLedger(RedisLedger):
    """Sends every move twice where `twice` says so, as redis-py does when a reply does not come."""

    twice = False

    def _move(self, name: str, *args: object) -> Any:
        first = super()._move(name, *args)
        if not self.twice:
            return first
        second = super()._move(name, *args)
        if name in SAME_ANSWER:
            assert first == second, f"{name} {args} answered {first}, then {second}"
        if name == "claim" and first:
            assert list(map(str, first[:8])) == list(map(str, second[:8])), f"claim {args} answered {first}, then {second}"
        return first


class LedgerMachine(RuleBasedStateMachine):
    """Rules over one ledger; `machine` says which."""

    client: redis.Redis  #: decodes
    raw: redis.Redis  #: does not
    change: Callable[[RedisLedger], None] = staticmethod(lambda ledger: None)
    modelled = True

    def __init__(self) -> None:
        super().__init__()
        self.client.flushdb()
        self.clock = FixedClock()
        self.client.set("test:clock", repr(self.clock.now()))
        self.ledger = ResentLedger(self.client, window=WINDOW, clock_lua=CLOCK_LUA)
        self.change(self.ledger)
        self.model = MemoryLedger(self.clock, window=WINDOW)
        self.highest: Counter[str] = Counter()  # token by job, over everything that ever was
        self.seen = Seen()
        self.saved: tuple[Any, ...] | None = None

    def both(self, move: str, *args: Any, **kwargs: Any) -> Any:
        """The answer of the ledger, which must be the model's; None where the move was refused."""
        answers = []
        for ledger in (self.ledger, self.model)[: 1 + self.modelled]:
            try:
                answers.append(getattr(ledger, move)(*args, **kwargs))
            except AigcError as error:
                answers.append(type(error))
        assert same(move, answers[0], answers[-1]), f"{move} {args}: Redis {answers[0]}, model {answers[-1]}"
        return None if isinstance(answers[0], type) else answers[0]

    def live_jobs(self) -> list[str]:
        return sorted(self.client.smembers("aigc:live"))

    # Orders

    @initialize(count=st.integers(1, 200))
    def first_order(self, count: int) -> None:
        self.submit(a_generation_spec(team="a", count=count, chunk_items=CHUNK_ITEMS))

    @precondition(lambda self: len(self.seen.jobs) < JOBS_MAX)
    @rule(team=teams, lane=st.sampled_from(["normal", "background"]), priority=st.integers(0, 9), count=st.integers(1, 400),
          after=st.tuples(*[st.sampled_from([0, 0, 0, seconds]) for seconds in (20, 100, 60)]))  # fmt: skip
    def order(self, team: str, lane: str, priority: int, count: int, after: tuple[int, ...]) -> None:
        times = zip(("start_at", "expires_at", "deadline_at"), after, strict=True)
        spec = a_generation_spec(
            team=team, lane=lane, priority=priority, count=count, chunk_items=CHUNK_ITEMS,
            **{name: self.clock.now() + seconds if seconds else 0.0 for name, seconds in times},
        )  # fmt: skip
        self.submit(spec)

    @rule(pick=picks, what=st.sampled_from(["training", "again", "recovered"]), made=st.sets(st.integers(0, 6)))
    def order_otherwise(self, pick: int, what: str, made: set[int]) -> None:
        if what == "again" and self.seen.jobs:
            job_id = chosen(list(self.seen.jobs), pick)
            answer = self.both("submit", "other", self.seen.jobs[job_id], idempotency_key=job_id)
            assert answer is None or (answer.job_id, answer.is_new) == (job_id, False)
        elif what == "training" and len(self.seen.jobs) < JOBS_MAX:
            self.submit(a_training_spec(team="b"))
        elif what == "recovered" and len(self.seen.jobs) < JOBS_MAX:
            self.submit(a_generation_spec(team="b", count=300, chunk_items=CHUNK_ITEMS))
            self.recover(f"j{len(self.seen.jobs) - 1}", made)

    def submit(self, spec: Any) -> None:
        job_id = f"j{len(self.seen.jobs)}"
        if self.both("submit", job_id, spec, idempotency_key=job_id):
            self.seen.jobs[job_id] = spec

    def recover(self, job_id: str, made: set[int]) -> None:
        spec = self.seen.jobs.get(job_id)
        if not isinstance(spec, GenerationSpec):  # the order was refused, and this one is another
            return
        runs = [range(chunk, chunk + 1) for chunk in sorted(made) if chunk * CHUNK_ITEMS < spec.count]
        completed = sum(min(CHUNK_ITEMS, spec.count - run.start * CHUNK_ITEMS) for run in runs)
        if self.both("restore", job_id, done=runs, completed=completed, payload_bytes=completed):
            self.seen.commits.update((job_id, run.start) for run in runs)

    # Workers

    @rule(worker=st.sampled_from(["w", "w", "v"]), seconds=st.sampled_from([10, 60]), times=st.sampled_from([1, 1, 3]))
    def claim_some(self, worker: str, seconds: int, times: int) -> None:
        for _ in range(times):
            self.claim(JobKind.GENERATION, worker, seconds)

    @rule(seconds=st.sampled_from([10, 60]))
    def claim_any(self, seconds: int) -> None:
        for kind in JobKind:
            self.claim(kind, "w", seconds)

    def claim(self, kind: JobKind, worker: str, seconds: int) -> None:
        lease = self.both("claim", kind, worker=worker, lease_seconds=seconds)
        if lease is None:
            return
        chunk = (lease.job_id, lease.chunk)
        assert lease.token > self.highest[lease.job_id], f"token {lease.token} after {self.highest[lease.job_id]}"
        assert lease.attempt == self.seen.tries[chunk] + 1, f"{lease} after {self.seen.tries[chunk]} tries"
        assert chunk not in self.seen.held, f"{lease} is held already: {self.seen.held[chunk]}"
        assert chunk not in self.seen.commits, f"{lease} was committed"
        self.highest[lease.job_id] = lease.token
        self.seen.held[chunk] = lease
        self.seen.leases.append(lease)
        if lease.chunk == FINALISE:
            self.seen.papers[lease] = final_state(self.ledger.job(lease.job_id))

    @precondition(lambda self: self.seen.held)
    @rule(pick=picks, bad=st.sampled_from([0, 0, 1]))
    def complete(self, pick: int, bad: int) -> None:
        self.end(chosen(list(self.seen.held.values()), pick), "complete", bad)

    @precondition(lambda self: self.seen.held)
    @rule(pick=picks, fatal=st.sampled_from([False] * 5 + [True]), delay=st.sampled_from([0, 5]), snooze=st.booleans())
    def hand_back(self, pick: int, fatal: bool, delay: int, snooze: bool) -> None:
        lease = chosen(list(self.seen.held.values()), pick)
        self.end(lease, "snooze", delay) if snooze else self.end(lease, "fail", (fatal, delay))

    @precondition(lambda self: self.seen.leases)
    @rule(pick=picks, move=st.sampled_from(["complete", "complete", "fail", "snooze"]))
    def end_late(self, pick: int, move: str) -> None:
        """Any lease that ever was: frozen workers and repeated messages."""
        lease = chosen(self.seen.leases, pick)
        known = self.seen.ended.get(lease)
        self.end(lease, *(known[:2] if known else (move, (False, 0) if move == "fail" else 0)))

    def end(self, lease: Lease, move: str, how: Any) -> None:
        spec, chunk = self.seen.jobs[lease.job_id], (lease.job_id, lease.chunk)
        is_held = self.seen.held.get(chunk) is lease
        before = self.ledger.job(lease.job_id) if is_held else None
        if move == "complete":
            items = min(CHUNK_ITEMS, spec.count - lease.chunk * CHUNK_ITEMS) if hasattr(spec, "count") else 1
            bad = min(how, items)
            report = ChunkReport(completed=items - bad, failed=bad, payload_bytes=items)
            if lease.chunk == FINALISE:
                report = ChunkReport(final_state=self.seen.papers[lease])
            ended = self.both("complete", lease, report)
        elif move == "fail":
            ended = self.both("fail", lease, "boom 7", fingerprint="f", fatal=how[0], delay_seconds=how[1])
        else:
            ended = self.both("snooze", lease, delay_seconds=how, waiting_for="a server" if how else "")
        known = self.seen.ended.get(lease)
        if not is_held:
            assert not ended.accepted or known == (move, how, ended.result), f"{move} of {lease} was taken: {ended}, {known}"
            return
        assert ended.accepted, f"{move} of {lease}, which is held, was refused"
        del self.seen.held[chunk]
        self.seen.ended[lease] = (move, how, ended.result)
        if move == "fail":
            self.seen.tries[chunk] += 1
        elif move == "complete" and lease.chunk == FINALISE:
            assert before is not None
            assert self.seen.papers[lease] is final_state(before), f"{lease}: papers of another time ended {before}"
        elif move == "complete":
            assert chunk not in self.seen.commits, f"{lease} was committed twice"
            self.seen.commits.add(chunk)

    @precondition(lambda self: self.seen.leases)
    @rule(pick=picks, late=st.booleans(), seconds=st.sampled_from([10, 60]))
    def renew(self, pick: int, late: bool, seconds: int) -> None:
        held = list(self.seen.held.values())
        lease = chosen(self.seen.leases if late or not held else held, pick)
        state = self.both("renew", lease, lease_seconds=seconds)
        assert (state is LeaseState.LOST) == (self.seen.held.get((lease.job_id, lease.chunk)) is not lease), (
            f"{lease} is {state}"
        )

    # Time, repairs and faults

    @rule(seconds=st.sampled_from([1, 5, 15, 15, 61, 700]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.client.set("test:clock", repr(self.clock.now()))

    @rule()
    def reap(self) -> None:
        at = self.clock.now()
        ends = self.client.zrange("aigc:leases", 0, -1, withscores=True)
        overdue = [(member.split()[0], int(member.split()[1])) for member, end in ends if end <= at]
        repair = self.both("reap")
        assert repair.expired == len(overdue), f"{repair} of {overdue}"
        for chunk in overdue:
            del self.seen.held[chunk]
            self.seen.tries[chunk] += 1

    @precondition(lambda self: self.seen.held)
    @rule(again=st.booleans(), zombie=st.booleans())
    def workers_vanish(self, again: bool, zombie: bool) -> None:
        """For longer than their leases; others take over, and one of them may come back."""
        frozen = next(iter(self.seen.held.values()))
        for _ in range(1 + again):
            self.pass_time(61)
            self.reap()
            self.claim(JobKind.GENERATION, "w", 60)
        if zombie:
            self.end(frozen, "complete", 0)

    @precondition(lambda self: self.seen.jobs)
    @rule()
    def take_snapshot(self) -> None:
        keys = [key for key in self.raw.keys("aigc:*") if not key.startswith(b"aigc:audit")]
        dump = {key: (max(0, self.raw.pttl(key)), self.raw.dump(key)) for key in keys}
        self.saved = (dump, copied(self.model), copy.deepcopy(self.seen))

    @precondition(lambda self: self.saved is not None)
    @rule()
    def roll_back(self) -> None:
        """Redis lost its last seconds; time itself went on, and so did the workers."""
        assert self.saved is not None
        dump, model, seen = self.saved
        self.saved = None
        self.pass_time(1)
        self.raw.delete(*self.raw.keys("aigc:*"))
        for key, (ttl, value) in dump.items():
            self.raw.restore(key, ttl, value)
        for name, value in model.items():
            setattr(self.model, name, value)
        forgotten = self.seen
        self.seen = seen
        # What was done meanwhile comes late now. Orders that are forgotten are nobody's any more.
        self.seen.leases += [lease for lease in forgotten.leases if lease not in seen.leases and lease.job_id in seen.jobs]
        self.seen.papers |= forgotten.papers

    # People

    @precondition(lambda self: self.live_jobs())
    @rule(
        pick=picks,
        move=st.sampled_from(["pause", "resume", "resume", "soft", "hard", "priority"]),
        priority=st.integers(0, 9),
    )
    def steer(self, pick: int, move: str, priority: int) -> None:
        job_id = chosen(self.live_jobs(), pick)
        if move == "priority":
            self.both("prioritise", job_id, priority, BY)
        elif move in ("soft", "hard"):
            self.both("cancel", job_id, BY, hard=move == "hard")
        else:
            self.both(move, job_id, BY)

    @precondition(lambda self: self.client.smembers("aigc:dead"))
    @rule(pick=picks, rate=st.sampled_from([0, 0.1]), fingerprint=st.sampled_from(["", "", "f", "vanished"]))
    def retry(self, pick: int, rate: float, fingerprint: str) -> None:
        job_id = chosen(sorted(self.client.smembers("aigc:dead")), pick)
        dead = [letter.chunk for letter in self.ledger.dead_letters(job_id) if fingerprint in ("", letter.fingerprint)]
        if self.both("retry", job_id, BY, fingerprint=fingerprint, chunks_per_second=rate) and dead:
            for chunk in [*dead, FINALISE]:
                self.seen.tries[job_id, chunk] = 0
            self.seen.held.pop((job_id, FINALISE), None)

    @rule(team=teams, weight=st.sampled_from([1, 2, 4]), cap=st.sampled_from([0, 1, 2]), queued=st.sampled_from([0, 500]))
    def set_team(self, team: str, weight: int, cap: int, queued: int) -> None:
        self.both("set_team", team, TeamLimits(weight=weight, running_max=cap, queued_max=queued), BY)

    @rule(what=st.sampled_from(["replies are lost", "replies come", "drain", "undrain", "prune", "months pass"]))
    def other(self, what: str) -> None:
        if what.startswith("replies"):
            self.ledger.twice = what == "replies are lost"
        elif what == "prune":
            for job_id in self.both("prune", keep_seconds=60):
                self.seen.leases = [lease for lease in self.seen.leases if lease.job_id != job_id]
        elif what == "months pass" and len(self.seen.leases) > 8:
            self.pass_time(EXPIRY_SECONDS)
        else:
            self.both("drain", "v", BY, draining=what == "drain")

    @invariant()
    def the_keys_agree(self) -> None:
        keys = read_keys(self.client, self.clock.now())
        check(keys)
        held = {(job.id, chunk): int(text.split()[0]) for job in keys.jobs.values() for chunk, text in job.leases.items()}
        assert held == {chunk: lease.token for chunk, lease in self.seen.held.items()}
        made = {(job.id, chunk) for job in keys.jobs.values() for chunk in job.done}
        assert made == {chunk for chunk in self.seen.commits if chunk[0] in keys.jobs}

    @invariant()
    def the_jobs_are_those_of_the_model(self) -> None:
        if self.modelled:
            jobs, expected = (sorted(one.jobs(count_max=99), key=lambda job: job.id) for one in (self.ledger, self.model))
            assert jobs == expected


class Seen:
    """What a bystander has seen. It forgets with Redis: `LedgerMachine.roll_back`."""

    def __init__(self) -> None:
        self.jobs: dict[str, Any] = {}  # specs
        self.leases: list[Lease] = []
        self.held: dict[tuple[str, int], Lease] = {}
        self.tries: Counter[tuple[str, int]] = Counter()
        self.commits: set[tuple[str, int]] = set()
        self.papers: dict[Lease, JobState] = {}  # how a finalising will say that the job ended
        self.ended: dict[Lease, tuple[str, Any, str]] = {}  # move, how and answer


def chosen(values: list[Any], pick: int) -> Any:
    return values[pick % len(values)]


def same(move: str, real: Any, expected: Any) -> bool:
    """Whether two answers are the same, but for hints: a job whose time has come counts in Redis from the next claim on."""
    if move in ("cancel", "pause", "resume"):
        return type(real) is type(expected)
    if move in ("complete", "fail", "snooze"):
        return (real.result, real.items_given_up) == (expected.result, expected.items_given_up)
    if move == "retry" and not isinstance(real, type):
        return (real.chunks, real.items) == (expected.chunks, expected.items)
    return bool(sorted(real) == sorted(expected) if move == "prune" else real == expected)


def copied(ledger: MemoryLedger) -> dict[str, Any]:
    """All that a ledger in memory knows."""
    return copy.deepcopy({name: value for name, value in vars(ledger).items() if name not in ("_lock", "_clock")})


def machine(
    client: redis.Redis, raw: redis.Redis, *, change: Callable[[RedisLedger], None] | None = None, modelled: bool = True
) -> type[LedgerMachine]:
    """The machine over the Redis of these clients; `change` breaks the ledger on purpose."""
    fields: dict[str, Any] = {"client": client, "raw": raw, "modelled": modelled}
    if change is not None:
        fields["change"] = staticmethod(change)
    return type("LedgerMachine", (LedgerMachine,), fields)
