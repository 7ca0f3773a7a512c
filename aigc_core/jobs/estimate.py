"""What an order will come to, from what earlier orders of the model came to. What was never measured is not guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aigc_core.jobs.plan import chunk_count
from aigc_core.jobs.records import Job
from aigc_core.jobs.specs import GenerationSpec
from aigc_core.jobs.states import JobKind, JobState

#: Orders that are measured by at most, the newest ones: the installation as it is now.
MEASURED_JOBS_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What pictures cost, in any one currency; 0 stands for not said."""

    per_image: float = 0.0
    per_hour: float = 0.0  # of an order's duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """None stands for not measured yet; of the cost also for no price said."""

    image_count: int
    chunk_count: int
    payload_bytes: int | None
    seconds: float | None  # from its first chunk to its end; what stands before it in the line comes on top
    cost: float | None
    measured_jobs: int  # that the duration is taken from
    measured_images: int


def estimate(spec: GenerationSpec, *, formats: Mapping[str, int], jobs: Sequence[Job], prices: Prices) -> Estimate:
    """`formats`: the order's pictures by format. `jobs`: those of the ledger, newest first."""
    measured = [(job, GenerationSpec.from_json(job.spec_json)) for job in jobs if _is_measure(job)]
    measured = [(job, other) for job, other in measured if other.model == spec.model][:MEASURED_JOBS_MAX]
    images = sum(job.counts.completed for job, _ in measured)
    seconds = spec.count * sum(map(_duration_seconds, (job for job, _ in measured))) / images if images else None
    return Estimate(
        image_count=spec.count,
        chunk_count=chunk_count(spec.count, spec.chunk_items),
        payload_bytes=_payload_bytes(formats, measured),
        seconds=seconds,
        cost=_cost(spec.count, seconds, prices),
        measured_jobs=len(measured),
        measured_images=images,
    )


def _is_measure(job: Job) -> bool:
    """Whether it says how fast pictures are made: one that was cancelled, or waited for a retry, does not."""
    ended = job.kind is JobKind.GENERATION and job.state is JobState.COMPLETED
    return ended and job.counts.completed > 0 and _duration_seconds(job) > 0


def _duration_seconds(job: Job) -> float:
    return (job.finished_at or 0) - (job.started_at or 0) if job.started_at else 0.0


def _payload_bytes(formats: Mapping[str, int], measured: Sequence[tuple[Job, GenerationSpec]]) -> int | None:
    """Known once every ordered format was; the pictures of a manifest may be of several formats and tell of none."""
    expected = 0.0
    for image_format, count in formats.items():
        alike = [job.counts for job, spec in measured if spec.format == image_format and not spec.manifest_sha256]
        if not alike:
            return None
        expected += count * sum(counts.payload_bytes for counts in alike) / sum(counts.completed for counts in alike)
    return round(expected)


def _cost(image_count: int, seconds: float | None, prices: Prices) -> float | None:
    if not (prices.per_image or prices.per_hour) or (prices.per_hour and seconds is None):
        return None
    return image_count * prices.per_image + (seconds or 0.0) / 3600 * prices.per_hour
