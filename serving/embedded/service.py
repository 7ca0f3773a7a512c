"""The gRPC surface: Predict, GetModelMetadata, GetModelStatus under TensorFlow Serving's method paths."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyProto

from serving.embedded.catalogue import Catalogue
from serving.embedded.engine import RequestError, predict
from serving.protos import model_server_pb2 as pb
from serving.tensors import to_proto

log = logging.getLogger("serving.embedded")

#: Longer messages are cut, as upstream cuts them.
MESSAGE_MAX = 1_024
SIGNATURE_DEF_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


class Service:
    """Answers requests from a catalogue."""

    def __init__(self, catalogue: Catalogue, *, tensor_content: bool) -> None:
        self._catalogue = catalogue
        self._tensor_content = tensor_content

    def predict(self, request: pb.PredictRequest) -> pb.PredictResponse:
        """Run one version on the inputs."""
        _require_spec(request)
        version, engine = self._catalogue.find(request.model_spec)
        signature_name, outputs = predict(engine, request)
        answer = pb.PredictResponse()
        answer.model_spec.name = request.model_spec.name
        answer.model_spec.version.value = version
        answer.model_spec.signature_name = signature_name
        for alias, array in outputs.items():
            answer.outputs[alias].CopyFrom(to_proto(array, content=self._tensor_content))
        return answer

    def get_model_metadata(self, request: pb.GetModelMetadataRequest) -> pb.GetModelMetadataResponse:
        """The signatures of one version."""
        _require_spec(request)
        if not request.metadata_field:
            text = "GetModelMetadataRequest must specify at least one metadata_field"
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, text)
        for name in request.metadata_field:
            if name != "signature_def":
                raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, f"Metadata field {name} is not supported")
        version, engine = self._catalogue.find(request.model_spec)
        answer = pb.GetModelMetadataResponse()
        answer.model_spec.name = request.model_spec.name
        answer.model_spec.version.value = version
        signatures = pb.SignatureDefMap(signature_def=dict(engine.signatures))
        answer.metadata["signature_def"].CopyFrom(AnyProto(type_url=SIGNATURE_DEF_URL, value=signatures.SerializeToString()))
        return answer

    def get_model_status(self, request: pb.GetModelStatusRequest) -> pb.GetModelStatusResponse:
        """The states of a model's versions."""
        _require_spec(request)
        return pb.GetModelStatusResponse(model_version_status=self._catalogue.statuses(request.model_spec))


def build_server(service: Service, *, threads: int) -> grpc.Server:
    """A gRPC server with the service's methods; a request beyond `threads` in work gets RESOURCE_EXHAUSTED."""
    server = grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
        maximum_concurrent_rpcs=threads,
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # two servers on one port would each get half of the requests
        ],
    )
    prediction = {
        "Predict": _method(service.predict, pb.PredictRequest),
        "GetModelMetadata": _method(service.get_model_metadata, pb.GetModelMetadataRequest),
    }
    model = {"GetModelStatus": _method(service.get_model_status, pb.GetModelStatusRequest)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", prediction),
            grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", model),
        )
    )
    return server


def _require_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")


def _method(answer: Callable[[Any], Any], request_type: Any) -> Any:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return answer(request)
        except RequestError as error:
            _abort(context, error.code, error.text)
        except Exception as error:  # a fault of ours: the client gets a status, the log the trace
            log.exception("request failed")
            _abort(context, grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")

    return grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=request_type.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text if len(text) <= MESSAGE_MAX else text[:MESSAGE_MAX] + "...TRUNCATED")
    raise AssertionError("abort raises")
