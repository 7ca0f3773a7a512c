"""The end of a generation job: results.jsonl, errors.jsonl, contact sheet, summary.json. Safe to run twice."""

import io
import json
from collections.abc import Iterator
from typing import Any

from aigc_core.clock import Clock
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


def finalise(job: Job, *, ledger: Ledger, store: ObjectStore, clock: Clock) -> ChunkReport:
    """Put the job's papers together and say how it ended; the pictures themselves are not touched."""
    done = sorted(ledger.done_chunks(job.id))
    store.put_stream(layout.results_key(job.id), result_parts(job.id, done, store), content_type=NDJSON)
    store.put_stream(layout.errors_key(job.id), error_lines(job, ledger, ended=True), content_type=NDJSON)
    first_lines = _first_lines(job.id, done, store)
    if first_lines:
        sheet = contact_sheet(list(_pictures([json.loads(line) for line in first_lines], store)))
        store.put(layout.contact_sheet_key(job.id), sheet, content_type="image/png")
    state = final_state(job)
    payload = summary(job, store, state=state, finished_at=clock.now())
    store.put(layout.summary_key(job.id), payload, content_type="application/json")
    return ChunkReport(final_state=state)


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
