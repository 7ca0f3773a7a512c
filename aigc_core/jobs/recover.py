"""Rebuild the ledger from S3 after Redis is gone: what was ordered, and which chunks of it are made.

S3 does not know of a cancellation, a pause or a priority that was changed, nor of a retry after the end: a job without a
summary runs to its end as it was ordered, one with a summary stays as it ended. A spec whose submit broke off before the
ledger took it comes back as an order too: look at the dry run. Orders come back in the order of their ids, which is that of
their submission.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aigc_core.errors import InvalidSpec, NotFound
from aigc_core.jobs.ledger import Ledger
from aigc_core.jobs.plan import chunk_count, chunk_range
from aigc_core.jobs.records import Spec
from aigc_core.jobs.specs import GenerationSpec, TrainingSpec
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore

#: Parts that are read at once; each is a request of a few milliseconds.
READ_THREADS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What became of one job that S3 knows."""

    job_id: str
    result: str  # recovered (in a dry run: would be), known, finished, refused
    chunks_found: int = 0
    chunks_missing: int = 0
    items: int = 0  # pictures that count as made
    reason: str = ""  # why it was refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What the parts of a job prove."""

    runs: tuple[range, ...]  # of chunks
    items: int
    payload_bytes: int

    @property
    def chunks(self) -> int:
        return sum(map(len, self.runs))


def recover(
    *,
    ledger: Ledger,
    store: ObjectStore,
    is_published: Callable[[str, str], bool],
    job_ids: Sequence[str] = (),
    dry_run: bool = False,
) -> Iterator[Recovery]:
    """Every job below jobs/ (or the named ones) in turn; safe to be repeated, and to be run while workers work.

    `is_published(model, job_id)` says whether a training has published its version. `Unavailable` when S3 or Redis is away:
    what was recovered until then is whole.
    """
    for job_id in job_ids or sorted(store.list_folders("jobs/"), key=lambda name: name[1:]):
        if _is_known(ledger, job_id):
            yield Recovery(job_id=job_id, result="known")
        elif store.exists(layout.summary_key(job_id)):
            yield Recovery(job_id=job_id, result="finished")
        else:
            yield _recovered(job_id, ledger=ledger, store=store, is_published=is_published, dry_run=dry_run)


def _is_known(ledger: Ledger, job_id: str) -> bool:
    try:
        ledger.job(job_id)
    except NotFound:
        return False
    return True


def _recovered(
    job_id: str, *, ledger: Ledger, store: ObjectStore, is_published: Callable[[str, str], bool], dry_run: bool
) -> Recovery:
    try:
        spec = read_spec(store, job_id)
        if isinstance(spec, TrainingSpec):
            if is_published(spec.model, job_id):
                return Recovery(job_id=job_id, result="finished", chunks_found=1)
            made, chunks = Made(runs=(), items=0, payload_bytes=0), 1
        else:
            made, chunks = made_of(job_id, spec, store), chunk_count(spec.count, spec.chunk_items)
        if not dry_run:
            ledger.recover(job_id, spec, done=made.runs, completed=made.items, payload_bytes=made.payload_bytes)
    except InvalidSpec as error:
        return Recovery(job_id=job_id, result="refused", reason=str(error))
    return Recovery(
        job_id=job_id,
        result="recovered",
        chunks_found=made.chunks,
        chunks_missing=chunks - made.chunks,
        items=made.items,
    )


def read_spec(store: ObjectStore, job_id: str) -> Spec:
    """What was ordered; `NotFound`, or `InvalidSpec` when it is damaged."""
    text = store.get(layout.spec_key(job_id))
    return (TrainingSpec if job_id.startswith("t") else GenerationSpec).from_json(text)


def made_of(job_id: str, spec: GenerationSpec, store: ObjectStore) -> Made:
    """What is committed according to S3: chunks whose part has a line for every picture.

    A part is stored whole, after the pictures of its chunk: one that is there proves that they are.
    """
    numbers = [chunk for info in store.scan(layout.parts_prefix(job_id)) if (chunk := _chunk_of(info.key)) is not None]
    chunks = [chunk for chunk in numbers if chunk < chunk_count(spec.count, spec.chunk_items)]

    def payload_bytes(chunk: int) -> int | None:
        return _payload_bytes(store.get(layout.part_key(job_id, chunk)), items=len(chunk_range(spec, chunk)))

    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="recover") as threads:
        sizes = dict(zip(chunks, threads.map(payload_bytes, chunks), strict=True))
    found = [chunk for chunk in chunks if sizes[chunk] is not None]
    return Made(
        runs=tuple(_runs_of(found)),
        items=sum(len(chunk_range(spec, chunk)) for chunk in found),
        payload_bytes=sum(sizes[chunk] or 0 for chunk in found),
    )


def _chunk_of(key: str) -> int | None:
    name = key.rsplit("/", 1)[-1].removesuffix(".jsonl")
    return int(name) if name.isdecimal() else None


def _payload_bytes(part: bytes, *, items: int) -> int | None:
    """Bytes of the pictures that a part tells of; None for a part that is not whole."""
    lines = part.splitlines()
    try:
        return sum(int(json.loads(line)["bytes"]) for line in lines) if len(lines) == items else None
    except (ValueError, KeyError, TypeError):
        return None


def _runs_of(chunks: Sequence[int]) -> Iterator[range]:
    """Runs of consecutive numbers, of numbers in order."""
    start = 0
    for place, chunk in enumerate(chunks):
        if place + 1 == len(chunks) or chunks[place + 1] != chunk + 1:
            yield range(chunks[start], chunk + 1)
            start = place + 1
