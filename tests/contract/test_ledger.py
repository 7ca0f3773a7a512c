"""One suite over both ledgers: in memory, and the real scripts in a real Redis. Time moves when a test says so."""

from collections import Counter

import pytest
from builders import a_generation_spec, a_training_spec
from ledgers import BY, TimedLedger, in_memory, in_redis
from servers import redis_servers

from aigc_core.errors import AlreadyOrdered, InvalidSpec, NotFound, QuotaExceeded
from aigc_core.jobs.ledger import ERRORS_MAX, EXPIRY_SECONDS, LOSSES_MAX
from aigc_core.jobs.records import FINALISE, ChunkReport, TeamLimits
from aigc_core.jobs.states import JobKind, JobState, LeaseState


@pytest.fixture(params=["memory", *redis_servers()])
def timed(request: pytest.FixtureRequest) -> TimedLedger:
    return in_memory() if request.param == "memory" else in_redis(request.getfixturevalue("redis_clients")[request.param])


def submit(timed: TimedLedger, job_id: str = "job", **fields: object) -> int:
    return timed.ledger.submit(job_id, a_generation_spec(**fields), idempotency_key=job_id).tickets


def end(timed: TimedLedger, job_id: str = "job", **fields: object) -> None:
    """Run a fresh job to its end."""
    submit(timed, job_id, **fields)
    while (lease := timed.claim()) is not None:
        timed.finalised(lease, JobState.COMPLETED) if lease.chunk == FINALISE else timed.made(lease)


# Handing out


def test_every_chunk_is_handed_out_once_then_the_finalising(timed: TimedLedger) -> None:
    submit(timed, count=300)
    chunks = []
    for items in (128, 128, 44):
        lease = timed.claimed()
        chunks.append(lease.chunk)
        assert timed.made(lease, items)
    last = timed.claimed()
    assert timed.finalised(last, JobState.COMPLETED)
    assert [*chunks, last.chunk] == [0, 1, 2, FINALISE]
    job = timed.ledger.job("job")
    assert (job.state, job.counts.completed, job.counts.open) == (JobState.COMPLETED, 300, 0)
    assert timed.ledger.done_chunks("job") == {0, 1, 2}
    assert timed.claim() is None


def test_a_job_has_at_most_window_leases(redis_client: object) -> None:
    for timed in (in_memory(window=2), in_redis(redis_client, window=2)):  # type: ignore[arg-type]
        assert submit(timed, count=10_000_000) == 2
        first = timed.claimed()
        timed.claimed()
        assert timed.claim() is None
        assert timed.ledger.complete(first, ChunkReport(completed=128)).more


def test_an_order_of_a_kind_is_claimed_by_that_kind_only(timed: TimedLedger) -> None:
    submit(timed)
    timed.ledger.submit("t", a_training_spec(), idempotency_key="t")
    assert timed.claimed(JobKind.TRAINING).job_id == "t"
    assert timed.claim(JobKind.TRAINING) is None
    assert timed.claimed().job_id == "job"


def test_a_job_with_a_start_is_scheduled_until_then(timed: TimedLedger) -> None:
    assert submit(timed, start_at=timed.now() + 100) == 0
    assert timed.ledger.job("job").state is JobState.SCHEDULED
    assert timed.claim() is None
    timed.pass_time(100)
    assert timed.ledger.reap().claimable[JobKind.GENERATION] == 8
    assert timed.ledger.job("job").state is JobState.AVAILABLE
    assert timed.claimed().waited_seconds == pytest.approx(0, abs=1e-3)


# Leases and fencing


def test_an_expired_lease_lets_another_worker_claim_the_chunk_and_refuses_the_first(timed: TimedLedger) -> None:
    submit(timed, count=100)
    stale = timed.claimed(seconds=10)
    timed.pass_time(11)
    repair = timed.ledger.reap()
    assert (repair.expired, repair.claimable[JobKind.GENERATION]) == (1, 1)
    fresh = timed.claimed()
    assert (fresh.chunk, fresh.attempt) == (stale.chunk, 2)
    assert fresh.token > stale.token
    assert timed.ledger.renew(stale, lease_seconds=60) is LeaseState.LOST
    assert not timed.made(stale, 100)
    assert timed.ledger.fail(stale, "late", fingerprint="f", delay_seconds=0, fatal=False).result == "lost"
    assert timed.ledger.snooze(stale, delay_seconds=9, waiting_for="x").result == "lost"
    timed.ledger.progress(stale, {"step": 1})
    job = timed.ledger.job("job")
    assert (job.counts.completed, job.attempts_error, job.waiting_for, job.progress) == (0, 0, "", {})
    assert timed.made(fresh, 100)


