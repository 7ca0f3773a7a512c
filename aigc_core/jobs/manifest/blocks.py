"""How the ordered pictures are stored: gzipped JSONL, BLOCK_ITEMS lines an object, so that a chunk reads one of them."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from typing import IO, Any

from aigc_core.errors import InvalidSpec
from aigc_core.jobs.manifest.check import Entry
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore, Upload

#: Ten million pictures are 611 objects; to unpack one takes 10 ms of the second that a chunk takes.
BLOCK_ITEMS = 16_384

CONTENT_TYPE = "application/gzip"


class BlockWriter:
    """Packs entries into blocks as they come; only one block is held in memory, the others wait in `file`."""

    def __init__(self, file: IO[bytes]) -> None:
        self.count = 0
        self._file = file
        self._sizes: list[int] = []
        self._lines: list[str] = []
        self._digest = hashlib.sha256()
        self._quoted: dict[str | None, str] = {}

    def add(self, entry: Entry) -> None:
        """One more picture."""
        seed, class_name, custom, image_format = entry
        quoted = self._quoted.get(class_name) or self._quoted.setdefault(class_name, json.dumps(class_name))
        line = f'{{"index":{self.count},"seed":{seed},"class":{quoted}'
        if custom:
            line += f',"id":{json.dumps(custom)}'
        if image_format:
            line += f',"format":"{image_format}"'
        self._lines.append(line + "}\n")
        self.count += 1
        if len(self._lines) == BLOCK_ITEMS:
            self.flush()

    def flush(self) -> None:
        """Pack what is there; once more after the last picture."""
        if not self._lines:
            return
        text = "".join(self._lines).encode()
        self._lines.clear()
        self._digest.update(text)
        packed = gzip.compress(text, compresslevel=3, mtime=0)
        self._file.write(packed)
        self._sizes.append(len(packed))

    @property
    def sha256(self) -> str:
        """Of all lines, uncompressed: the same pictures in the same order have the same."""
        return self._digest.hexdigest()

    def keys(self, job_id: str) -> list[str]:
        """Where the blocks of a job go."""
        return [layout.manifest_key(job_id, block) for block in range(len(self._sizes))]

    def uploads(self, job_id: str) -> Iterator[Upload]:
        """Every block, read back one by one."""
        self._file.seek(0)
        for key, size_bytes in zip(self.keys(job_id), self._sizes, strict=True):
            yield Upload(key=key, payload=self._file.read(size_bytes), content_type=CONTENT_TYPE)


def read_blocks(store: ObjectStore, *, job_id: str, indexes: range) -> list[dict[str, Any]]:
    """The lines of these items. `NotFound` or `InvalidSpec` when a block is gone or damaged: no further try would help."""
    lines: list[bytes] = []
    for block in range(indexes.start // BLOCK_ITEMS, (indexes.stop - 1) // BLOCK_ITEMS + 1):
        first = block * BLOCK_ITEMS
        key = layout.manifest_key(job_id, block)
        packed = store.get(key)
        try:
            unpacked = gzip.decompress(packed).splitlines()
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidSpec(f"{store.uri(key)} is damaged ({error}); order the manifest again") from error
        lines += unpacked[max(indexes.start - first, 0) : indexes.stop - first]
    found = [json.loads(line) for line in lines]
    if [line["index"] for line in found] != list(indexes):
        prefix = store.uri(layout.manifest_key(job_id, indexes.start // BLOCK_ITEMS))
        raise InvalidSpec(f"{prefix} does not have items {indexes.start} to {indexes.stop - 1}; order the manifest again")
    return found
