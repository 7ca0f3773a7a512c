"""What must hold of every job after a fault: nothing lost, nothing doubled, nothing left behind."""

import hashlib
import json
from typing import TYPE_CHECKING

from aigc_core.jobs.specs import GenerationSpec
from aigc_core.storage import layout

if TYPE_CHECKING:
    from faults.plant import Plant


def problems(plant: "Plant", job_id: str, *, state: str = "completed") -> list[str]:
    """Empty when state, counts, objects, digests and leases of a job are exactly what they must be."""
    job = plant.ledger.job(job_id)
    spec = GenerationSpec.from_json(job.spec_json)
    found = []
    if job.state != state:
        found.append(f"{job_id}: state {job.state}, last error {job.last_error!r}")
    if (job.counts.completed, job.counts.failed) != (spec.count, 0) or job.chunks_done != job.chunk_count:
        found.append(f"{job_id}: counts {job.counts}, {job.chunks_done} of {job.chunk_count} chunks")
    if plant.client.exists(f"aigc:job:{job_id}:leases"):
        found.append(f"{job_id}: live leases {plant.client.hgetall(f'aigc:job:{job_id}:leases')}")
    folder = plant.bucket_folder / layout.job_prefix(job_id)
    stored = {path.relative_to(plant.bucket_folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    expected = expected_keys(job_id, spec, job.chunk_count)
    if lost := expected - stored:
        found.append(f"{job_id}: {len(lost)} objects lost: {sorted(lost)[:3]}")
    if stray := stored - expected:
        found.append(f"{job_id}: {len(stray)} objects too many: {sorted(stray)[:3]}")
    return found or _wrong_bytes(plant, job_id, spec)


def expected_keys(job_id: str, spec: GenerationSpec, chunk_count: int) -> set[str]:
    """Every key that a complete job has, and no other."""
    images = {layout.image_key(job_id, index, "png") for index in range(spec.count)}
    papers = {layout.results_key(job_id), layout.errors_key(job_id), layout.summary_key(job_id)}
    parts = {layout.part_key(job_id, chunk) for chunk in range(chunk_count)}
    return images | papers | parts | {layout.spec_key(job_id), layout.contact_sheet_key(job_id)}


def digests(plant: "Plant", job_id: str) -> list[str]:
    """sha256 of every picture as results.jsonl has them, in its order."""
    return [line["sha256"] for line in _lines(plant, job_id)]


def _wrong_bytes(plant: "Plant", job_id: str, spec: GenerationSpec) -> list[str]:
    """The lines are those of the order, once each, and the objects are what the lines and the undisturbed run say."""
    lines = _lines(plant, job_id)
    if [line["index"] for line in lines] != list(range(spec.count)):
        return [f"{job_id}: {len(lines)} result lines for {spec.count} pictures, or out of order"]
    wrong = [
        line["key"]
        for line in lines
        if hashlib.sha256((plant.bucket_folder / line["key"]).read_bytes()).hexdigest() != line["sha256"]
    ]
    if wrong:
        return [f"{job_id}: {len(wrong)} objects are not what their lines say: {wrong[:3]}"]
    both = min(spec.count, len(plant.reference))  # all orders have the same seeds, some more of them than the reference
    if [line["sha256"] for line in lines[:both]] != plant.reference[:both]:
        return [f"{job_id}: pictures differ from those of a run that nothing disturbed"]
    return []


def leftovers(plant: "Plant") -> list[str]:
    """Leases and claims in the ledger once no job lives: there must be none."""
    found = []
    for key in ("aigc:leases", "aigc:claims", "aigc:live"):
        kind = plant.client.type(key)
        count = {"zset": plant.client.zcard, "hash": plant.client.hlen, "set": plant.client.scard}.get(str(kind))
        if count and count(key):
            found.append(f"{key}: {count(key)} left")
    return found


def _lines(plant: "Plant", job_id: str) -> list[dict[str, str]]:
    text = (plant.bucket_folder / layout.results_key(job_id)).read_text()
    return [json.loads(line) for line in text.splitlines()]
