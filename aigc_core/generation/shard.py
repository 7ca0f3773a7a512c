"""The pictures of one chunk as one tar file in the WebDataset layout: <index>.png beside <index>.json, samples in order.

No time and no name of a user goes in: the same pictures give the same bytes.
"""

import json
import tarfile

CONTENT_TYPE = "application/x-tar"

#: Two empty blocks end a tar file.
END = bytes(2 * tarfile.BLOCKSIZE)


def sample(index: int, *, payload: bytes, extension: str, facts: dict[str, object]) -> tuple[bytes, int]:
    """The members of one picture, and the offset of the picture's own bytes in them."""
    text = json.dumps(facts, separators=(",", ":")).encode()
    described = _member(f"{index:09d}.json", text)
    picture = _member(f"{index:09d}.{extension}", payload)
    return described + picture, len(described) + tarfile.BLOCKSIZE


def _member(name: str, payload: bytes) -> bytes:
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(payload), 0o644
    padding = bytes(-len(payload) % tarfile.BLOCKSIZE)
    return header.tobuf(tarfile.USTAR_FORMAT) + payload + padding


def end_of(offset: int, payload_bytes: int) -> int:
    """The size of a shard whose last picture has these bytes at this offset."""
    return offset + payload_bytes + -payload_bytes % tarfile.BLOCKSIZE + len(END)
