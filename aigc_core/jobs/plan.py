"""From a job's size to its chunks and batches: pure arithmetic, nothing is stored per chunk."""

from collections.abc import Iterator

from aigc_core.jobs.specs import BATCH_ITEMS, GenerationSpec


def chunk_count(item_count: int, chunk_items: int) -> int:
    """How many chunks a job of `item_count` items has; the last one may be short."""
    return -(-item_count // chunk_items)


def chunk_range(spec: GenerationSpec, chunk: int) -> range:
    """The item indexes of chunk number `chunk`, 0-based; ValueError outside the job."""
    start = chunk * spec.chunk_items
    if not 0 <= start < spec.count:
        raise ValueError(f"chunk {chunk}: the job has chunks 0 to {chunk_count(spec.count, spec.chunk_items) - 1}")
    return range(start, min(start + spec.chunk_items, spec.count))


def batches(items: range) -> Iterator[range]:
    """The items cut at multiples of BATCH_ITEMS, so that a batch is the same whatever the chunk size is."""
    start = items.start
    while start < items.stop:
        stop = min((start // BATCH_ITEMS + 1) * BATCH_ITEMS, items.stop)
        yield range(start, stop)
        start = stop
