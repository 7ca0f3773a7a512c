"""Which versions are loaded: watches the config and the base paths, loads the new before it unloads the old."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from serving.contract import ONNX_PATH
from serving.embedded.discovery import versions_on_disk, wanted
from serving.embedded.engine import Engine, RequestError
from serving.embedded.warmup import warm_up
from serving.protos import model_server_pb2 as pb

log = logging.getLogger("serving.embedded")
State = pb.ModelVersionStatus.State


@dataclass(slots=True)
class Version:
    """One version of one model in the life of this process; END stays on record."""

    number: int
    state: State = pb.ModelVersionStatus.START
    engine: Engine | None = None
    error: str = ""
    tries: int = 0
    next_try_at: float = 0.0  # monotonic seconds


@dataclass(slots=True)
class Model:
    config: pb.ModelConfig
    versions: dict[int, Version] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Whether there is nothing more to wait for at the start: one version serves, or every one has failed."""
        states = [version.state for version in self.versions.values()]
        return pb.ModelVersionStatus.AVAILABLE in states or (
            bool(states) and all(state == pb.ModelVersionStatus.END for state in states)
        )


class Catalogue:
    """The models of the server. `look` is called by one thread; everything else by any."""

    def __init__(
        self,
        read_config: Callable[[], Iterable[pb.ModelConfig]],
        *,
        threads_per_request: int,
        load_retries: int,
        retry_seconds: float,
        warm: bool,
    ) -> None:
        self._read_config = read_config
        self._threads_per_request = threads_per_request
        self._load_retries = load_retries
        self._retry_seconds = retry_seconds
        self._warm = warm
        self._lock = threading.Lock()
        self._models: dict[str, Model] = {}

    def configure(self) -> None:
        """Read the config; models that it no longer names are unloaded. Raises OSError or text_format.ParseError."""
        configs = {config.name: config for config in self._read_config()}
        with self._lock:
            gone = [model for name, model in self._models.items() if name not in configs]
            for name, config in configs.items():
                self._models.setdefault(name, Model(config)).config = config
        for model in gone:
            self._unload(model, list(model.versions.values()))
            with self._lock:
                self._models.pop(model.config.name)

    def look(self) -> None:
        """One pass over the base paths: load what is wanted and new, highest first, then unload what is not wanted."""
        for model in list(self._models.values()):
            try:
                on_disk = versions_on_disk(Path(model.config.base_path))
            except OSError as error:
                log.error(
                    "Could not find base path %s for servable %s (%s)", model.config.base_path, model.config.name, error
                )
                continue
            aspired = wanted(model.config.model_version_policy, on_disk)
            self._forget_gone(model, on_disk)
            for number in aspired:
                self._load(model, number, on_disk[number])
            ready = any(self._is_available(model, number) for number in aspired)
            if ready or not aspired:
                stale = [v for v in model.versions.values() if v.number not in aspired and v.engine is not None]
                self._unload(model, stale)

    def settled(self) -> bool:
        """Whether every model has a version that serves, or none that ever will."""
        return all(model.settled for model in list(self._models.values()))

    def find(self, spec: pb.ModelSpec) -> tuple[int, Engine]:
        """(version, engine) that a request asks for; `RequestError` otherwise. The reference keeps it loaded."""
        if not spec.name:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        with self._lock:
            model = self._models.get(spec.name)
            versions = {} if model is None else dict(model.versions)
            labels = {} if model is None else dict(model.config.version_labels)
        loaded = {
            number: version.engine
            for number, version in versions.items()
            if version.engine is not None and version.state == pb.ModelVersionStatus.AVAILABLE
        }
        if spec.WhichOneof("version_choice") == "version_label":
            if spec.version_label not in labels:
                text = f"Unrecognized servable version label: {spec.version_label}"
                raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, text)
            number, asked = labels[spec.version_label], f"Specific({spec.name}, {labels[spec.version_label]})"
        elif spec.WhichOneof("version_choice") == "version":
            number, asked = spec.version.value, f"Specific({spec.name}, {spec.version.value})"
        else:
            number, asked = max(loaded, default=0), f"Latest({spec.name})"
        if number not in loaded:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
        return number, loaded[number]

    def statuses(self, spec: pb.ModelSpec) -> list[pb.ModelVersionStatus]:
        """Every version ever seen of the model, or the one asked for; highest first. `RequestError` when there is none."""
        with self._lock:
            model = self._models.get(spec.name)
            versions = sorted([] if model is None else model.versions.values(), key=lambda v: -v.number)
        if not versions:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        if spec.WhichOneof("version_choice") == "version":
            versions = [version for version in versions if version.number == spec.version.value]
            if not versions:
                text = f"Could not find version {spec.version.value} of model {spec.name}"
                raise RequestError(grpc.StatusCode.NOT_FOUND, text)
        return [
            pb.ModelVersionStatus(
                version=version.number,
                state=version.state,
                status=pb.StatusProto(
                    error_code=grpc.StatusCode.UNKNOWN.value[0] if version.error else 0,
                    error_message=version.error,
                ),
            )
            for version in versions
        ]

    def _is_available(self, model: Model, number: int) -> bool:
        version = model.versions.get(number)
        return version is not None and version.state == pb.ModelVersionStatus.AVAILABLE

    def _forget_gone(self, model: Model, on_disk: dict[int, Path]) -> None:
        """A folder that went away and comes back is a new version: one that failed may be mended."""
        with self._lock:
            for number, version in list(model.versions.items()):
                if number not in on_disk and version.engine is None:
                    version.tries, version.next_try_at = 0, 0.0

    def _load(self, model: Model, number: int, folder: Path) -> None:
        with self._lock:
            version = model.versions.setdefault(number, Version(number))
        if version.engine is not None or version.tries > self._load_retries or time.monotonic() < version.next_try_at:
            return
        version.state = pb.ModelVersionStatus.LOADING
        version.tries += 1
        started = time.monotonic()
        try:
            engine = self._open(folder)
            warmed = warm_up(engine, folder) if self._warm else 0
        except Exception as error:  # whatever a broken version raises must not end the server
            text = error.text if isinstance(error, RequestError) else f"{type(error).__name__}: {error}"
            log.error("model %s version %d not loaded, try %d: %s", model.config.name, number, version.tries, text)
            version.next_try_at = time.monotonic() + self._retry_seconds
            if version.tries > self._load_retries:
                version.error = text
                version.state = pb.ModelVersionStatus.END
            return
        with self._lock:
            version.engine, version.error = engine, ""
            version.state = pb.ModelVersionStatus.AVAILABLE
        seconds = time.monotonic() - started
        log.info("model %s version %d loaded in %.2f s, %d warm-up records", model.config.name, number, seconds, warmed)

    def _open(self, folder: Path) -> Engine:
        onnx = folder / ONNX_PATH
        if onnx.exists():
            from serving.embedded.onnx_engine import OnnxEngine

            return OnnxEngine(onnx, threads_per_request=self._threads_per_request)
        if not (folder / "saved_model.pb").exists():
            raise FileNotFoundError(
                "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
                f"`saved_model.pb`)\nSpecified file path: {folder}"
            )
        from serving.embedded.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(folder, threads_per_request=self._threads_per_request)

    def _unload(self, model: Model, versions: list[Version]) -> None:
        for version in versions:
            with self._lock:
                version.state = pb.ModelVersionStatus.UNLOADING
                version.engine, version.tries = None, 0
                version.state = pb.ModelVersionStatus.END
            log.info("model %s version %d unloaded", model.config.name, version.number)
