"""An object store in a dict: tests and dry runs."""

import threading
from collections.abc import Iterable, Iterator

from aigc_core.errors import NotFound
from aigc_core.storage.object_store import BINARY, ObjectInfo, Upload


class MemoryObjectStore:
    """Keeps every promise of `ObjectStore`, for as long as the process lives."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self.put_count = 0  #: puts so far, replacements included: tests ask whether something was made twice

    def put(self, key: str, payload: bytes, *, content_type: str = BINARY) -> None:
        with self._lock:
            self._objects[key] = bytes(payload)
            self.put_count += 1

    def put_many(self, uploads: Iterable[Upload]) -> None:
        for upload in uploads:
            self.put(upload.key, upload.payload, content_type=upload.content_type)

    def put_stream(self, key: str, parts: Iterable[bytes], *, content_type: str = BINARY) -> None:
        self.put(key, b"".join(parts), content_type=content_type)

    def get(self, key: str) -> bytes:
        try:
            return self._objects[key]
        except KeyError:
            raise NotFound(f"no object {self.uri(key)}") from None

    def exists(self, key: str) -> bool:
        return key in self._objects

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._lock:
            found = sorted((key, len(payload)) for key, payload in self._objects.items() if key.startswith(prefix))
        for key, size in found:
            yield ObjectInfo(key=key, size_bytes=size)

    def list_folders(self, prefix: str) -> list[str]:
        below = (info.key[len(prefix) :] for info in self.scan(prefix))
        return sorted({rest.split("/", 1)[0] for rest in below if "/" in rest})

    def delete(self, keys: Iterable[str]) -> None:
        with self._lock:
            for key in keys:
                self._objects.pop(key, None)

    def uri(self, key: str) -> str:
        return f"memory://{key}"
