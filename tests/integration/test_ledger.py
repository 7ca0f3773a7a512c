"""What the ledger promises, asked of the real scripts in a real Redis."""

import pytest
import redis
from builders import a_generation_spec, a_training_spec

from aigc_core.errors import NotFound, Unavailable
from aigc_core.jobs.ledger import ERRORS_MAX, LOSSES_MAX
from aigc_core.jobs.records import FINALISE, ChunkReport, Lease
from aigc_core.jobs.redis_ledger import RedisLedger, connect
from aigc_core.jobs.states import JobState, LeaseState


def submit(ledger: RedisLedger, **fields: object) -> int:
    return ledger.submit("job", a_generation_spec(**fields), idempotency_key="key")[1]


def claim(ledger: RedisLedger, lease_seconds: float = 60) -> Lease:
    lease = ledger.claim("job", worker="w", lease_seconds=lease_seconds)
    assert lease is not None
    return lease


def expire(ledger: RedisLedger) -> dict[str, int]:
    """Reap until a lease has expired; the tickets of that pass."""
    while not (repair := ledger.reap(queued={})).expired:
        pass
    return repair.tickets


def test_every_chunk_is_handed_out_once_then_the_finalising(ledger: RedisLedger) -> None:
    # given a job of three chunks
    submit(ledger, count=300)
    # when every claim is completed
    chunks = []
    for _ in range(4):
        lease = claim(ledger)
        chunks.append(lease.chunk)
        items = 44 if lease.chunk == 2 else 128
        final = JobState.COMPLETED if lease.chunk == FINALISE else None
        report = ChunkReport(completed=0 if final else items, payload_bytes=10, final_state=final)
        assert ledger.complete(lease, report).accepted
    # then each came once, the job is final, and nothing is left to claim
    assert chunks == [0, 1, 2, FINALISE]
    job = ledger.job("job")
    assert (job.state, job.counts.completed, job.counts.open) == (JobState.COMPLETED, 300, 0)
    assert ledger.claim("job", worker="w", lease_seconds=60) is None


def test_the_same_idempotency_key_gives_the_same_job_and_no_tickets(ledger: RedisLedger) -> None:
    assert ledger.submit("one", a_generation_spec(), idempotency_key="k") == ("one", 8)
    assert ledger.submit("two", a_generation_spec(), idempotency_key="k") == ("one", 0)
    with pytest.raises(NotFound):
        ledger.job("two")


def test_a_job_has_at_most_window_leases_and_tickets_out(redis_client: redis.Redis) -> None:
    ledger = RedisLedger(redis_client, window=2)
    assert submit(ledger, count=10_000_000) == 2
    first, _ = claim(ledger), claim(ledger)
    assert ledger.claim("job", worker="w", lease_seconds=60) is None
    assert ledger.complete(first, ChunkReport(completed=128)).next_ticket


def test_an_expired_lease_lets_another_worker_claim_the_chunk_and_refuses_the_first(ledger: RedisLedger) -> None:
    # given a lease that has run out
    submit(ledger, count=100)
    stale = claim(ledger, lease_seconds=0.01)
    assert expire(ledger) == {"job": 1}
    # when another worker claims
    fresh = claim(ledger)
    # then it has the same chunk under a higher token, and the first can write nothing
    assert (fresh.chunk, fresh.attempt) == (stale.chunk, 2)
    assert fresh.token > stale.token
    assert ledger.renew(stale, lease_seconds=60) is LeaseState.LOST
    assert not ledger.complete(stale, ChunkReport(completed=100)).accepted
    assert ledger.fail(stale, "late", delay_seconds=0, fatal=False) == ("lost", False)
    assert ledger.job("job").counts.completed == 0
    assert ledger.complete(fresh, ChunkReport(completed=100)).accepted


def test_a_token_is_never_lower_than_one_before_a_rollback(ledger: RedisLedger, redis_client: redis.Redis) -> None:
    submit(ledger)
    before = claim(ledger)
    redis_client.hset("aigc:job:job", "token", "0")  # as a Redis that lost its last second would have it
    assert claim(ledger).token > before.token


def test_a_chunk_whose_worker_always_vanishes_is_discarded_and_counted(ledger: RedisLedger) -> None:
    submit(ledger, count=100)
    for _ in range(LOSSES_MAX):
        claim(ledger, lease_seconds=0.01)
        expire(ledger)
    job = ledger.job("job")
    assert (job.chunks_discarded, job.counts.failed, job.attempts_lost) == (1, 100, LOSSES_MAX)
    assert "vanished" in job.last_error
    assert claim(ledger).chunk == FINALISE


