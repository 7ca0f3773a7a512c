"""What must hold of the ledger in Redis between any two moves, read from its keys and not from its own answers.

The key table is the first comment of aigc_core/jobs/lua/prelude.lua.
"""

from dataclasses import dataclass, field

import redis

from aigc_core.jobs.order import LANES
from aigc_core.jobs.states import JobKind, JobState

PARTS = ("leases", "again", "done", "dead", "tries")


@dataclass(slots=True)
class JobKeys:
    """One job as its keys tell it."""

    id: str
    fields: dict[str, str]
    leases: dict[int, str] = field(default_factory=dict)
    again: dict[int, float] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)

    def number(self, name: str) -> int:
        return int(float(self.fields.get(name) or 0))

    @property
    def is_final(self) -> bool:
        return JobState(self.fields["state"]).is_final

    @property
    def open_items(self) -> int:
        return 0 if self.is_final else self.number("total") - self.number("completed") - self.number("failed")

    @property
    def ends(self) -> bool:
        return bool(self.fields.get("stop")) or len(self.done) + len(self.dead) >= self.number("chunk_count")

    def claimable(self, at: float) -> bool:
        """Whether a claim could give one of its chunks, or its finalising, were its team not capped."""
        rests = float(self.fields.get("not_before") or 0) > at
        if self.is_final or rests:
            return False
        if self.ends:
            return not self.leases and self.fields["kind"] == JobKind.GENERATION
        if self.fields.get("paused") == "1" or len(self.leases) >= self.number("window"):
            return False
        due = sum(when <= at for when in self.again.values())
        beyond = sum(chunk not in self.done for chunk in range(self.number("cursor"), self.number("chunk_count")))
        return due + beyond > 0


@dataclass(slots=True)
class LedgerKeys:
    """All of the ledger, read at once."""

    at: float
    jobs: dict[str, JobKeys]
    teams: dict[str, dict[str, str]]
    lines: dict[str, dict[str, float]]  # every sorted set, by key
    sets: dict[str, set[str]]
    claims: dict[str, str]


def read_keys(client: redis.Redis, at: float) -> LedgerKeys:
    """Everything, in two round trips."""
    keys = [key for key in client.keys("aigc:*") if not key.startswith(("aigc:events", "aigc:audit", "aigc:idempotency"))]
    pipeline = client.pipeline(transaction=False)
    reads = {
        "hash": pipeline.hgetall,
        "zset": lambda key: pipeline.zrange(key, 0, -1, withscores=True),
        "set": pipeline.smembers,
    }
    kinds = {}
    for key in keys:
        kinds[key] = kind_of(key)
        if kinds[key] == "bitmap":
            pipeline.execute_command("GET", key, NEVER_DECODE=True)
        elif kinds[key] in reads:
            reads[kinds[key]](key)
        else:
            pipeline.exists(key)
    found = dict(zip(keys, pipeline.execute(), strict=True))
    jobs = {key[9:]: JobKeys(key[9:], found[key]) for key in keys if key.startswith("aigc:job:") and key.count(":") == 2}
    for job_id, job in jobs.items():
        prefix = f"aigc:job:{job_id}:"
        job.leases = {int(chunk): text for chunk, text in found.get(prefix + "leases", {}).items()}
        job.again = {int(chunk): when for chunk, when in found.get(prefix + "again", [])}
        job.done = bits(found.get(prefix + "done") or b"")
        job.dead = set(map(int, found.get(prefix + "dead", {})))
    return LedgerKeys(
        at=at,
        jobs=jobs,
        teams={key[10:]: found[key] for key in keys if key.startswith("aigc:team:")},
        lines={key: dict(found[key]) for key in keys if kinds[key] == "zset"},
        sets={key: found[key] for key in keys if kinds[key] == "set"},
        claims=found.get("aigc:claims", {}),
    )


def kind_of(key: str) -> str:
    """The type of a key by its name, as the key table has it."""
    last = key.rsplit(":", 1)[-1]
    if key.startswith("aigc:job:") and key.count(":") == 3:
        return {"done": "bitmap", "again": "zset", "recent": "list"}.get(last, "hash")
    if key.startswith(("aigc:job:", "aigc:team:")) or key in ("aigc:claims", "aigc:limits"):
        return "hash"
    if key in ("aigc:live", "aigc:dead", "aigc:draining"):
        return "set"
    return "string" if key.startswith(("aigc:clock:", "aigc:slot:")) else "zset"


def bits(raw: bytes) -> set[int]:
    """The numbers of the bits that are set, highest bit of the first byte first."""
    return {8 * place + bit for place, byte in enumerate(raw) for bit in range(8) if byte & (0x80 >> bit)}


def check(keys: LedgerKeys) -> None:
    """AssertionError with what is wrong."""
    for job in keys.jobs.values():
        check_chunks(job)
        check_places(keys, job)
    check_leases(keys)
    check_teams(keys)


