"""Checkpoints of a run in an object store: complete, verified, and never destroyed by a kill.

    <prefix>checkpoints/<step>-<sha256, 12 digits>.npz    every array of the run's state
    <prefix>checkpoint.json                               {"checkpoints": [{key, sha256, payload_bytes, step, …}, …]}

The payload is stored first and the pointer second: whoever is killed in between leaves the pointer on the previous
payload. The pointer names the last two, newest first; a payload whose hash is wrong is passed over.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aigc_core.errors import InvalidSpec, NotFound, Transient
from aigc_core.storage.object_store import ObjectStore

#: Checkpoints that stay: the newest, and one to fall back to.
KEPT_COUNT = 2

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """How far a run is; with the arrays all that a resumed run needs, for batches and noise are functions of it."""

    step: int  # steps done
    seconds: float  # trained so far, over all resumes
    rollback_count: int = 0  # times the run went back because of a loss that was not finite
    spec_sha256: str = ""  # of the TrainingSpec: another spec must not continue from here


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A loaded and verified checkpoint."""

    progressed: Progressed
    arrays: dict[str, NDArray[Any]]


def save_checkpoint(progressed: Progressed, arrays: Arrays, *, store: ObjectStore, prefix: str) -> None:
    """Store the payload, then point at it, then remove what is no longer pointed at."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name.replace("/", "|"): array for name, array in arrays.items()})
    payload = buffer.getvalue()
    sha256 = hashlib.sha256(payload).hexdigest()
    key = f"{prefix}checkpoints/{progressed.step:09d}-{sha256[:12]}.npz"
    store.put(key, payload)
    entry = {"key": key, "sha256": sha256, "payload_bytes": len(payload), **asdict(progressed)}
    kept = [entry, *(old for old in _entries(store, prefix) if old["key"] != key and old["step"] <= progressed.step)]
    pointer = {"checkpoints": kept[:KEPT_COUNT]}
    store.put(_pointer_key(prefix), json.dumps(pointer, indent=1).encode(), content_type="application/json")
    pointed_at = {entry["key"] for entry in kept[:KEPT_COUNT]}
    store.delete([info.key for info in store.scan(f"{prefix}checkpoints/") if info.key not in pointed_at])


def load_checkpoint(*, store: ObjectStore, prefix: str, spec_sha256: str) -> Checkpoint | None:
    """The newest intact checkpoint; None where there is no checkpoint yet.

    `InvalidSpec` if it belongs to another spec, `Transient` if checkpoints exist but none of them is intact.
    """
    entries = _entries(store, prefix)
    for entry in entries:
        if entry["spec_sha256"] != spec_sha256:
            raise InvalidSpec(
                f"checkpoint {entry['key']} was written by a run with another spec; expected the same spec; "
                "train under a new job instead"
            )
        arrays = _intact_arrays(store, entry)
        if arrays is not None:
            names = ("step", "seconds", "rollback_count", "spec_sha256")
            return Checkpoint(progressed=Progressed(**{name: entry[name] for name in names}), arrays=arrays)
    if entries:
        raise Transient(
            f"{_pointer_key(prefix)}: none of its {len(entries)} checkpoints is intact; expected one whose sha256 is "
            "right; restore the objects, or delete the pointer to train from the start"
        )
    return None


def _entries(store: ObjectStore, prefix: str) -> list[dict[str, Any]]:
    try:
        pointer = json.loads(store.get(_pointer_key(prefix)))
        return list(pointer["checkpoints"])
    except NotFound:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise Transient(
            f"{_pointer_key(prefix)} is unreadable ({error}); expected JSON with a list `checkpoints`; restore it, or "
            "delete it to train from the start"
        ) from error


def _intact_arrays(store: ObjectStore, entry: Mapping[str, Any]) -> dict[str, NDArray[Any]] | None:
    """The arrays of one payload, or None where it is missing or its bytes are not the ones that were written."""
    try:
        payload = store.get(entry["key"])
    except NotFound:
        return None
    if hashlib.sha256(payload).hexdigest() != entry["sha256"]:
        return None
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            return {name.replace("|", "/"): archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile):
        return None


def _pointer_key(prefix: str) -> str:
    return f"{prefix}checkpoint.json"
