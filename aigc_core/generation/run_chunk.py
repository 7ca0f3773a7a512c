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

from aigc_core import failpoints
from aigc_core.clock import Clock
from aigc_core.errors import InvalidSpec
from aigc_core.generation import shard
from aigc_core.generation.encode import CONTENT_TYPES, EXTENSIONS, encode, sha256
from aigc_core.generation.latents import latents_from_seeds
from aigc_core.generation.predictor import Predictor
from aigc_core.jobs.execute import Heartbeat
from aigc_core.jobs.items import Item, items_of
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

    items: list[Item]
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
        files = self._files(spec, self._items(spec, lease), heartbeat, tally)
        if spec.packing == "tar":
            key = layout.shard_key(lease.job_id, lease.chunk)
            self._store.put_stream(key, self._shard(key, files, tally), content_type=shard.CONTENT_TYPE)
            failpoints.hit("after_images_put")
        else:
            for items, payloads in files:
                self._store.put_many(self._uploads(lease.job_id, items, payloads, tally))
                failpoints.hit("after_images_put")
        store_seconds = self._clock.monotonic() - started - tally.predict_seconds - tally.encode_seconds
        heartbeat.check()
        text = "".join(tally.lines).encode()
        failpoints.hit("before_results_put")
        self._store.put(layout.part_key(lease.job_id, lease.chunk), text, content_type="application/x-ndjson")
        failpoints.hit("after_results_put")
        seconds = {"predict": tally.predict_seconds, "encode": tally.encode_seconds, "store": store_seconds}
        return ChunkReport(completed=len(tally.lines), payload_bytes=tally.payload_bytes, step_seconds=seconds)

    def _items(self, spec: GenerationSpec, lease: Lease) -> list[Item]:
        return items_of(spec, chunk_range(spec, lease.chunk), job_id=lease.job_id, store=self._store)

    def _files(
        self, spec: GenerationSpec, items: list[Item], heartbeat: Heartbeat, tally: Tally
    ) -> Iterator[tuple[list[Item], list[bytes]]]:
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
            payloads = self._encoded(batch)
            tally.encode_seconds += self._clock.monotonic() - answered
            tally.payload_bytes += sum(map(len, payloads))
            yield batch.items, payloads

    def _predicted(self, spec: GenerationSpec, items: list[Item]) -> Iterator[Batch]:
        waiting: deque[Future[Batch]] = deque()
        first = items[0].index
        try:
            for cut in batches(range(first, first + len(items))):
                batch_items = items[cut.start - first : cut.stop - first]
                waiting.append(self._threads.submit(self._predict, spec, batch_items))
                if len(waiting) > REQUESTS_IN_FLIGHT:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _predict(self, spec: GenerationSpec, items: list[Item]) -> Batch:
        """One request, padded to BATCH_ITEMS: the same picture is always computed in the same shape."""
        latents = np.zeros((BATCH_ITEMS, spec.latent_dim), np.float32)
        latents[: len(items)] = latents_from_seeds([item.seed for item in items], spec.latent_dim)
        labels = None
        if spec.class_names:
            labels = np.zeros(BATCH_ITEMS, np.int32)
            labels[: len(items)] = [spec.class_names.index(str(item.class_name)) for item in items]
        images = self._predictor.predict(spec.model, spec.version, latents, labels=labels)
        expected = (BATCH_ITEMS, spec.height, spec.width, spec.channels)
        if images.shape != expected or images.dtype != np.uint8:
            raise InvalidSpec(
                f"model {spec.model} version {spec.version} answered {images.dtype} {images.shape}, its card says uint8 "
                f"{expected}; publish the model again"
            )
        return Batch(items=items, images=images[: len(items)])

    def _encoded(self, batch: Batch) -> list[bytes]:
        # The codec gives the interpreter's lock back, so one helper thread beside this one doubles the rate.
        pictures = list(zip(batch.images, batch.items, strict=True))
        half = len(pictures) // 2
        other = self._threads.submit(lambda: [encode(image, item.format) for image, item in pictures[half:]])
        return [encode(image, item.format) for image, item in pictures[:half]] + other.result()

    def _uploads(self, job_id: str, items: list[Item], payloads: list[bytes], tally: Tally) -> list[Upload]:
        """One object per picture."""
        uploads = []
        for item, payload in zip(items, payloads, strict=True):
            key = layout.image_key(job_id, item.index, EXTENSIONS[item.format])
            uploads.append(Upload(key=key, payload=payload, content_type=CONTENT_TYPES[item.format]))
            tally.lines.append(result_line(item, key=key, payload=payload))
        return uploads

    def _shard(self, key: str, files: Iterator[tuple[list[Item], list[bytes]]], tally: Tally) -> Iterator[bytes]:
        """All pictures as the parts of one tar file."""
        position = 0
        for items, payloads in files:
            for item, payload in zip(items, payloads, strict=True):
                extension = EXTENSIONS[item.format]
                members, offset = shard.sample(item.index, payload=payload, extension=extension, facts=item.facts)
                tally.lines.append(result_line(item, key=key, payload=payload, offset=position + offset))
                position += len(members)
                yield members
        yield shard.END


def result_line(item: Item, *, key: str, payload: bytes, offset: int | None = None) -> str:
    """One line of results.jsonl: everything that makes the picture accountable. `offset`: of its bytes in a tar shard."""
    facts = item.facts | {"key": key, "sha256": sha256(payload), "bytes": len(payload)}
    if offset is not None:
        facts["offset"] = offset
    return json.dumps(facts, separators=(",", ":")) + "\n"
