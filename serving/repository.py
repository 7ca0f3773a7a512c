"""The model repository: `<base_path>/<model>/<version>/` on disk, and the cards of all versions in S3.

Order of a publish, and why. (1) Everything is built in `.tmp-…`, a name that no server takes for a version. (2) One rename
makes the version visible whole. (3) `models.config` lists all models, replaced by rename: only a new model changes it.
(4) The card goes to S3: only now can a job name the version. One publisher of a model works at a time (a file lock), so
what lies in `.tmp-…` then was left by a crash before (2), and is removed. A crash between (2) and (4) leaves a version that
is served but that nobody can name; a training job publishes one version, so its retry finds it and goes on with (3).
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from google.protobuf import text_format

from aigc_core import failpoints
from aigc_core.errors import NotFound, Transient
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore
from serving.contract import CARD_PATH, CONFIG_NAME, ModelCard
from serving.protos import model_server_pb2 as pb

TEMPORARY = ".tmp-"


def publish(
    base_path: Path,
    card_of: Callable[[int], ModelCard],
    build: Callable[[Path], dict[str, float]],
    *,
    store: ObjectStore,
    server_base_path: str = "",
) -> ModelCard:
    """Build the next version of a model beside the others, check it there, make it visible whole.

    `build` writes the SavedModel into the folder that it is given, raises if it is not good, and returns figures for the
    card. A version that the card's job has published already is not built again. Two publishers of one model wait for each
    other. `Transient` when the disk refuses.
    """
    first = card_of(1)
    folder = base_path / first.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_publisher(folder):
            card = _visible_version(folder, first.job_id) or _next_version(folder, card_of, build, store=store)
            write_config(base_path, server_base_path=server_base_path)
    except OSError as error:
        raise Transient(f"model repository {folder}: {error}; check its space and its rights") from error
    payload = card.to_json().encode()
    store.put(layout.model_card_key(card.name, card.version), payload, content_type="application/json")
    return card


def published_by(store: ObjectStore, name: str, job_id: str) -> ModelCard | None:
    """The version of a model that a training job has published, or None: what to ask before its work is done again."""
    for version in reversed(list_versions(store, name)):
        card = ModelCard.from_json(store.get(layout.model_card_key(name, version)))
        if card.job_id == job_id:
            return card
    return None


@contextmanager
def _only_publisher(folder: Path) -> Iterator[None]:
    """Hold the model's lock, which ends with the process that holds it, and clear away what a killed one left."""
    with _locked(folder):
        for left in folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _visible_version(folder: Path, job_id: str) -> ModelCard | None:
    """The job's version on this disk, which its card may not have followed into the store."""
    paths = (path / CARD_PATH for path in folder.iterdir() if path.name.isdigit())
    cards = (ModelCard.from_json(path.read_text()) for path in paths if path.exists())
    return next((card for card in cards if card.job_id == job_id), None)


def _next_version(
    folder: Path,
    card_of: Callable[[int], ModelCard],
    build: Callable[[Path], dict[str, float]],
    *,
    store: ObjectStore,
) -> ModelCard:
    building = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
    try:
        figures = build(building)
        number = next_version(folder, store=store)
        return _take_version(folder, building, replace(card_of(number), figures=figures))
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _take_version(folder: Path, building: Path, card: ModelCard) -> ModelCard:
    """Write the card inside, bring all of it to the disk, and make it visible in one rename."""
    card_path = building / CARD_PATH
    card_path.parent.mkdir(parents=True, exist_ok=True)
    card_path.write_text(card.to_json())
    _sync(building)
    building.chmod(0o755)  # mkdtemp made it private; the model server is another user
    failpoints.hit("before_publish_rename")
    os.rename(building, folder / str(card.version))
    failpoints.hit("after_publish_rename")
    _sync_folder(folder)
    return card


def next_version(folder: Path, *, store: ObjectStore) -> int:
    """One more than the highest number ever used, on disk or in the store; 1 for the first.

    The store remembers retired versions too: a number that named one generator never names another.
    """
    names = [*(path.name for path in folder.iterdir()), *store.list_folders(layout.model_prefix(folder.name))]
    return max((int(name) for name in names if name.isdigit()), default=0) + 1


def write_config(base_path: Path, *, server_base_path: str = "") -> None:
    """(Re)write the ModelServerConfig that the model server polls: every model with a version, all versions served.

    All, because a running job is pinned to its version; old ones go by `retire`. An empty repository gives an empty list.
    """
    base_path.mkdir(parents=True, exist_ok=True)
    with _locked(base_path):  # or the publisher of another model could write an older list last
        text = _config_text(base_path, server_base_path)
        path = base_path / CONFIG_NAME
        if path.exists() and path.read_text() == text:
            return
        with tempfile.NamedTemporaryFile("w", dir=base_path, prefix=TEMPORARY, delete=False) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(file.name, 0o644)
        os.rename(file.name, path)


def _config_text(base_path: Path, server_base_path: str) -> str:
    config = pb.ModelServerConfig()
    config.model_config_list.SetInParent()
    for folder in sorted(path for path in base_path.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if any(path.name.isdigit() for path in folder.iterdir()):
            entry = config.model_config_list.config.add(name=folder.name, model_platform="tensorflow")
            entry.base_path = str(Path(server_base_path or base_path.resolve()) / folder.name)
            entry.model_version_policy.all.SetInParent()
    return text_format.MessageToString(config) or "model_config_list {\n}\n"


def retire(base_path: Path, name: str, version: int, *, store: ObjectStore, server_base_path: str = "") -> None:
    """Take a version out: its card first, so that no new job names it, then its folder in one rename."""
    folder = base_path / name / str(version)
    if not folder.is_dir():
        raise NotFound(f"model {name} has no version {version} in {base_path}")
    card = (folder / CARD_PATH).read_bytes()
    store.put(layout.retired_card_key(name, version), card, content_type="application/json")
    store.delete([layout.model_card_key(name, version)])
    gone = folder.with_name(f"{TEMPORARY}retired-{version}")
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)
    write_config(base_path, server_base_path=server_base_path)


def list_versions(store: ObjectStore, name: str) -> list[int]:
    """The published versions of a model, ascending; empty for an unknown one."""
    parts = (info.key.split("/") for info in store.scan(layout.model_prefix(name)))
    return sorted(int(version) for *_, version, file in parts if file == "model.json" and version.isdigit())


def list_models(store: ObjectStore) -> list[ModelCard]:
    """The cards of all versions of all models, by name and version."""
    return [
        ModelCard.from_json(store.get(layout.model_card_key(name, version)))
        for name in store.list_folders("models/")
        for version in list_versions(store, name)
    ]


def read_card(store: ObjectStore, name: str, version: int | None = None) -> ModelCard:
    """The card of a version, without one of the newest; `NotFound` says what there is."""
    if version is None:
        versions = list_versions(store, name)
        if not versions:
            known = ", ".join(store.list_folders("models/")) or "none; train one with `aigc train`"
            raise NotFound(f"no model {name!r}; there is {known}")
        version = versions[-1]
    try:
        return ModelCard.from_json(store.get(layout.model_card_key(name, version)))
    except NotFound:
        versions = list_versions(store, name)
        if not versions:
            return read_card(store, name)
        known = ", ".join(map(str, versions[-10:]))
        raise NotFound(f"model {name} has no version {version}; it has {known}") from None


def _sync(folder: Path) -> None:
    """Bring every file of the tree to the disk, so that a power cut after the rename finds them whole."""
    for parent, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _sync_folder(Path(parent))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