def test_a_renewed_lease_does_not_expire(timed: TimedLedger) -> None:
    submit(timed, count=100)
    lease = timed.claimed(seconds=10)
    for _ in range(5):
        timed.pass_time(8)
        assert timed.ledger.renew(lease, lease_seconds=10) is LeaseState.HELD
        assert timed.ledger.reap().expired == 0
    assert timed.made(lease, 100)


def test_two_reapers_count_a_lost_worker_once(timed: TimedLedger) -> None:
    submit(timed, count=100)
    timed.claimed(seconds=1)
    timed.pass_time(2)
    assert [timed.ledger.reap().expired, timed.ledger.reap().expired] == [1, 0]
    assert timed.ledger.job("job").attempts_lost == 1


def test_a_move_that_is_sent_twice_has_one_effect_and_one_answer(timed: TimedLedger) -> None:
    submit(timed, count=500)
    done, failed, snoozed = timed.claimed(), timed.claimed(), timed.claimed()
    answers = [timed.ledger.complete(done, ChunkReport(completed=128)) for _ in range(2)]
    assert [answer.accepted for answer in answers] == [True, True]
    answers = [timed.ledger.fail(failed, "e", fingerprint="f", delay_seconds=0, fatal=False) for _ in range(2)]
    assert [answer.result for answer in answers] == ["retried", "retried"]
    answers = [timed.ledger.snooze(snoozed, delay_seconds=0, waiting_for="") for _ in range(2)]
    assert [answer.result for answer in answers] == ["ok", "ok"]
    job = timed.ledger.job("job")
    assert (job.counts.completed, job.chunks_done, job.attempts_error, job.chunks_running) == (128, 1, 1, 0)


# Errors and lost workers


def test_an_error_is_retried_until_the_limit_and_then_counted_as_failed(timed: TimedLedger) -> None:
    submit(timed, count=200)
    results = []
    for _ in range(ERRORS_MAX):
        ended = timed.ledger.fail(timed.claimed(), "boom", fingerprint="f", delay_seconds=0, fatal=False)
        results.append((ended.result, ended.items_given_up))
    assert results == [("retried", 0)] * (ERRORS_MAX - 1) + [("discarded", 128)]
    job = timed.ledger.job("job")
    assert (job.counts.failed, job.chunks_discarded, job.last_error) == (128, 1, "boom")
    assert timed.claimed().chunk == 1


def test_a_chunk_whose_worker_always_vanishes_is_discarded_and_counted(timed: TimedLedger) -> None:
    submit(timed, count=100)
    given_up = 0
    for _ in range(LOSSES_MAX):
        timed.claimed(seconds=1)
        timed.pass_time(2)
        given_up += timed.ledger.reap().items_given_up
    job = timed.ledger.job("job")
    assert (given_up, job.chunks_discarded, job.counts.failed, job.attempts_lost) == (100, 1, 100, LOSSES_MAX)
    assert "vanished" in job.last_error
    assert timed.claimed().chunk == FINALISE


def test_errors_and_lost_workers_are_counted_apart(timed: TimedLedger) -> None:
    submit(timed, count=100)
    for _ in range(LOSSES_MAX - 1):
        timed.claimed(seconds=1)
        timed.pass_time(2)
        timed.ledger.reap()
    ended = timed.ledger.fail(timed.claimed(), "e", fingerprint="f", delay_seconds=0, fatal=False)
    assert ended.result == "retried"
    assert timed.claimed().attempt == LOSSES_MAX + 1


def test_a_failed_chunk_rests_before_it_is_claimed_again(timed: TimedLedger) -> None:
    submit(timed, count=100)
    ended = timed.ledger.fail(timed.claimed(), "boom", fingerprint="f", delay_seconds=60, fatal=False)
    assert (ended.result, ended.more) == ("retried", False)
    assert timed.claim() is None
    timed.pass_time(61)
    assert timed.claimed().attempt == 2


def test_a_fatal_error_ends_the_job_after_the_chunks_in_work(timed: TimedLedger) -> None:
    submit(timed)
    wrong, other = timed.claimed(), timed.claimed()
    ended = timed.ledger.fail(wrong, "no such signature", fingerprint="f", delay_seconds=0, fatal=True)
    assert (ended.result, ended.items_given_up) == ("aborted", 128)
    assert timed.ledger.renew(other, lease_seconds=60) is LeaseState.CANCELLED
    assert timed.claim() is None
    timed.ledger.snooze(other, delay_seconds=0, waiting_for="")
    assert timed.claimed().chunk == FINALISE
    assert timed.ledger.job("job").stop == "aborted"


