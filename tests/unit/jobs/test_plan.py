"""The arithmetic of chunks and batches."""

from builders import a_generation_spec
from hypothesis import given
from hypothesis import strategies as st

from aigc_core.jobs.plan import batches, chunk_count, chunk_range
from aigc_core.jobs.specs import BATCH_ITEMS


@given(count=st.integers(1, 20_000), batches_per_chunk=st.integers(1, 9))
def test_chunks_and_their_batches_cover_every_item_exactly_once(count: int, batches_per_chunk: int) -> None:
    spec = a_generation_spec(count=count, chunk_items=batches_per_chunk * BATCH_ITEMS)
    chunks = [chunk_range(spec, chunk) for chunk in range(chunk_count(count, spec.chunk_items))]
    items = [index for chunk in chunks for batch in batches(chunk) for index in batch]
    assert items == list(range(count))


@given(count=st.integers(1, 5_000), batches_per_chunk=st.integers(1, 9))
def test_an_item_is_in_the_same_batch_whatever_the_chunk_size(count: int, batches_per_chunk: int) -> None:
    spec = a_generation_spec(count=count, chunk_items=batches_per_chunk * BATCH_ITEMS)
    for chunk in range(chunk_count(count, spec.chunk_items)):
        for batch in batches(chunk_range(spec, chunk)):
            assert batch.start % BATCH_ITEMS == 0
            assert batch.stop == min(batch.start + BATCH_ITEMS, count)