def check_chunks(job: JobKeys) -> None:
    """Every chunk is in one place, and the counts are those of the places."""
    count, cursor = job.number("chunk_count"), job.number("cursor")
    leased = set(job.leases) - {-1}
    places = [job.done, job.dead, leased, set(job.again)]
    handed_out = set().union(*places)
    assert sum(map(len, places)) == len(handed_out), f"{job.id}: a chunk is in two places: {places}"
    assert handed_out <= set(range(count)), f"{job.id}: chunks {handed_out} of {count}"
    untouched = set(range(count)) - handed_out
    assert untouched == {c for c in range(cursor, count) if c not in job.done}, (
        f"{job.id}: lost or early: {untouched}, {cursor}"
    )
    assert (job.number("done"), job.number("discarded")) == (len(job.done), len(job.dead)), f"{job.id}: {job.fields}"
    assert job.number("completed") + job.number("failed") <= job.number("total"), f"{job.id}: {job.fields}"
    assert len(job.leases) <= job.number("window"), f"{job.id}: {job.leases}"


def check_places(keys: LedgerKeys, job: JobKeys) -> None:
    """A job is in exactly the lines and lists in which it belongs."""
    kind, team = job.fields["kind"], job.fields["team"]
    lines = [name for name, members in keys.lines.items() if name.startswith("aigc:ready:") and job.id in members]
    own = f"aigc:ready:{kind}:{job.fields['lane']}:{team}"
    assert (job.id in keys.sets.get("aigc:live", ())) == (not job.is_final), f"{job.id}: {job.fields['state']}"
    assert (job.id in keys.lines.get("aigc:final", {})) == job.is_final, f"{job.id}: {job.fields['state']}"
    assert (job.id in keys.sets.get("aigc:dead", ())) == bool(job.dead), f"{job.id}: {job.dead}"
    if job.is_final:
        waits = [
            name for name in ("aigc:expiries", "aigc:deadlines", f"aigc:later:{kind}") if job.id in keys.lines.get(name, {})
        ]
        assert not lines + waits, f"{job.id} is final and waits in {lines + waits}"
        assert not job.leases, f"{job.id} is final with leases {job.leases}"
        return
    woken = keys.lines.get(f"aigc:later:{kind}", {}).get(job.id)
    if job.claimable(keys.at):
        assert lines == [own] or (woken is not None and woken <= keys.at), (
            f"{job.id} is claimable and waits in {lines}, {woken}"
        )
    else:
        assert not lines, f"{job.id} is not claimable and waits in {lines}"
    if lines:
        expected = 0 if job.ends else float(job.fields["rank"])
        assert keys.lines[own][job.id] == expected, f"{job.id}: rank {keys.lines[own][job.id]}, expected {expected}"
    rests = max([float(job.fields.get("not_before") or 0), *(sorted(job.again.values())[:1] if not job.ends else [])])
    stopped = job.fields.get("paused") == "1" and not job.ends
    if not (lines or job.leases or stopped):
        assert woken is not None, f"{job.id} waits for nobody: not before {rests}, again {job.again}"
    if not job.fields.get("stop"):
        assert job.id in keys.lines.get("aigc:expiries", {}), f"{job.id} never expires"


def check_leases(keys: LedgerKeys) -> None:
    """The index of leases and the record of claims say what the jobs say."""
    held = {f"{job.id} {chunk}": text.split() for job in keys.jobs.values() for chunk, text in job.leases.items()}
    assert set(keys.lines.get("aigc:leases", {})) == set(held), f"{keys.lines.get('aigc:leases')} {held}"
    assert keys.claims == {text[2]: member for member, text in held.items()}, f"{keys.claims} {held}"
    for member, (token, *_) in held.items():
        newest = keys.jobs[member.split()[0]].number("token")
        assert int(token) <= newest, f"lease {member} has token {token}, the job's newest is {newest}"


def check_teams(keys: LedgerKeys) -> None:
    """What a team has waiting and in work are sums over its jobs, and it stands in the lines in which it belongs."""
    for name, fields in keys.teams.items():
        own = [job for job in keys.jobs.values() if job.fields["team"] == name]
        queued = sum(job.open_items for job in own)
        assert int(fields.get("queued") or 0) == queued, f"team {name}: {fields}, its jobs have {queued} open"
        for kind in JobKind:
            running = sum(len(job.leases) for job in own if job.fields["kind"] == kind)
            assert int(fields.get(f"running:{kind}") or 0) == running, f"team {name}: {fields}, its jobs run {running}"
            cap = int(float(fields.get("running_max") or 0))
            capped = 0 < cap <= running
            for lane in LANES:
                line = f"aigc:ready:{kind}:{lane}"
                waits = f"{line}:{name}" in keys.lines and not capped
                assert (name in keys.lines.get(line, {})) == waits, (
                    f"team {name} in {line}: {keys.lines.get(line)}, {fields}"
                )
