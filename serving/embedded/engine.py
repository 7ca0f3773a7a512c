"""What an engine promises, and the checks in front of every engine, worded as TensorFlow Serving words them."""

from collections.abc import Mapping
from typing import Any, Protocol

import grpc
from numpy.typing import NDArray

from serving.contract import SIGNATURE
from serving.protos import model_server_pb2 as pb
from serving.tensors import to_array


class RequestError(Exception):
    """A request that gets a gRPC status instead of an answer."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Engine(Protocol):
    """One loaded version. `run` may be called from several threads; the memory goes with the last reference."""

    @property
    def signatures(self) -> Mapping[str, pb.SignatureDef]:
        """By name."""
        ...

    def run(self, signature: pb.SignatureDef, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        """The outputs with these aliases, in this order, from inputs by alias. Raises `RequestError`."""
        ...


def invalid(text: str) -> RequestError:
    """INVALID_ARGUMENT."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, text)


def predict(engine: Engine, request: pb.PredictRequest) -> tuple[str, dict[str, NDArray[Any]]]:
    """(signature name, outputs by alias) of a Predict request on one loaded version."""
    name = request.model_spec.signature_name or SIGNATURE
    signature = engine.signatures.get(name)
    if signature is None:
        raise RequestError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    inputs = checked_inputs(signature, request)
    outputs = chosen_outputs(signature, list(request.output_filter))
    return name, dict(zip(outputs, engine.run(signature, inputs, outputs), strict=True))


def checked_inputs(signature: pb.SignatureDef, request: pb.PredictRequest) -> dict[str, NDArray[Any]]:
    """The inputs by alias: all that the signature names and no others, each of its dtype. Shapes are the graph's matter."""
    expected, given = sorted(signature.inputs), sorted(request.inputs)
    if len(expected) != len(given):
        extra, missing = [a for a in given if a not in expected], [a for a in expected if a not in given]
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(expected)} len({{{','.join(given)}}}) != "
            f"len({{{','.join(expected)}}}). Sent extra: {{{','.join(extra)}}}. "
            f"Missing but required: {{{','.join(missing)}}}."
        )
    inputs: dict[str, NDArray[Any]] = {}
    for position, alias in enumerate(expected):
        if alias not in request.inputs:
            feed = signature.inputs[alias].name
            raise invalid(
                f"Signature input alias: {alias}(feed name: {feed}) not found in request and no default value provided. "
                f"Inputs expected to be in the request {{{','.join(given)}}}, or default input alias set: "
            )
        proto = request.inputs[alias]
        try:
            inputs[alias] = to_array(proto)
        except ValueError:
            raise invalid(f"tensor parsing error: {alias}") from None
        if proto.dtype != signature.inputs[alias].dtype:
            wanted = _word(signature.inputs[alias].dtype)
            raise invalid(f"Expects arg[{position}] to be {wanted} but {_word(proto.dtype)} is provided")
    return inputs


def chosen_outputs(signature: pb.SignatureDef, output_filter: list[str]) -> list[str]:
    """The output aliases of an answer: the filter's, or all."""
    for position, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            known = ",".join(sorted(signature.outputs))
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set {{{known}}}."
            )
        if alias in output_filter[:position]:
            raise invalid(f"duplicate output tensor alias: {alias}")
    return output_filter or sorted(signature.outputs)


def _word(data_type: int) -> str:
    """TensorFlow's word for a DataType: float, double, int32, uint8, bool, …"""
    return pb.DataType.Name(data_type).removeprefix("DT_").lower()
