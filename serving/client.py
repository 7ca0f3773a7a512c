"""Predict over gRPC against TensorFlow Serving or the embedded server, without importing TensorFlow."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import grpc
import numpy as np
from numpy.typing import NDArray

from aigc_core.errors import AigcError, InvalidSpec, Transient, Unavailable
from serving.contract import IMAGES, LABELS, LATENTS, SIGNATURE
from serving.protos import model_server_pb2 as pb
from serving.tensors import to_array, to_proto

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

#: Largest answer taken, in bytes; gRPC's default of 4 MiB is less than 64 pictures of 256×256.
RECEIVE_BYTES_MAX = 256 * 1024 * 1024

#: The server's fault or its load, not the request's: wait and ask again. NOT_FOUND: the pinned version is not loaded (yet).
_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.NOT_FOUND,
}
_WRONG = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED}

#: Called after every Predict: model, version, gRPC code, seconds, pictures asked for.
OnRequest = Callable[[str, int, str, float, int], None]


def _ignore(model: str, version: int, code: str, seconds: float, image_count: int) -> None:
    """Count nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatus:
    """One version as the model server sees it."""

    version: int
    state: str  # START, LOADING, AVAILABLE, UNLOADING, END
    error_code: int
    error_message: str


class ServingPredictor:
    """Keeps the promise of `Predictor` with one channel per target, used in turn; made at the first request."""

    def __init__(self, targets: Sequence[str], *, deadline_seconds: float = 30.0, on_request: OnRequest = _ignore) -> None:
        if not targets:
            raise InvalidSpec("no model server named; set AIGC_SERVING_TARGETS to host:port")
        self._targets = list(targets)
        self._deadline_seconds = deadline_seconds
        self._on_request = on_request
        self._channels: list[grpc.Channel] = []
        self._turn = itertools.count()
        self._lock = threading.Lock()

    def predict(
        self, model: str, version: int, latents: NDArray[np.float32], *, labels: NDArray[np.int32] | None = None
    ) -> NDArray[np.uint8]:
        """See `Predictor`. The answer is read-only memory of the message where the server sends raw bytes."""
        request = pb.PredictRequest(output_filter=[IMAGES])
        request.model_spec.name = model
        request.model_spec.version.value = version
        request.model_spec.signature_name = SIGNATURE
        request.inputs[LATENTS].CopyFrom(to_proto(latents))
        if labels is not None:
            request.inputs[LABELS].CopyFrom(to_proto(labels))
        started, code = time.perf_counter(), "OK"
        try:
            answer: pb.PredictResponse = self._call(PREDICT, request, pb.PredictResponse)
        except grpc.RpcError as error:
            code = cast("grpc.Call", error).code().name
            raise self._translated(error, model, version) from error
        finally:
            self._on_request(model, version, code, time.perf_counter() - started, len(latents))
        return checked_images(answer, model=model, version=version, count=len(latents))

    def model_status(self, model: str) -> list[VersionStatus]:
        """All versions that the next target knows of, highest first; empty for a model that it does not know."""
        request = pb.GetModelStatusRequest()
        request.model_spec.name = model
        try:
            answer: pb.GetModelStatusResponse = self._call(GET_MODEL_STATUS, request, pb.GetModelStatusResponse)
        except grpc.RpcError as error:
            if cast("grpc.Call", error).code() is grpc.StatusCode.NOT_FOUND:
                return []
            raise self._translated(error, model, None) from error
        return [
            VersionStatus(
                version=status.version,
                state=pb.ModelVersionStatus.State.Name(status.state),
                error_code=status.status.error_code,
                error_message=status.status.error_message,
            )
            for status in answer.model_version_status
        ]

    def close(self) -> None:
        """Close the channels; the next request opens new ones."""
        with self._lock:
            channels, self._channels = self._channels, []
        for channel in channels:
            channel.close()

    def _call(self, method: str, request: Any, answer_type: Any) -> Any:
        channel = self._next_channel()
        call = channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=answer_type.FromString
        )
        return call(request, timeout=self._deadline_seconds)

    def _next_channel(self) -> grpc.Channel:
        with self._lock:
            if not self._channels:
                options = [
                    ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
                    ("grpc.max_send_message_length", RECEIVE_BYTES_MAX),
                    # Servers answer pings more often than every 5 minutes with GOAWAY.
                    ("grpc.keepalive_time_ms", 310_000),
                    ("grpc.initial_reconnect_backoff_ms", 500),
                    ("grpc.max_reconnect_backoff_ms", 5_000),
                ]
                self._channels = [grpc.insecure_channel(target, options) for target in self._targets]
            return self._channels[next(self._turn) % len(self._channels)]

    def _translated(self, error: grpc.RpcError, model: str, version: int | None) -> AigcError:
        call = cast("grpc.Call", error)  # every error of a unary call is one
        code, details = call.code(), call.details() or ""
        where = f"model server {', '.join(self._targets)}"
        what = f"model {model}" + ("" if version is None else f" version {version}")
        said = f"{code.name}: {details[:200]}"
        if code is grpc.StatusCode.NOT_FOUND:
            return Unavailable(f"{where} does not serve {what} ({said}); it may still be loading")
        if code in _AWAY:
            return Unavailable(f"{where} did not answer for {what} ({said}); check AIGC_SERVING_TARGETS and that it runs")
        if code in _WRONG:
            return InvalidSpec(f"{where} refused the request for {what} ({said}); publish the model again")
        return Transient(f"{where} failed on {what} ({said})")


def checked_images(answer: pb.PredictResponse, *, model: str, version: int, count: int) -> NDArray[np.uint8]:
    """The pictures of an answer, or `InvalidSpec` when it is not what the contract says."""
    what = f"model {model} version {version}"
    if answer.model_spec.version.value != version:
        raise InvalidSpec(f"{what}: version {answer.model_spec.version.value} answered")
    if IMAGES not in answer.outputs:
        raise InvalidSpec(f"{what}: no output {IMAGES!r}, but {sorted(answer.outputs)}; publish the model again")
    try:
        images = to_array(answer.outputs[IMAGES])
    except ValueError as error:
        raise InvalidSpec(f"{what}: output {IMAGES!r} is malformed ({error})") from error
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != count:
        raise InvalidSpec(f"{what}: output is {images.dtype} {images.shape}, expected uint8 ({count}, H, W, C)")
    if images.size and (images == images.flat[0]).all():
        raise InvalidSpec(f"{what}: every pixel of {count} pictures is {images.flat[0]}: the generator is broken")
    return images
