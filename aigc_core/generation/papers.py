"""What a generation job has to show, at any moment: result lines, errors, a summary whose counts add up to the total.

What counts is what the ledger has committed: result lines of a chunk whose worker died before its commit are left out.
`finalise` stores these papers once; a running job's are made when they are asked for.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from aigc_core.errors import InvalidSpec, NotFound
from aigc_core.jobs.ledger import Ledger
from aigc_core.jobs.plan import chunk_range
from aigc_core.jobs.records import Job
from aigc_core.jobs.specs import GenerationSpec
from aigc_core.jobs.states import JobKind, JobState
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore


def result_parts(job_id: str, done: Iterable[int], store: ObjectStore) -> Iterator[bytes]:
    """The result lines of these chunks, chunk by chunk."""
    for chunk in done:
        yield store.get(layout.part_key(job_id, chunk))


def error_lines(job: Job, ledger: Ledger, *, ended: bool) -> Iterator[bytes]:
    """One line per chunk that was given up, each with its own reason; of a job that has `ended` also for those not made.

    Then results and errors add up to the order.
    """
    spec = GenerationSpec.from_json(job.spec_json)
    letters = {letter.chunk: letter for letter in ledger.dead_letters(job.id)}
    done = ledger.done_chunks(job.id) if ended else set()
    for chunk in range(job.chunk_count) if ended else sorted(letters):
        if chunk in done:
            continue
        items = chunk_range(spec, chunk)
        facts: dict[str, Any] = {"chunk": chunk, "first_index": items.start, "count": len(items)}
        if chunk in letters:
            facts |= {"code": letters[chunk].fingerprint, "error": letters[chunk].reason}
        else:
            facts |= {"code": job.stop or "not_made", "error": f"the job was {job.stop}" if job.stop else "not made"}
        yield json.dumps(facts, separators=(",", ":")).encode() + b"\n"


def summary(job: Job, store: ObjectStore, *, state: JobState, finished_at: float | None) -> bytes:
    """The job on one page: JSON. completed + failed + not_made = total."""
    spec = GenerationSpec.from_json(job.spec_json)
    facts = {
        "job": job.id,
        "team": job.team,
        "state": state,
        "counts": asdict(job.counts) | {"not_made": job.counts.open},
        "model": spec.model,
        "version": spec.version,
        "dataset_fingerprint": spec.dataset_fingerprint,
        "seed": spec.seed,
        "format": spec.format,
        "manifest_sha256": spec.manifest_sha256,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": finished_at,
        "attempts_error": job.attempts_error,
        "attempts_lost": job.attempts_lost,
        "stop": job.stop,
        "last_error": job.last_error,
        "results": store.uri(layout.results_key(job.id)),
        "errors": store.uri(layout.errors_key(job.id)),
    }
    return json.dumps(facts, indent=1).encode()


class Papers:
    """One job's papers as they are now: made from the ledger while the job is open, the stored ones after that."""

    def __init__(self, job_id: str, *, ledger: Ledger, store: ObjectStore) -> None:
        """`NotFound` for a job that neither the ledger nor S3 knows, `InvalidSpec` for a training."""
        self._job_id, self._ledger, self._store = job_id, ledger, store
        self._job: Job | None = None
        try:
            self._job = ledger.job(job_id)
        except NotFound:
            if not store.exists(layout.summary_key(job_id)):
                raise
        if self._job is not None and self._job.kind is not JobKind.GENERATION:
            raise InvalidSpec(f"{job_id} is a training; `aigc job {job_id}` says where its sheets and metrics are")

    def results(self) -> Iterator[bytes]:
        """Result lines, some at a time; a job that the ledger has forgotten gives all of them at once."""
        if self._job is None:
            yield self._store.get(layout.results_key(self._job_id))
        else:
            yield from result_parts(self._job_id, sorted(self._ledger.done_chunks(self._job_id)), self._store)

    def errors(self) -> Iterator[bytes]:
        """Error lines."""
        if self._job is None or self._job.state.is_final:
            yield self._store.get(layout.errors_key(self._job_id))
        else:
            yield from error_lines(self._job, self._ledger, ended=False)

    def summary(self) -> bytes:
        """The job on one page: JSON."""
        if self._job is None or self._job.state.is_final:
            return self._store.get(layout.summary_key(self._job_id))
        return summary(self._job, self._store, state=self._job.state, finished_at=None)
