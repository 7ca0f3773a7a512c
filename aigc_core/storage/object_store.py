"""The promise that every store of bytes keeps; one contract suite runs over all implementations."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One object of a listing."""

    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One object to be stored."""

    key: str
    payload: bytes
    content_type: str = BINARY


class ObjectStore(Protocol):
    """A flat map from key to bytes. Keys are relative, use `/`, and never start with one.

    All methods may be called from several threads. A server that cannot be reached, or answers that it is overloaded,
    raises `Unavailable`; any other failure of one call raises `Transient`.
    """

    def put(self, key: str, payload: bytes, *, content_type: str = BINARY) -> None:
        """Store the bytes; replaces what was there, visible whole or not at all."""
        ...

    def put_many(self, uploads: Iterable[Upload]) -> None:
        """Store several objects at once; returns when all are stored, raises the first error otherwise."""
        ...

    def put_stream(self, key: str, parts: Iterable[bytes], *, content_type: str = BINARY) -> None:
        """Store the concatenation of the parts as one object without holding it in memory."""
        ...

    def get(self, key: str) -> bytes:
        """The bytes under the key; `NotFound` if there are none."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an object under the key."""
        ...

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix` (which ends in `/`, or is empty), in key order."""
        ...

    def list_folders(self, prefix: str) -> list[str]:
        """The names directly below `prefix` (which ends in `/`) that have objects below them, in order."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects; a key that does not exist is no error."""
        ...

    def uri(self, key: str) -> str:
        """How a person finds the object: `s3://bucket/key`, or `memory://key`."""
        ...
