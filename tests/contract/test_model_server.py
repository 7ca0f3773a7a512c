"""What a client may rely on, from the embedded server as from tensorflow_model_server: answers, codes and texts."""

from typing import Any

import grpc
import numpy as np
import pytest
from serving_models import HEIGHT, LATENT_DIM, NAME, WIDTH

from serving.protos import model_server_pb2 as pb
from serving.tensors import to_array, to_proto

pytestmark = pytest.mark.slow

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

ANSWERS: dict[str, Any] = {
    PREDICT: pb.PredictResponse,
    METADATA: pb.GetModelMetadataResponse,
    STATUS: pb.GetModelStatusResponse,
}


def ask(target: str, method: str, request: Any) -> Any:
    with grpc.insecure_channel(target, [("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=ANSWERS[method].FromString
        )
        return call(request, timeout=30)


def refusal(target: str, method: str, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        ask(target, method, request)
    call: Any = caught.value
    return call.code().name, call.details()


def a_request(**changes: Any) -> pb.PredictRequest:
    """A good Predict request of two pictures; `changes`: name, version, label, signature, inputs, output_filter."""
    request = pb.PredictRequest(output_filter=changes.get("output_filter", ["images"]))
    request.model_spec.name = changes.get("name", NAME)
    if "version" in changes:
        request.model_spec.version.value = changes["version"]
    if "label" in changes:
        request.model_spec.version_label = changes["label"]
    request.model_spec.signature_name = changes.get("signature", "")
    good = {"latents": np.ones((2, LATENT_DIM), np.float32), "labels": np.zeros(2, np.int32)}
    for alias, array in changes.get("inputs", good).items():
        request.inputs[alias].CopyFrom(to_proto(array))
    return request


def test_predict_answers_pictures_and_says_which_version_made_them(target: str) -> None:
    answer = ask(target, PREDICT, a_request())

    images = to_array(answer.outputs["images"])
    assert images.dtype == np.uint8
    assert images.shape == (2, HEIGHT, WIDTH, 1)
    assert (answer.model_spec.name, answer.model_spec.version.value) == (NAME, 1)
    assert answer.model_spec.signature_name == "serving_default"


def test_inputs_in_typed_fields_mean_the_same_as_raw_bytes(target: str) -> None:
    request = a_request()
    for alias in list(request.inputs):
        request.inputs[alias].CopyFrom(to_proto(to_array(request.inputs[alias]), content=False))

    answer = ask(target, PREDICT, request)

    expected = ask(target, PREDICT, a_request())
    assert np.array_equal(to_array(answer.outputs["images"]), to_array(expected.outputs["images"]))


def test_without_a_filter_all_outputs_come_back(target: str) -> None:
    answer = ask(target, PREDICT, a_request(output_filter=[]))

    assert list(answer.outputs) == ["images"]


ONE = np.ones((1, LATENT_DIM), np.float32)
NONE = np.zeros(1, np.int32)


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"name": ""}, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        ({"name": "nobody"}, "NOT_FOUND", "Servable not found for request: Latest(nobody)"),
        ({"version": 99}, "NOT_FOUND", f"Servable not found for request: Specific({NAME}, 99)"),
        ({"label": "stable"}, "INVALID_ARGUMENT", "Unrecognized servable version label: stable"),
        ({"signature": "other"}, "FAILED_PRECONDITION", 'Serving signature key "other" not found.'),
        (
            {"inputs": {"latents": ONE}},
            "INVALID_ARGUMENT",
            "input size does not match signature: 1!=2 len({latents}) != len({labels,latents}). Sent extra: {}. "
            "Missing but required: {labels}.",
        ),
        (
            {"output_filter": ["masks"]},
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: masks Outputs expected to be in the set {images}.",
        ),
        ({"output_filter": ["images", "images"]}, "INVALID_ARGUMENT", "duplicate output tensor alias: images"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_wrong_request_is_refused_with_upstreams_words(target: str, changes: Any, code: str, text: str) -> None:
    assert refusal(target, PREDICT, a_request(**changes)) == (code, text)


def test_an_input_of_another_name_is_refused_by_the_signatures_name(target: str) -> None:
    code, text = refusal(target, PREDICT, a_request(inputs={"noise": ONE, "labels": NONE}))

    assert code == "INVALID_ARGUMENT"
    assert text.startswith("Signature input alias: latents(feed name: ")
    assert text.endswith(
        ") not found in request and no default value provided. "
        "Inputs expected to be in the request {labels,noise}, or default input alias set: "
    )


def test_an_input_of_another_dtype_is_refused(target: str) -> None:
    code, text = refusal(target, PREDICT, a_request(inputs={"latents": ONE.astype(np.float64), "labels": NONE}))

    assert code == "INVALID_ARGUMENT"
    assert text.startswith("Expects arg[")
    assert text.endswith("] to be float but double is provided")


def test_a_tensor_whose_bytes_do_not_fit_its_shape_is_refused(target: str) -> None:
    request = a_request()
    request.inputs["latents"].tensor_content = b"abc"

    assert refusal(target, PREDICT, request) == ("INVALID_ARGUMENT", "tensor parsing error: latents")


def test_latents_of_another_width_are_an_invalid_argument(target: str) -> None:
    code, _ = refusal(target, PREDICT, a_request(inputs={"latents": np.ones((1, 3), np.float32), "labels": NONE}))

    assert code == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("method", "request_type"),
    [(PREDICT, pb.PredictRequest), (METADATA, pb.GetModelMetadataRequest), (STATUS, pb.GetModelStatusRequest)],
    ids=["predict", "metadata", "status"],
)
def test_a_request_without_a_model_is_refused(target: str, method: str, request_type: Any) -> None:
    assert refusal(target, method, request_type()) == ("INVALID_ARGUMENT", "Missing ModelSpec")


def test_metadata_tells_the_signature(target: str) -> None:
    request = pb.GetModelMetadataRequest(model_spec=pb.ModelSpec(name=NAME), metadata_field=["signature_def"])

    answer = ask(target, METADATA, request)

    packed = answer.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = pb.SignatureDefMap.FromString(packed.value).signature_def["serving_default"]
    assert {alias: signature.inputs[alias].dtype for alias in signature.inputs} == {
        "latents": pb.DT_FLOAT,
        "labels": pb.DT_INT32,
    }
    assert [dim.size for dim in signature.inputs["latents"].tensor_shape.dim] == [-1, LATENT_DIM]
    assert signature.outputs["images"].dtype == pb.DT_UINT8
    assert answer.model_spec.version.value == 1


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ([], "GetModelMetadataRequest must specify at least one metadata_field"),
        (["weather"], "Metadata field weather is not supported"),
    ],
)
def test_metadata_fields_are_checked(target: str, fields: list[str], text: str) -> None:
    request = pb.GetModelMetadataRequest(model_spec=pb.ModelSpec(name=NAME), metadata_field=fields)

    assert refusal(target, METADATA, request) == ("INVALID_ARGUMENT", text)


def test_status_shows_the_loaded_version(target: str) -> None:
    answer = ask(target, STATUS, pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=NAME)))

    (status,) = answer.model_version_status
    assert (status.version, status.state) == (1, pb.ModelVersionStatus.AVAILABLE)
    assert (status.status.error_code, status.status.error_message) == (0, "")


def test_status_of_what_is_not_there_is_not_found(target: str) -> None:
    unknown = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name="nobody"))
    assert refusal(target, STATUS, unknown) == ("NOT_FOUND", "Could not find any versions of model nobody")
    nameless = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(signature_name="x"))
    assert refusal(target, STATUS, nameless) == ("NOT_FOUND", "Could not find any versions of model ")
    other = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=NAME))
    other.model_spec.version.value = 7
    assert refusal(target, STATUS, other) == ("NOT_FOUND", f"Could not find version 7 of model {NAME}")
