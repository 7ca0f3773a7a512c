"""One chunk, from seeds to stored pictures: latents → predict → encode → store → result lines → report.

Two batches are asked for ahead, so the model server works while this process encodes and uploads the batch before.
"""

import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aigc_core.clock import Clock
from aigc_core.errors import InvalidSpec
from aigc_core.generation.encode import CONTENT_TYPES, EXTENSIONS, encode, sha256
from aigc_core.generation.latents import latents_from_seeds
from aigc_core.generation.predictor import Predictor
from aigc_core.jobs.execute import Heartbeat
from aigc_core.jobs.plan import batches, chunk_range
from aigc_core.jobs.records import ChunkReport, Lease
from aigc_core.jobs.specs import BATCH_ITEMS, GenerationSpec
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore, Upload

#: Predict requests in flight per chunk. With one, the server idles while the answer is decoded; more only queue there.
REQUESTS_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The pictures of one Predict request."""

    items: range
    images: NDArray[np.uint8]  # (len(items), H, W, C)
    seconds: float


class ChunkRunner:
    """Runs chunks with one predictor and one store; may be used from several threads."""

    def __init__(self, *, predictor: Predictor, store: ObjectStore, clock: Clock, threads: ThreadPoolExecutor) -> None:
        self._predictor = predictor
        self._store = store
        self._clock = clock
        self._threads = threads

    def run(self, lease: Lease, heartbeat: Heartbeat) -> ChunkReport:
        """Every picture of the chunk is stored, then its result lines, then the report is given."""
        spec = GenerationSpec.from_json(lease.spec_json)
        seconds = {"predict": 0.0, "encode": 0.0, "store": 0.0}
        lines: list[str] = []
        payload_bytes = 0
        for batch in self._predicted(spec, chunk_range(spec, lease.chunk)):
            heartbeat.check()
            started = self._clock.monotonic()
            uploads = self._encoded(lease.job_id, spec, batch)
            encoded = self._clock.monotonic()
            self._store.put_many(uploads)
            seconds["predict"] += batch.seconds
            seconds["encode"] += encoded - started
            seconds["store"] += self._clock.monotonic() - encoded
            payload_bytes += sum(len(upload.payload) for upload in uploads)
            lines += [result_line(spec, index, upload) for index, upload in zip(batch.items, uploads, strict=True)]
        heartbeat.check()
        text = "".join(lines).encode()
        self._store.put(layout.part_key(lease.job_id, lease.chunk), text, content_type="application/x-ndjson")
        return ChunkReport(completed=len(lines), payload_bytes=payload_bytes, step_seconds=seconds)

    def _predicted(self, spec: GenerationSpec, items: range) -> Iterator[Batch]:
        waiting: deque[Future[Batch]] = deque()
        try:
            for batch_items in batches(items):
                waiting.append(self._threads.submit(self._predict, spec, batch_items))
                if len(waiting) > REQUESTS_IN_FLIGHT:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _predict(self, spec: GenerationSpec, items: range) -> Batch:
        """One request, padded to BATCH_ITEMS: the same picture is always computed in the same shape."""
        started = self._clock.monotonic()
        latents = np.zeros((BATCH_ITEMS, spec.latent_dim), np.float32)
        latents[: len(items)] = latents_from_seeds([spec.seed_of(index) for index in items], spec.latent_dim)
        labels = None
        if spec.classes:
            labels = np.zeros(BATCH_ITEMS, np.int32)
            labels[: len(items)] = [spec.label_of(index) or 0 for index in items]
        images = self._predictor.predict(spec.model, spec.version, latents, labels=labels)
        expected = (BATCH_ITEMS, spec.height, spec.width, spec.channels)
        if images.shape != expected or images.dtype != np.uint8:
            raise InvalidSpec(
                f"model {spec.model} version {spec.version} answered {images.dtype} {images.shape}, its card says uint8 "
                f"{expected}; publish the model again"
            )
        return Batch(items=items, images=images[: len(items)], seconds=self._clock.monotonic() - started)

    def _encoded(self, job_id: str, spec: GenerationSpec, batch: Batch) -> list[Upload]:
        # The codec gives the interpreter's lock back, so one helper thread beside this one doubles the rate.
        half = len(batch.images) // 2
        other = self._threads.submit(lambda: [encode(image, spec.format) for image in batch.images[half:]])
        files = [encode(image, spec.format) for image in batch.images[:half]] + other.result()
        extension, content_type = EXTENSIONS[spec.format], CONTENT_TYPES[spec.format]
        return [
            Upload(key=layout.image_key(job_id, index, extension), payload=file, content_type=content_type)
            for index, file in zip(batch.items, files, strict=True)
        ]


def result_line(spec: GenerationSpec, index: int, upload: Upload) -> str:
    """One line of results.jsonl: everything that makes the picture accountable."""
    facts = {
        "index": index,
        "seed": spec.seed_of(index),
        "class": spec.class_of(index),
        "key": upload.key,
        "sha256": sha256(upload.payload),
        "bytes": len(upload.payload),
    }
    return json.dumps(facts, separators=(",", ":")) + "\n"