def test_a_finalising_that_fails_rests_and_ends_the_job_at_the_limit(timed: TimedLedger) -> None:
    submit(timed, count=100)
    timed.made(timed.claimed(), 100)
    for _ in range(ERRORS_MAX):
        timed.pass_time(10)
        timed.ledger.fail(timed.claimed(), "S3", fingerprint="f", delay_seconds=9, fatal=False)
        assert timed.claim() is None
    job = timed.ledger.job("job")
    assert (job.state, job.counts.completed) == (JobState.FAILED, 100)


def test_waiting_for_a_server_spends_no_attempt_and_says_for_what(timed: TimedLedger) -> None:
    submit(timed, count=100)
    timed.ledger.snooze(timed.claimed(), delay_seconds=5, waiting_for="the model server")
    assert timed.ledger.job("job").waiting_for == "the model server"
    assert timed.claim() is None
    timed.pass_time(6)
    lease = timed.claimed()
    assert (lease.chunk, lease.attempt) == (0, 1)
    timed.made(lease, 100)
    assert timed.ledger.job("job").waiting_for == ""


# Submit


def test_the_same_idempotency_key_gives_the_same_job_and_no_tickets(timed: TimedLedger) -> None:
    first = timed.ledger.submit("one", a_generation_spec(), idempotency_key="k")
    second = timed.ledger.submit("two", a_generation_spec(), idempotency_key="k")
    assert (first.job_id, first.is_new, first.tickets) == ("one", True, 8)
    assert (second.job_id, second.is_new, second.tickets) == ("one", False, 0)
    with pytest.raises(NotFound):
        timed.ledger.job("two")


def test_an_idempotency_key_belongs_to_a_team_and_a_kind(timed: TimedLedger) -> None:
    timed.ledger.submit("one", a_generation_spec(), idempotency_key="k")
    assert timed.ledger.submit("two", a_generation_spec(team="b"), idempotency_key="k").job_id == "two"
    assert timed.ledger.submit("three", a_training_spec(), idempotency_key="k").job_id == "three"


def test_a_known_key_with_another_order_is_refused(timed: TimedLedger) -> None:
    timed.ledger.submit("one", a_generation_spec(), idempotency_key="k")
    with pytest.raises(AlreadyOrdered, match="another order"):
        timed.ledger.submit("two", a_generation_spec(count=7), idempotency_key="k")


def test_an_order_that_is_repeated_with_later_times_is_the_same_order(timed: TimedLedger) -> None:
    timed.ledger.submit("one", a_generation_spec(expires_at=timed.now() + 60), idempotency_key="k")
    timed.pass_time(5)
    again = a_generation_spec(expires_at=timed.now() + 60)
    assert timed.ledger.submit("two", again, idempotency_key="k").job_id == "one"


