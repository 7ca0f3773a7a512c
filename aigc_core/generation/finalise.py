"""The end of a generation job: results.jsonl, errors.jsonl, contact sheet, summary.json. Safe to run twice."""

import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from aigc_core.clock import Clock
from aigc_core.jobs.ledger import Ledger
from aigc_core.jobs.plan import chunk_range
from aigc_core.jobs.records import ChunkReport, DeadLetter, Job
from aigc_core.jobs.specs import GenerationSpec
from aigc_core.jobs.states import JobState
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore

#: Pictures on the contact sheet at most, and per row; enlarged so that the shorter side has at least SHEET_PIXELS_MIN.
SHEET_IMAGES = 100
SHEET_COLUMNS = 10
SHEET_PIXELS_MIN = 64

NDJSON = "application/x-ndjson"


def finalise(job: Job, *, ledger: Ledger, store: ObjectStore, clock: Clock) -> ChunkReport:
    """Put the job's papers together and say how it ended; the pictures themselves are not touched.

    What counts is what the ledger has committed: result lines of a chunk whose worker died before its commit are left out.
    """
    spec = GenerationSpec.from_json(job.spec_json)
    done = sorted(ledger.done_chunks(job.id))
    store.put_stream(layout.results_key(job.id), _parts(job.id, done, store), content_type=NDJSON)
    errors = _errors(job, spec, done=set(done), dead=ledger.dead_letters(job.id))
    store.put_stream(layout.errors_key(job.id), errors, content_type=NDJSON)
    first_lines = _first_lines(job.id, done, store)
    if first_lines:
        sheet = contact_sheet(list(_pictures([json.loads(line) for line in first_lines], store)))
        store.put(layout.contact_sheet_key(job.id), sheet, content_type="image/png")
    state = final_state(job)
    summary = {
        "job": job.id,
        "team": job.team,
        "state": state,
        "counts": asdict(job.counts) | {"not_made": job.counts.open},
        "model": spec.model,
        "version": spec.version,
        "seed": spec.seed,
        "format": spec.format,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": clock.now(),
        "attempts_error": job.attempts_error,
        "attempts_lost": job.attempts_lost,
        "stop": job.stop,
        "last_error": job.last_error,
        "results": store.uri(layout.results_key(job.id)),
        "errors": store.uri(layout.errors_key(job.id)),
    }
    payload = json.dumps(summary, indent=1).encode()
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


def _parts(job_id: str, done: list[int], store: ObjectStore) -> Iterator[bytes]:
    for chunk in done:
        yield store.get(layout.part_key(job_id, chunk))


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
    for part in _parts(job_id, done, store):
        lines += part.decode().splitlines()
        if len(lines) >= SHEET_IMAGES:
            break
    return lines[:SHEET_IMAGES]


def _errors(job: Job, spec: GenerationSpec, *, done: set[int], dead: list[DeadLetter]) -> Iterator[bytes]:
    """One line per chunk that was not made, each with its own reason, so that results and errors add up to the order."""
    letters = {letter.chunk: letter for letter in dead}
    for chunk in range(job.chunk_count):
        if chunk in done:
            continue
        items = chunk_range(spec, chunk)
        facts: dict[str, Any] = {"chunk": chunk, "first_index": items.start, "count": len(items)}
        if chunk in letters:
            facts |= {"code": letters[chunk].fingerprint, "error": letters[chunk].reason}
        else:
            facts |= {"code": job.stop or "not_made", "error": f"the job was {job.stop}" if job.stop else "not made"}
        yield json.dumps(facts, separators=(",", ":")).encode() + b"\n"