def test_an_error_is_retried_until_the_limit_and_then_counted_as_failed(ledger: RedisLedger) -> None:
    submit(ledger, count=200)
    results = [ledger.fail(claim(ledger), "boom", delay_seconds=0, fatal=False)[0] for _ in range(ERRORS_MAX)]
    assert results == ["retried"] * (ERRORS_MAX - 1) + ["discarded"]
    assert ledger.job("job").counts.failed == 128
    assert claim(ledger).chunk == 1


def test_a_failed_chunk_rests_before_it_is_claimed_again(ledger: RedisLedger) -> None:
    submit(ledger, count=100)
    assert ledger.fail(claim(ledger), "boom", delay_seconds=60, fatal=False) == ("retried", False)
    assert ledger.claim("job", worker="w", lease_seconds=60) is None


def test_a_fatal_error_ends_the_job_after_the_chunks_in_work(ledger: RedisLedger) -> None:
    submit(ledger)
    wrong, other = claim(ledger), claim(ledger)
    assert ledger.fail(wrong, "no such signature", delay_seconds=0, fatal=True)[0] == "aborted"
    assert ledger.renew(other, lease_seconds=60) is LeaseState.CANCELLED
    assert ledger.claim("job", worker="w", lease_seconds=60) is None
    ledger.release(other, delay_seconds=0, waiting_for="")
    assert claim(ledger).chunk == FINALISE


def test_waiting_for_a_server_spends_no_attempt_and_says_for_what(ledger: RedisLedger) -> None:
    # given a chunk that was handed back because a server is away
    submit(ledger, count=100)
    ledger.release(claim(ledger), delay_seconds=0.05, waiting_for="the model server")
    assert ledger.job("job").waiting_for == "the model server"
    assert ledger.claim("job", worker="w", lease_seconds=60) is None
    # when the rest is over
    while (lease := ledger.claim("job", worker="w", lease_seconds=60)) is None:
        pass
    # then the same chunk comes as the first attempt, and its end clears the reason
    assert (lease.chunk, lease.attempt) == (0, 1)
    ledger.complete(lease, ChunkReport(completed=100))
    assert ledger.job("job").waiting_for == ""


def test_cancel_stops_the_work_keeps_what_was_made_and_leads_to_the_finalising(ledger: RedisLedger) -> None:
    submit(ledger, count=1_000)
    ledger.complete(claim(ledger), ChunkReport(completed=128))
    running = claim(ledger)
    ledger.cancel("job")
    assert ledger.renew(running, lease_seconds=60) is LeaseState.CANCELLED
    ledger.release(running, delay_seconds=0, waiting_for="")
    last = claim(ledger)
    assert last.chunk == FINALISE
    assert ledger.renew(last, lease_seconds=60) is LeaseState.HELD
    ledger.complete(last, ChunkReport(final_state=JobState.CANCELLED))
    job = ledger.job("job")
    assert (job.state, job.counts.completed) == (JobState.CANCELLED, 128)


def test_lost_tickets_are_published_again_but_waiting_ones_are_not(ledger: RedisLedger) -> None:
    tickets = submit(ledger)
    assert ledger.reap(queued={"generation": tickets}).tickets == {}
    while not (repair := ledger.reap(queued={"generation": 0})).tickets:
        pass  # until ticket_seconds have passed without a sign of them
    assert repair.tickets == {"job": tickets}


def test_two_reapers_count_a_lost_worker_once(ledger: RedisLedger) -> None:
    submit(ledger, count=100)
    claim(ledger, lease_seconds=0.01)
    expire(ledger)
    assert ledger.reap(queued={}).expired == 0
    assert ledger.job("job").attempts_lost == 1


def test_a_training_job_is_one_chunk_and_keeps_its_progress(ledger: RedisLedger) -> None:
    assert ledger.submit("t", a_training_spec(), idempotency_key="t") == ("t", 1)
    lease = ledger.claim("t", worker="w", lease_seconds=60)
    assert lease is not None
    ledger.progress(lease, {"step": 7})
    assert ledger.job("t").progress == {"step": 7}
    assert [event.type for event in ledger.events(after="0", wait_seconds=0.1)][-1] == "training.progress"


def test_a_slot_of_a_schedule_is_taken_once(ledger: RedisLedger) -> None:
    assert [ledger.claim_slot("retrain", "7"), ledger.claim_slot("retrain", "7")] == [True, False]


def test_an_unreachable_redis_is_unavailable_and_the_text_says_what_to_check() -> None:
    ledger = RedisLedger(connect("redis://127.0.0.1:1/0"))
    with pytest.raises(Unavailable, match="AIGC_REDIS_URL"):
        ledger.ping()
