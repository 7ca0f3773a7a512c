"""The end of a generation job: results.jsonl, errors.jsonl, contact sheet, summary.json. Safe to run twice."""

import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from aigc_core.clock import Clock
from aigc_core.errors import NotFound
from aigc_core.generation.papers import error_lines, result_parts, summary
from aigc_core.jobs.ledger import Ledger
from aigc_core.jobs.records import ChunkReport, Job
from aigc_core.jobs.states import JobState
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore

#: Pictures on the contact sheet at most, and per row; enlarged so that the shorter side has at least SHEET_PIXELS_MIN.
SHEET_IMAGES = 100
SHEET_COLUMNS = 10
SHEET_PIXELS_MIN = 64

NDJSON = "application/x-ndjson"


def finalise(
    job: Job, *, ledger: Ledger, store: ObjectStore, clock: Clock, check: Callable[[], None] = lambda: None
) -> ChunkReport:
    """Put the job's papers together and say how it ended; the pictures themselves are not touched.

    `check` raises when the lease is lost: somebody else may be writing newer papers then.
    """
    done = sorted(ledger.done_chunks(job.id))
    results = _checked(result_parts(job.id, done, store), check)
    store.put_stream(layout.results_key(job.id), results, content_type=NDJSON)
    errors = _checked(error_lines(job, ledger, ended=True), check)
    store.put_stream(layout.errors_key(job.id), errors, content_type=NDJSON)
    # A picture that cannot be shown is no reason not to end a job whose papers are whole.
    with suppress(NotFound, OSError, ValueError):
        first_lines = _first_lines(job.id, done, store)
        if first_lines:
            sheet = contact_sheet(list(_pictures([json.loads(line) for line in first_lines], store)))
            check()
            store.put(layout.contact_sheet_key(job.id), sheet, content_type="image/png")
    state = final_state(job)
    payload = summary(job, store, state=state, finished_at=clock.now())
    check()
    store.put(layout.summary_key(job.id), payload, content_type="application/json")
    return ChunkReport(final_state=state)


def _checked(parts: Iterable[bytes], check: Callable[[], None]) -> Iterator[bytes]:
    """The parts, for as long as the lease is held, and at their end too: what is put then is put by its holder."""
    for part in parts:
        check()
        yield part
    check()


def final_state(job: Job) -> JobState:
    """How a job ended whose chunks are all done, discarded or called off."""
    if job.counts.completed == job.counts.total:
        return JobState.COMPLETED
    if job.stop in ("cancelled", "expired") and job.counts.open:
        return JobState.CANCELLED
    if job.stop == "aborted" or not job.counts.completed:
        return JobState.FAILED
    return JobState.COMPLETED_WITH_ERRORS


def contact_sheet(files: list[bytes]) -> bytes:
    """A PNG with the pictures in rows of SHEET_COLUMNS, enlarged without smoothing."""
    from PIL import Image

    images = [Image.open(io.BytesIO(file)).convert("RGB") for file in files[:SHEET_IMAGES]]
    width, height = images[0].size
    scale = max(1, -(-SHEET_PIXELS_MIN // min(width, height)))
    cell_width, cell_height = width * scale + 4, height * scale + 4
    columns = min(SHEET_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), (255, 255, 255))
    for place, image in enumerate(images):
        enlarged = image.resize((width * scale, height * scale), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (place % columns * cell_width + 2, place // columns * cell_height + 2))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _pictures(results: list[dict[str, Any]], store: ObjectStore) -> Iterator[bytes]:
    """The files that result lines tell of: objects of their own, or parts of tar shards, each of which is read once.

    Whole, since not every server that speaks S3 answers a request for a range as S3 does.
    """
    key, payload = "", b""
    for result in results:
        if result["key"] != key:
            key, payload = result["key"], store.get(result["key"])
        start = result.get("offset", 0)
        yield payload[start : start + result["bytes"]]


def _first_lines(job_id: str, done: list[int], store: ObjectStore) -> list[str]:
    lines: list[str] = []
    for part in result_parts(job_id, done, store):
        lines += part.decode().splitlines()
        if len(lines) >= SHEET_IMAGES:
            break
    return lines[:SHEET_IMAGES]
