"""When to try again, and which failures are the same."""

import random

import pytest

from aigc_core.errors import Transient, Unavailable
from aigc_core.jobs.retry import PAUSE_SECONDS_MAX, fingerprint_of, pause_seconds


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("chunk 7 of job g018f3a1b2c3d4e5f607: 12 pictures", "chunk 81 of job g018f3a1b2c3d4e5f6ff: 9 pictures"),
        ("S3 at 10.0.0.1:9000 said 503", "S3 at 10.0.0.27:9001 said 503"),
        ("object at 0x7f3ad90b11c0", "object at 0x55e0aa10"),
    ],
)
def test_failures_that_differ_in_numbers_and_ids_have_one_fingerprint(one: str, other: str) -> None:
    assert fingerprint_of(Transient(one)) == fingerprint_of(Transient(other))


def test_failures_of_another_kind_have_another_fingerprint() -> None:
    errors = [Transient("disk full"), Transient("disk gone"), Unavailable("disk full"), OSError("disk full")]
    assert len({fingerprint_of(error) for error in errors}) == 4


def test_a_pause_doubles_up_to_a_limit_and_is_half_random() -> None:
    for attempt, full in ((1, 2), (2, 4), (5, 32), (9, PAUSE_SECONDS_MAX)):
        pauses = [pause_seconds(attempt, jitter=random.Random(seed)) for seed in range(200)]
        assert full / 2 <= min(pauses) < 0.6 * full
        assert 0.9 * full < max(pauses) <= full
