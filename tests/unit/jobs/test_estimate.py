"""What an order is expected to come to, and that nothing is guessed."""

from dataclasses import replace

import pytest
from builders import a_generation_spec

from aigc_core.clock import FixedClock
from aigc_core.jobs.estimate import Estimate, Prices, estimate
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.records import Counts, Job
from aigc_core.jobs.states import JobState


def a_finished_job(seconds: float = 10.0, *, images: int = 1_000, payload_bytes: int = 5_000, **fields: object) -> Job:
    ledger = MemoryLedger(FixedClock())
    ledger.submit("job", a_generation_spec(count=images, **fields), idempotency_key="job")
    counts = Counts(total=images, completed=images, failed=0, payload_bytes=payload_bytes)
    job = ledger.job("job")
    return replace(job, state=JobState.COMPLETED, counts=counts, started_at=100.0, finished_at=100.0 + seconds)


def of(*jobs: Job, formats: dict[str, int] | None = None, **prices: float) -> Estimate:
    spec = a_generation_spec(count=3_000)
    return estimate(spec, formats=formats or {"png": 3_000}, jobs=jobs, prices=Prices(**prices))


def test_duration_and_bytes_are_those_of_the_models_earlier_orders_by_picture() -> None:
    found = of(a_finished_job(10), a_finished_job(50, images=2_000, payload_bytes=10_000))
    assert (found.image_count, found.chunk_count) == (3_000, 24)
    assert found.seconds == pytest.approx(3_000 * 60 / 3_000)
    assert found.payload_bytes == 15_000
    assert (found.measured_jobs, found.measured_images) == (2, 3_000)


@pytest.mark.parametrize(
    "job",
    [
        a_finished_job(model="other"),
        replace(a_finished_job(), state=JobState.CANCELLED),
        replace(a_finished_job(), state=JobState.RUNNING, finished_at=None),
        replace(a_finished_job(), started_at=None),
        a_finished_job(0),
    ],
)
def test_what_is_no_measure_of_the_model_leaves_it_unknown(job: Job) -> None:
    found = of(job, per_hour=5)
    assert (found.seconds, found.payload_bytes, found.cost, found.measured_jobs) == (None, None, None, 0)


def test_a_format_that_was_never_made_leaves_the_bytes_unknown() -> None:
    png = a_finished_job()
    assert of(png, formats={"png": 1, "webp": 1}).payload_bytes is None
    both = of(png, a_finished_job(format="webp", payload_bytes=1_000), formats={"png": 1_000, "webp": 2_000})
    assert both.payload_bytes == 5_000 + 2_000


def test_the_pictures_of_a_manifest_tell_of_no_single_format() -> None:
    found = of(a_finished_job(manifest_sha256="0" * 64))
    assert (found.payload_bytes, found.seconds) == (None, 30.0)


def test_the_cost_is_by_picture_and_by_hour_and_unknown_without_a_price() -> None:
    job = a_finished_job(1_200)  # an hour for 3,000
    assert of(job).cost is None
    assert of(per_image=0.01).cost == pytest.approx(30)
    assert of(job, per_image=0.01, per_hour=2).cost == pytest.approx(32)
