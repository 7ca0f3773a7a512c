"""One chunk, from seeds to stored pictures: latents → predict → encode → store → result lines → report.

Two batches are asked for ahead, so the model server works while this process encodes and uploads the batch before.
"""

import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aigc_core.clock import Clock
from aigc_core.errors import InvalidSpec
from aigc_core.generation import shard
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


@dataclass(slots=True)
class Tally:
    """What a chunk has come to so far."""

    lines: list[str] = field(default_factory=list)  # of results.jsonl
    payload_bytes: int = 0
    predict_seconds: float = 0.0  # waited for answers, not the requests' own time: they overlap the other steps
    encode_seconds: float = 0.0


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
        tally, started = Tally(), self._clock.monotonic()
        files = self._files(spec, chunk_range(spec, lease.chunk), heartbeat, tally)
        if spec.packing == "tar":
            key = layout.shard_key(lease.job_id, lease.chunk)
            self._store.put_stream(key, self._shard(spec, key, files, tally), content_type=shard.CONTENT_TYPE)
        else:
            for items, payloads in files:
                self._store.put_many(self._uploads(lease.job_id, spec, items, payloads, tally))
        store_seconds = self._clock.monotonic() - started - tally.predict_seconds - tally.encode_seconds
        heartbeat.check()
        text = "".join(tally.lines).encode()
        self._store.put(layout.part_key(lease.job_id, lease.chunk), text, content_type="application/x-ndjson")
        seconds = {"predict": tally.predict_seconds, "encode": tally.encode_seconds, "store": store_seconds}
        return ChunkReport(completed=len(tally.lines), payload_bytes=tally.payload_bytes, step_seconds=seconds)

    def _files(
        self, spec: GenerationSpec, items: range, heartbeat: Heartbeat, tally: Tally
    ) -> Iterator[tuple[range, list[bytes]]]:
        """The encoded pictures, batch by batch; nothing is handed out once the work must stop."""
        predicted = self._predicted(spec, items)
        while True:
            asked = self._clock.monotonic()
            batch = next(predicted, None)
            answered = self._clock.monotonic()
            tally.predict_seconds += answered - asked
            if batch is None:
                return
            heartbeat.check()
            payloads = self._encoded(spec, batch.images)
            tally.encode_seconds += self._clock.monotonic() - answered
            tally.payload_bytes += sum(map(len, payloads))
            yield batch.items, payloads

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
        return Batch(items=items, images=images[: len(items)])

    def _encoded(self, spec: GenerationSpec, images: NDArray[np.uint8]) -> list[bytes]:
        # The codec gives the interpreter's lock back, so one helper thread beside this one doubles the rate.
        half = len(images) // 2
        other = self._threads.submit(lambda: [encode(image, spec.format) for image in images[half:]])
        return [encode(image, spec.format) for image in images[:half]] + other.result()

    def _uploads(self, job_id: str, spec: GenerationSpec, items: range, payloads: list[bytes], tally: Tally) -> list[Upload]:
        """One object per picture."""
        extension, content_type = EXTENSIONS[spec.format], CONTENT_TYPES[spec.format]
        uploads = []
        for index, payload in zip(items, payloads, strict=True):
            key = layout.image_key(job_id, index, extension)
            uploads.append(Upload(key=key, payload=payload, content_type=content_type))
            tally.lines.append(result_line(spec, index, key=key, payload=payload))
        return uploads

    def _shard(
        self, spec: GenerationSpec, key: str, files: Iterator[tuple[range, list[bytes]]], tally: Tally
    ) -> Iterator[bytes]:
        """All pictures as the parts of one tar file."""
        position = 0
        for items, payloads in files:
            for index, payload in zip(items, payloads, strict=True):
                facts: dict[str, object] = {"index": index, "seed": spec.seed_of(index), "class": spec.class_of(index)}
                members, offset = shard.sample(index, payload=payload, extension=EXTENSIONS[spec.format], facts=facts)
                tally.lines.append(result_line(spec, index, key=key, payload=payload, offset=position + offset))
                position += len(members)
                yield members
        yield shard.END


def result_line(spec: GenerationSpec, index: int, *, key: str, payload: bytes, offset: int | None = None) -> str:
    """One line of results.jsonl: everything that makes the picture accountable. `offset`: of its bytes in a tar shard."""
    facts: dict[str, object] = {
        "index": index,
        "seed": spec.seed_of(index),
        "class": spec.class_of(index),
        "key": key,
        "sha256": sha256(payload),
        "bytes": len(payload),
    }
    if offset is not None:
        facts["offset"] = offset
    return json.dumps(facts, separators=(",", ":")) + "\n"