def test_a_submit_that_is_sent_twice_makes_one_job(timed: TimedLedger) -> None:
    answers = [timed.ledger.submit("one", a_generation_spec(), idempotency_key="one") for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(timed.ledger.jobs(count_max=9)) == 1


def test_a_quota_takes_an_order_whole_or_not_at_all(timed: TimedLedger) -> None:
    timed.ledger.set_team("default", TeamLimits(queued_max=1_500), BY)
    submit(timed, "one", count=1_000)
    with pytest.raises(QuotaExceeded, match="1000"):
        submit(timed, "two", count=501)
    submit(timed, "three", count=500)
    assert timed.ledger.teams()[0].queued == 1_500
    timed.made(timed.claimed())
    submit(timed, "four", count=128)


def test_the_queue_takes_no_more_jobs_than_it_may(timed: TimedLedger) -> None:
    timed.ledger.set_jobs_max(1, BY)
    submit(timed, "one")
    with pytest.raises(QuotaExceeded):
        submit(timed, "two")


def test_what_a_team_has_waiting_falls_to_nothing_whatever_became_of_it(timed: TimedLedger) -> None:
    end(timed, "done", count=300)
    submit(timed, "cancelled", count=300)
    timed.made(timed.claimed())
    timed.ledger.cancel("cancelled", BY)
    timed.finalised(timed.claimed(), JobState.CANCELLED)
    submit(timed, "failed", count=100)
    for _ in range(ERRORS_MAX):
        timed.ledger.fail(timed.claimed(), "e", fingerprint="f", delay_seconds=0, fatal=False)
    timed.finalised(timed.claimed(), JobState.FAILED)
    assert [(team.queued, team.running["generation"]) for team in timed.ledger.teams()] == [(0, 0)]


# Fairness


def shares(timed: TimedLedger, claims: int) -> Counter[str]:
    """Who gets the next chunks, each done at once."""
    found: Counter[str] = Counter()
    for _ in range(claims):
        lease = timed.claimed()
        found[timed.ledger.job(lease.job_id).team] += 1
        timed.made(lease)
    return found


def test_teams_share_by_their_weights(timed: TimedLedger) -> None:
    timed.ledger.set_team("a", TeamLimits(weight=1), BY)
    timed.ledger.set_team("b", TeamLimits(weight=3), BY)
    submit(timed, "one", count=1_000_000, team="a")
    submit(timed, "two", count=1_000_000, team="b")
    assert shares(timed, 400) == pytest.approx({"a": 100, "b": 300}, abs=2)


def test_a_team_that_comes_late_is_served_at_once_and_has_saved_nothing_up(timed: TimedLedger) -> None:
    submit(timed, "one", count=1_000_000, team="a")
    shares(timed, 100)
    submit(timed, "two", count=1_000_000, team="b")
    assert "b" in shares(timed, 2)
    assert shares(timed, 100) == pytest.approx({"a": 50, "b": 50}, abs=2)


def test_a_smaller_number_of_priority_goes_first_and_waiting_makes_up_for_it(timed: TimedLedger) -> None:
    submit(timed, "old", priority=9)
    timed.pass_time(60)
    submit(timed, "urgent", priority=0)
    assert timed.claimed().job_id == "urgent"
    timed.ledger.cancel("urgent", BY)
    timed.pass_time(9 * 600)
    submit(timed, "new", priority=0)
    assert timed.claimed().job_id == "old"


def test_a_near_deadline_goes_before_an_urgent_order(timed: TimedLedger) -> None:
    submit(timed, "urgent", priority=0)
    submit(timed, "due", priority=9, deadline_at=timed.now() + 1_800)
    assert timed.claimed().job_id == "due"
    timed.pass_time(1_801)
    timed.ledger.reap()
    missed = [
        event.job_id for event in timed.ledger.events(after="0", wait_seconds=0) if event.type == "job.deadline_missed"
    ]
    assert missed == ["due"]


def test_a_priority_that_is_changed_changes_the_order(timed: TimedLedger) -> None:
    submit(timed, "one")
    timed.pass_time(1)
    submit(timed, "two")
    timed.ledger.prioritise("two", 1, BY)
    assert timed.claimed().job_id == "two"
    with pytest.raises(InvalidSpec, match="0 to 9"):
        timed.ledger.prioritise("two", 12, BY)


def test_a_cap_on_a_teams_chunks_leaves_the_rest_to_others(timed: TimedLedger) -> None:
    timed.ledger.set_team("a", TeamLimits(running_max=2), BY)
    submit(timed, "one", team="a")
    leases = [timed.claimed(), timed.claimed()]
    assert timed.claim() is None
    submit(timed, "two", team="b")
    assert timed.claimed().job_id == "two"
    timed.made(leases[0])
    assert {timed.claimed().job_id for _ in range(2)} == {"one", "two"}


def test_a_cap_on_a_teams_chunks_holds_over_both_lanes(timed: TimedLedger) -> None:
    timed.ledger.set_team("a", TeamLimits(running_max=1), BY)
    submit(timed, "one", team="a", count=100)
    submit(timed, "two", team="a", count=100, lane="background")
    lease = timed.claimed()
    assert timed.claim() is None
    timed.made(lease, 100)
    timed.finalised(timed.claimed(), JobState.COMPLETED)
    assert timed.claimed().job_id == "two"


def test_the_background_lane_gives_way_at_its_next_chunk(timed: TimedLedger) -> None:
    submit(timed, "background", lane="background")
    assert timed.claimed().job_id == "background"
    submit(timed, "normal", count=256)
    assert [timed.claimed().job_id for _ in range(3)] == ["normal", "normal", "background"]


# Controls


def test_cancel_stops_the_work_keeps_what_was_made_and_leads_to_the_finalising(timed: TimedLedger) -> None:
    submit(timed, count=1_000)
    timed.made(timed.claimed())
    running = timed.claimed()
    timed.ledger.cancel("job", BY)
    assert timed.ledger.renew(running, lease_seconds=60) is LeaseState.CANCELLED
    timed.ledger.snooze(running, delay_seconds=0, waiting_for="")
    last = timed.claimed()
    assert last.chunk == FINALISE
    assert timed.ledger.renew(last, lease_seconds=60) is LeaseState.HELD
    timed.finalised(last, JobState.CANCELLED)
    job = timed.ledger.job("job")
    assert (job.state, job.counts.completed, job.stop) == (JobState.CANCELLED, 128, "cancelled")


def test_a_soft_cancel_lets_chunks_in_work_be_finished_and_can_be_made_hard(timed: TimedLedger) -> None:
    submit(timed, count=1_000)
    lease = timed.claimed()
    timed.ledger.cancel("job", BY, hard=False)
    assert timed.ledger.renew(lease, lease_seconds=60) is LeaseState.HELD
    assert timed.claim() is None
    timed.ledger.cancel("job", BY, hard=True)
    assert timed.ledger.renew(lease, lease_seconds=60) is LeaseState.CANCELLED
    assert timed.made(lease)
    assert timed.claimed().chunk == FINALISE


def test_a_training_that_is_cancelled_before_it_began_ends_without_a_worker(timed: TimedLedger) -> None:
    timed.ledger.submit("t", a_training_spec(), idempotency_key="t")
    timed.ledger.cancel("t", BY)
    assert timed.ledger.job("t").state is JobState.CANCELLED
    assert timed.claim(JobKind.TRAINING) is None


def test_a_training_ends_with_its_one_chunk(timed: TimedLedger) -> None:
    for job_id, result in (("good", "completed"), ("bad", "failed")):
        timed.ledger.submit(job_id, a_training_spec(), idempotency_key=job_id)
        lease = timed.claimed(JobKind.TRAINING)
        timed.ledger.progress(lease, {"step": 7})
        if result == "completed":
            timed.made(lease, 1)
        else:
            timed.ledger.fail(lease, "no", fingerprint="f", delay_seconds=0, fatal=True)
        job = timed.ledger.job(job_id)
        assert (job.state, job.progress) == (result, {"step": 7})


def test_pause_hands_out_nothing_and_lets_work_finish_until_resume(timed: TimedLedger) -> None:
    submit(timed)
    lease = timed.claimed()
    timed.ledger.pause("job", BY)
    assert timed.claim() is None
    assert timed.ledger.reap().claimable[JobKind.GENERATION] == 0
    assert timed.made(lease)
    assert timed.ledger.job("job").paused
    assert timed.ledger.resume("job", BY)
    assert timed.claimed().chunk == 1


def test_a_paused_job_with_a_start_is_available_from_then_on(timed: TimedLedger) -> None:
    submit(timed, start_at=timed.now() + 100)
    timed.ledger.pause("job", BY)
    timed.pass_time(100)
    timed.ledger.reap()
    assert timed.ledger.job("job").state is JobState.AVAILABLE
    assert timed.claim() is None


def test_a_paused_job_can_be_cancelled(timed: TimedLedger) -> None:
    submit(timed)
    timed.ledger.pause("job", BY)
    timed.ledger.cancel("job", BY)
    assert timed.claimed().chunk == FINALISE


def test_a_draining_worker_gets_nothing_new(timed: TimedLedger) -> None:
    submit(timed)
    timed.ledger.drain("w", BY)
    assert timed.claim() is None
    assert timed.ledger.is_draining("w")
    assert timed.ledger.claim(JobKind.GENERATION, worker="other", lease_seconds=9) is not None
    timed.ledger.drain("w", BY, draining=False)
    assert timed.claim() is not None


def test_an_expired_order_keeps_what_was_made(timed: TimedLedger) -> None:
    submit(timed, count=1_000, expires_at=timed.now() + 100)
    timed.made(timed.claimed())
    running = timed.claimed(seconds=1_000)
    timed.pass_time(101)
    assert timed.ledger.reap().jobs_expired == 1
    assert timed.ledger.renew(running, lease_seconds=60) is LeaseState.CANCELLED
    timed.ledger.snooze(running, delay_seconds=0, waiting_for="")
    assert timed.claimed().chunk == FINALISE
    assert timed.ledger.job("job").stop == "expired"


def test_an_order_that_named_no_end_expires_all_the_same(timed: TimedLedger) -> None:
    submit(timed)
    timed.pass_time(EXPIRY_SECONDS + 1)
    assert timed.ledger.reap().jobs_expired == 1


def discarded(timed: TimedLedger, *fingerprints: str) -> None:
    """A job of as many chunks, each given up with its fingerprint, and finalised."""
    submit(timed, count=128 * len(fingerprints))
    for fingerprint in fingerprints:
        lease = timed.claimed()
        for attempt in range(ERRORS_MAX):
            timed.ledger.fail(lease, f"why {fingerprint}", fingerprint=fingerprint, delay_seconds=0, fatal=False)
            lease = timed.claimed() if attempt < ERRORS_MAX - 1 else lease
    timed.finalised(timed.claimed(), JobState.FAILED)


def discarded_once(timed: TimedLedger) -> None:
    """A job whose only chunk, of 100 pictures, was given up; not finalised."""
    submit(timed, count=100)
    for _ in range(ERRORS_MAX):
        timed.ledger.fail(timed.claimed(), "e", fingerprint="f", delay_seconds=0, fatal=False)


def test_dead_letters_are_listed_with_their_fingerprint_and_reason(timed: TimedLedger) -> None:
    discarded(timed, "aa", "bb")
    letters = [(letter.job_id, letter.chunk, letter.fingerprint, letter.reason) for letter in timed.ledger.dead_letters()]
    assert letters == [("job", 0, "aa", "why aa"), ("job", 1, "bb", "why bb")]
    assert timed.ledger.dead_letters("job") == timed.ledger.dead_letters()


def test_a_retry_makes_what_failed_again_and_the_counts_add_up(timed: TimedLedger) -> None:
    discarded(timed, "aa", "bb", "aa")
    assert timed.ledger.job("job").state is JobState.FAILED
    dry = timed.ledger.retry("job", BY, fingerprint="aa", dry_run=True)
    assert (dry.chunks, dry.items, timed.ledger.job("job").state) == (2, 256, JobState.FAILED)
    retried = timed.ledger.retry("job", BY, fingerprint="aa")
    assert (retried.chunks, retried.items, retried.more) == (2, 256, True)
    for chunk in (0, 2):
        lease = timed.claimed()
        assert (lease.chunk, lease.attempt) == (chunk, 1)
        timed.made(lease)
    timed.finalised(timed.claimed(), JobState.COMPLETED_WITH_ERRORS)
    job = timed.ledger.job("job")
    assert (job.counts.completed, job.counts.failed, job.counts.open) == (256, 128, 0)
    assert timed.ledger.retry("job", BY, fingerprint="cc").chunks == 0


def test_a_retry_can_be_spread_over_time(timed: TimedLedger) -> None:
    discarded(timed, "aa", "aa", "aa")
    timed.ledger.retry("job", BY, chunks_per_second=0.1)
    assert timed.claimed().chunk == 0
    assert timed.claim() is None
    timed.pass_time(10)
    assert timed.claimed().chunk == 1


def test_papers_that_were_overtaken_by_a_retry_do_not_end_the_job(timed: TimedLedger) -> None:
    discarded_once(timed)
    papers = timed.claimed()
    timed.ledger.retry("job", BY)
    assert not timed.finalised(papers, JobState.FAILED)
    assert timed.made(timed.claimed(), 100)
    assert timed.finalised(timed.claimed(), JobState.COMPLETED)


def test_papers_from_before_a_retry_never_end_the_job(timed: TimedLedger) -> None:
    discarded_once(timed)
    papers = timed.claimed()
    timed.ledger.retry("job", BY)
    assert timed.ledger.renew(papers, lease_seconds=60) is LeaseState.LOST
    assert timed.made(timed.claimed(), 100)
    assert not timed.finalised(papers, JobState.FAILED)
    assert timed.finalised(timed.claimed(), JobState.COMPLETED)


def test_a_retry_forgets_how_often_the_finalising_failed(timed: TimedLedger) -> None:
    discarded_once(timed)
    for _ in range(ERRORS_MAX):
        timed.ledger.fail(timed.claimed(), "S3", fingerprint="f", delay_seconds=0, fatal=False)
    timed.ledger.retry("job", BY)
    timed.made(timed.claimed(), 100)
    assert timed.ledger.fail(timed.claimed(), "S3", fingerprint="f", delay_seconds=0, fatal=False).result == "retried"


def test_a_retried_job_expires_all_the_same(timed: TimedLedger) -> None:
    discarded_once(timed)
    timed.finalised(timed.claimed(), JobState.FAILED)
    timed.pass_time(EXPIRY_SECONDS + 1)
    timed.ledger.retry("job", BY)
    assert timed.ledger.reap().jobs_expired == 0
    timed.pass_time(EXPIRY_SECONDS + 1)
    assert timed.ledger.reap().jobs_expired == 1


def test_an_aborted_job_that_is_retried_makes_all_the_rest(timed: TimedLedger) -> None:
    submit(timed, count=300)
    lease, other = timed.claimed(), timed.claimed()
    timed.ledger.fail(lease, "wrong", fingerprint="f", delay_seconds=0, fatal=True)
    timed.ledger.snooze(other, delay_seconds=0, waiting_for="")
    timed.finalised(timed.claimed(), JobState.FAILED)
    timed.ledger.retry("job", BY)
    assert sorted(timed.claimed().chunk for _ in range(3)) == [0, 1, 2]


def test_a_job_whose_papers_failed_can_have_them_put_together_again(timed: TimedLedger) -> None:
    submit(timed, count=100)
    timed.made(timed.claimed(), 100)
    for _ in range(ERRORS_MAX):
        timed.ledger.fail(timed.claimed(), "S3", fingerprint="f", delay_seconds=0, fatal=False)
    assert timed.ledger.job("job").state is JobState.FAILED
    assert timed.ledger.retry("job", BY).more
    last = timed.claimed()
    assert (last.chunk, last.attempt) == (FINALISE, 1)
    assert timed.finalised(last, JobState.COMPLETED)
    assert timed.ledger.teams()[0].queued == 0


def test_a_priority_that_is_changed_keeps_the_rank_of_the_deadline(timed: TimedLedger) -> None:
    submit(timed, "urgent", priority=0)
    submit(timed, "due", deadline_at=timed.now() + 600)
    timed.ledger.prioritise("due", 9, BY)
    assert timed.claimed().job_id == "due"


def test_the_papers_of_a_job_that_never_began_are_no_start(timed: TimedLedger) -> None:
    submit(timed, start_at=timed.now() + 86_400)
    timed.ledger.cancel("job", BY)
    assert timed.claimed().waited_seconds == 0
    assert timed.ledger.job("job").started_at is None


def test_what_was_cancelled_is_not_retried(timed: TimedLedger) -> None:
    submit(timed)
    timed.ledger.cancel("job", BY)
    with pytest.raises(InvalidSpec, match="order it anew"):
        timed.ledger.retry("job", BY)


@pytest.mark.parametrize("move", ["cancel", "pause", "resume", "retry"])
def test_a_move_on_an_unknown_job_is_not_found(timed: TimedLedger, move: str) -> None:
    with pytest.raises(NotFound, match="aigc jobs"):
        getattr(timed.ledger, move)("none", BY)


def test_every_move_of_a_person_is_recorded_once(timed: TimedLedger) -> None:
    submit(timed)
    for _ in range(2):
        timed.ledger.set_team("a", TeamLimits(weight=2), BY)
        timed.ledger.drain("w2", BY)
        timed.ledger.pause("job", BY)
        timed.ledger.prioritise("job", 1, BY)
        timed.ledger.cancel("job", BY)
    trail = timed.ledger.audit_trail()
    assert [entry.move for entry in reversed(trail)] == ["team", "drain", "pause", "prioritise", "cancel"]
    assert {(entry.by.who, entry.by.why) for entry in trail} == {("tester", "a test")}


# Recovery and retention


def test_a_recovered_job_makes_only_what_is_missing(timed: TimedLedger) -> None:
    submit(timed, count=128 * 6)
    assert timed.ledger.restore("job", done=[range(2), range(4, 5)], completed=384, payload_bytes=9)
    assert not timed.ledger.restore("job", done=[range(1)], completed=128, payload_bytes=3)
    assert [timed.claimed().chunk for _ in range(3)] == [2, 3, 5]
    assert timed.claim() is None
    assert timed.ledger.job("job").counts.completed == 384


def test_a_recovered_job_whose_last_chunk_was_made_hands_out_none_beyond_it(timed: TimedLedger) -> None:
    submit(timed, count=128 * 4)
    timed.ledger.restore("job", done=[range(1), range(3, 4)], completed=256, payload_bytes=9)
    assert [timed.claimed().chunk for _ in range(2)] == [1, 2]
    assert timed.claim() is None


def test_a_recovered_job_of_which_all_was_made_is_finalised(timed: TimedLedger) -> None:
    submit(timed, count=256)
    timed.ledger.restore("job", done=[range(2)], completed=256, payload_bytes=9)
    assert timed.claimed().chunk == FINALISE


def test_jobs_that_ended_long_ago_are_forgotten(timed: TimedLedger) -> None:
    end(timed, "old", count=100)
    timed.pass_time(100)
    end(timed, "new", count=100)
    timed.pass_time(10)
    submit(timed, "live")
    assert timed.ledger.prune(keep_seconds=50) == ["old"]
    assert [job.id for job in timed.ledger.jobs(count_max=9)] == ["live", "new"]
    with pytest.raises(NotFound):
        timed.ledger.job("old")


def test_events_follow_each_other_from_a_position(timed: TimedLedger) -> None:
    end(timed, count=100)
    events = timed.ledger.events(after="0", wait_seconds=0)
    assert [event.type for event in events] == ["job.submitted", "job.started", "chunk.completed", "job.completed"]
    assert list(timed.ledger.events(after=events[1].id, wait_seconds=0)) == list(events[2:])


# After the end, and after the loss of Redis


def test_an_end_is_unannounced_until_somebody_says_otherwise(timed: TimedLedger) -> None:
    end(timed, "first", count=100)
    timed.pass_time(1)
    end(timed, "second", count=100)
    submit(timed, "third", count=100)
    ended = timed.ledger.unannounced(count_max=9)
    assert [job.id for job in ended] == ["first", "second"]
    assert [job.id for job in timed.ledger.unannounced(count_max=1)] == ["first"]
    timed.ledger.announced(ended[0])
    assert [job.id for job in timed.ledger.unannounced(count_max=9)] == ["second"]


def test_a_job_that_ends_again_is_announced_again(timed: TimedLedger) -> None:
    # given a job that has ended with a chunk given up
    submit(timed, count=200)
    timed.made(timed.claimed())
    timed.ledger.fail(timed.claimed(), "broken", fingerprint="f", delay_seconds=0, fatal=True)
    timed.finalised(timed.claimed(), JobState.FAILED)
    (first,) = timed.ledger.unannounced(count_max=9)
    # when what failed is made again, it tells nothing until it has ended again
    timed.pass_time(1)
    timed.ledger.retry("job", BY)
    assert timed.ledger.unannounced(count_max=9) == []
    timed.made(timed.claimed(), 72)
    timed.finalised(timed.claimed(), JobState.COMPLETED)
    # then the word about the first end does not stand for the second
    timed.ledger.announced(first)
    (second,) = timed.ledger.unannounced(count_max=9)
    assert (second.state, second.finished_at) != (first.state, first.finished_at)
    timed.ledger.announced(second)
    assert timed.ledger.unannounced(count_max=9) == []


def test_a_forgotten_job_has_nothing_to_announce(timed: TimedLedger) -> None:
    end(timed, count=100)
    timed.pass_time(10)
    assert timed.ledger.prune(keep_seconds=5) == ["job"]
    assert timed.ledger.unannounced(count_max=9) == []


def test_a_training_that_ends_is_unannounced_too(timed: TimedLedger) -> None:
    timed.ledger.submit("job", a_training_spec(), idempotency_key="k")
    timed.made(timed.claimed(JobKind.TRAINING), 1)
    assert [job.id for job in timed.ledger.unannounced(count_max=9)] == ["job"]


def test_a_recovered_job_hands_out_only_what_is_missing(timed: TimedLedger) -> None:
    spec = a_generation_spec(count=600)
    recovered = timed.ledger.recover("job", spec, done=[range(2), range(3, 4)], completed=384, payload_bytes=384)
    assert (recovered.job_id, recovered.is_new) == ("job", True)
    assert timed.ledger.done_chunks("job") == {0, 1, 3}
    lease = timed.claimed()
    assert lease.chunk == 2
    assert timed.made(lease)
    lease = timed.claimed()
    assert lease.chunk == 4
    assert timed.made(lease, 88)
    assert timed.claimed().chunk == FINALISE
    job = timed.ledger.job("job")
    assert (job.counts.completed, job.counts.open) == (600, 0)


def test_a_job_that_is_recovered_twice_stays_as_it_is(timed: TimedLedger) -> None:
    spec = a_generation_spec(count=600)
    timed.ledger.recover("job", spec, done=[range(2)], completed=256, payload_bytes=256)
    lease = timed.claimed()
    timed.made(lease)
    before = timed.ledger.job("job")
    timed.ledger.recover("job", spec, done=[range(2)], completed=256, payload_bytes=256)
    assert timed.ledger.job("job") == before
    assert timed.ledger.done_chunks("job") == {0, 1, 2}


def test_a_job_that_was_made_whole_is_only_finalised_after_its_recovery(timed: TimedLedger) -> None:
    timed.ledger.recover("job", a_generation_spec(count=200), done=[range(2)], completed=200, payload_bytes=1)
    assert timed.claimed().chunk == FINALISE


def test_the_ledger_says_whether_a_claim_would_find_work(timed: TimedLedger) -> None:
    assert not timed.ledger.has_work(JobKind.GENERATION)
    submit(timed, count=100)
    assert timed.ledger.has_work(JobKind.GENERATION)
    assert not timed.ledger.has_work(JobKind.TRAINING)
    timed.claimed()
    assert not timed.ledger.has_work(JobKind.GENERATION)
