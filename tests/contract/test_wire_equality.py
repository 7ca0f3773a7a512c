"""Our messages and TensorFlow Serving's are the same bytes, both ways, field by field, in one process."""

import importlib
import warnings
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor

from serving.protos import model_server_pb2 as pb

pytestmark = pytest.mark.slow

#: Our message → where the package tensorflow-serving-api (or TensorFlow itself) has it.
THEIRS = {
    "TensorShapeProto": "tensorflow.core.framework.tensor_shape_pb2",
    "TensorProto": "tensorflow.core.framework.tensor_pb2",
    "TensorInfo": "tensorflow.core.protobuf.meta_graph_pb2",
    "SignatureDef": "tensorflow.core.protobuf.meta_graph_pb2",
    "SignatureDefMap": "tensorflow_serving.apis.get_model_metadata_pb2",
    "ModelSpec": "tensorflow_serving.apis.model_pb2",
    "PredictRequest": "tensorflow_serving.apis.predict_pb2",
    "PredictResponse": "tensorflow_serving.apis.predict_pb2",
    "PredictLog": "tensorflow_serving.apis.prediction_log_pb2",
    "PredictionLog": "tensorflow_serving.apis.prediction_log_pb2",
    "StatusProto": "tensorflow_serving.apis.status_pb2",
    "ModelVersionStatus": "tensorflow_serving.apis.get_model_status_pb2",
    "GetModelStatusRequest": "tensorflow_serving.apis.get_model_status_pb2",
    "GetModelStatusResponse": "tensorflow_serving.apis.get_model_status_pb2",
    "GetModelMetadataRequest": "tensorflow_serving.apis.get_model_metadata_pb2",
    "GetModelMetadataResponse": "tensorflow_serving.apis.get_model_metadata_pb2",
    "ModelConfig": "tensorflow_serving.config.model_server_config_pb2",
    "ModelConfigList": "tensorflow_serving.config.model_server_config_pb2",
    "ModelServerConfig": "tensorflow_serving.config.model_server_config_pb2",
}

_SCALARS: dict[int, Any] = {
    FieldDescriptor.CPPTYPE_INT32: 7,
    FieldDescriptor.CPPTYPE_INT64: 2**40 + 1,
    FieldDescriptor.CPPTYPE_UINT32: 2**31 + 5,
    FieldDescriptor.CPPTYPE_UINT64: 2**63 + 5,
    FieldDescriptor.CPPTYPE_FLOAT: 1.5,
    FieldDescriptor.CPPTYPE_DOUBLE: -2.25,
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_ENUM: 10,  # a number that every enum here has
}


def fill(message: Any, *, depth: int = 0) -> Any:
    """Set every field of the message, and of those inside it; of a oneof, the last one stays."""
    for field in message.DESCRIPTOR.fields:
        if depth > 8:
            break
        options = field.message_type and field.message_type.GetOptions()
        if options and options.map_entry:
            value = field.message_type.fields_by_name["value"]
            if value.message_type:
                fill(getattr(message, field.name)["key"], depth=depth + 1)
            else:
                getattr(message, field.name)["key"] = scalar(value)
        elif field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(2):
                if field.message_type:
                    fill(values.add(), depth=depth + 1)
                else:
                    values.append(scalar(field))
        elif field.message_type:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), depth=depth + 1)
        else:
            setattr(message, field.name, scalar(field))
    return message


def scalar(field: Any) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return b"\x00\xff" if field.type == FieldDescriptor.TYPE_BYTES else "text"
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM and field.enum_type.name == "ModelType":
        return 1
    return _SCALARS[field.cpp_type]


def theirs(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what TensorFlow warns of while it is imported is not this project's matter
        return getattr(importlib.import_module(THEIRS[name]), name)


@pytest.mark.parametrize("name", THEIRS)
def test_a_full_message_is_the_same_bytes_on_both_sides(name: str) -> None:
    ours = fill(getattr(pb, name)())
    payload = ours.SerializeToString(deterministic=True)

    read = theirs(name).FromString(payload)

    assert read.SerializeToString(deterministic=True) == payload
    assert getattr(pb, name).FromString(read.SerializeToString()) == ours
    # Unknown fields would pass the above: what they read has to say the same in words.
    read.DiscardUnknownFields()
    assert read.SerializeToString(deterministic=True) == payload


@pytest.mark.parametrize("name", THEIRS)
def test_every_field_has_upstreams_name_number_and_type(name: str) -> None:
    upstream = theirs(name).DESCRIPTOR.fields_by_name

    for field in getattr(pb, name).DESCRIPTOR.fields:
        other = upstream[field.name]
        assert (field.number, kind(field), field.is_repeated) == (other.number, kind(other), other.is_repeated)


def kind(field: Any) -> int:
    """The type of a field; an enum counts as int32, for these two are the same bytes (StatusProto.error_code)."""
    is_enum = field.cpp_type == FieldDescriptor.CPPTYPE_ENUM
    return FieldDescriptor.CPPTYPE_INT32 if is_enum else int(field.cpp_type)


def test_the_enum_of_dtypes_has_upstreams_numbers() -> None:
    types = importlib.import_module("tensorflow.core.framework.types_pb2")

    assert dict(pb.DataType.items()).items() <= dict(types.DataType.items()).items()


def test_a_config_in_text_reads_the_same_on_both_sides() -> None:
    text = """
        model_config_list {
          config {
            name: "ads" base_path: "/models/ads" model_platform: "tensorflow"
            model_version_policy { specific { versions: 2 versions: 3 } }
            version_labels { key: "stable" value: 2 }
          }
        }
    """

    ours = text_format.Parse(text, pb.ModelServerConfig())

    upstream = text_format.Parse(text, theirs("ModelServerConfig")())
    assert ours.SerializeToString(deterministic=True) == upstream.SerializeToString(deterministic=True)
    assert text_format.MessageToString(ours) == text_format.MessageToString(upstream)
