"""What the client raises for each answer of a model server; a real gRPC server gives the answers."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from aigc_core.errors import AigcError, InvalidSpec, Transient, Unavailable
from serving.client import ServingPredictor
from serving.protos import model_server_pb2 as pb
from serving.tensors import to_proto

Behaviour = Callable[[pb.PredictRequest, Any], pb.PredictResponse]
LATENTS = np.zeros((2, 4), np.float32)


@pytest.fixture
def server() -> Iterator[Callable[[Behaviour], str]]:
    """Starts a Predict method of the test's own; gives its host:port."""
    started = []

    def start(behaviour: Behaviour) -> str:
        method = grpc.unary_unary_rpc_method_handler(
            behaviour,
            request_deserializer=pb.PredictRequest.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        made = grpc.server(ThreadPoolExecutor(2))
        made.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": method}),)
        )
        port = made.add_insecure_port("127.0.0.1:0")
        made.start()
        started.append(made)
        return f"127.0.0.1:{port}"

    yield start
    for made in started:
        made.stop(None).wait()


def refusing(code: grpc.StatusCode) -> Behaviour:
    def behave(request: pb.PredictRequest, context: Any) -> pb.PredictResponse:
        context.abort(code, "for the test")
        raise AssertionError("abort raises")

    return behave


def answering(images: Any, *, alias: str = "images", version: int = 3) -> Behaviour:
    def behave(request: pb.PredictRequest, context: Any) -> pb.PredictResponse:
        answer = pb.PredictResponse()
        answer.model_spec.version.value = version
        answer.outputs[alias].CopyFrom(to_proto(images))
        return answer

    return behave


def pictures(*shape: int) -> Any:
    return np.arange(np.prod(shape)).astype(np.uint8).reshape(shape)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Unavailable),
        (grpc.StatusCode.NOT_FOUND, Unavailable),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidSpec),
        (grpc.StatusCode.FAILED_PRECONDITION, InvalidSpec),
        (grpc.StatusCode.INTERNAL, Transient),
        (grpc.StatusCode.UNKNOWN, Transient),
        (grpc.StatusCode.DATA_LOSS, Transient),
    ],
)
def test_a_status_becomes_the_error_that_says_what_to_do(
    server: Callable[[Behaviour], str], code: grpc.StatusCode, error: type[AigcError]
) -> None:
    target = server(refusing(code))

    with pytest.raises(error) as caught:
        ServingPredictor([target]).predict("ads", 3, LATENTS)

    assert type(caught.value) is error
    assert all(word in str(caught.value) for word in (target, "ads", "3", code.name))


def test_nobody_at_the_target_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 "):
        ServingPredictor(["127.0.0.1:1"]).predict("ads", 3, LATENTS)


def test_an_answer_after_the_deadline_is_unavailable(server: Callable[[Behaviour], str]) -> None:
    def behave(request: pb.PredictRequest, context: Any) -> pb.PredictResponse:
        given_up = threading.Event()
        context.add_callback(given_up.set)
        given_up.wait(10)
        return pb.PredictResponse()

    with pytest.raises(Unavailable, match="DEADLINE_EXCEEDED"):
        ServingPredictor([server(behave)], deadline_seconds=0.2).predict("ads", 3, LATENTS)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (answering(pictures(2, 4, 4, 1).astype(np.float32)), "float32"),
        (answering(pictures(3, 4, 4, 1)), "3, 4, 4, 1"),
        (answering(pictures(2, 16)), "2, 16"),
        (answering(pictures(2, 4, 4, 1), alias="masks"), "masks"),
        (answering(pictures(2, 4, 4, 1), version=4), "version 4"),
        (answering(np.full((2, 4, 4, 1), 128, np.uint8)), "128"),
    ],
    ids=["dtype", "count", "rank", "name", "version", "one grey"],
)
def test_an_answer_that_breaks_the_contract_is_never_asked_for_again(
    server: Callable[[Behaviour], str], behaviour: Behaviour, words: str
) -> None:
    with pytest.raises(InvalidSpec, match="ads version 3") as caught:
        ServingPredictor([server(behaviour)]).predict("ads", 3, LATENTS)

    assert words in str(caught.value)


def test_the_request_names_the_version_the_signature_and_the_output(server: Callable[[Behaviour], str]) -> None:
    seen = []

    def behave(request: pb.PredictRequest, context: Any) -> pb.PredictResponse:
        seen.append(request)
        return answering(pictures(2, 4, 4, 1))(request, context)

    ServingPredictor([server(behave)]).predict("ads", 3, LATENTS, labels=np.zeros(2, np.int32))

    (request,) = seen
    assert (request.model_spec.name, request.model_spec.version.value) == ("ads", 3)
    assert request.model_spec.signature_name == "serving_default"
    assert list(request.output_filter) == ["images"]
    assert sorted(request.inputs) == ["labels", "latents"]


def test_an_answer_of_more_than_four_mebibytes_is_taken(server: Callable[[Behaviour], str]) -> None:
    large = pictures(2, 2048, 2048, 1)

    images = ServingPredictor([server(answering(large))]).predict("ads", 3, LATENTS)

    assert np.array_equal(images, large)


def test_every_request_is_counted_with_its_code(server: Callable[[Behaviour], str]) -> None:
    counted: list[tuple[Any, ...]] = []
    good, bad = server(answering(pictures(2, 4, 4, 1))), server(refusing(grpc.StatusCode.INTERNAL))
    client = ServingPredictor([good, bad], on_request=lambda *facts: counted.append(facts))

    client.predict("ads", 3, LATENTS)
    with pytest.raises(Transient):
        client.predict("ads", 3, LATENTS)

    assert [(model, version, code, images) for model, version, code, _, images in counted] == [
        ("ads", 3, "OK", 2),
        ("ads", 3, "INTERNAL", 2),
    ]
    assert all(0 < seconds < 30 for *_, seconds, _ in counted)


def test_a_closed_client_opens_again(server: Callable[[Behaviour], str]) -> None:
    client = ServingPredictor([server(answering(pictures(2, 4, 4, 1)))])
    client.predict("ads", 3, LATENTS)

    client.close()

    assert len(client.predict("ads", 3, LATENTS)) == 2
