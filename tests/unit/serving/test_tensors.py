"""Arrays and TensorProto: both encodings, every dtype, and tensors that lie about their shape."""

import numpy as np
import pytest

from serving.protos import model_server_pb2 as pb
from serving.tensors import data_type_of, dtype_of, to_array, to_proto

DTYPES = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]


@pytest.mark.parametrize("content", [True, False], ids=["raw bytes", "typed fields"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (2, 3, 4)])
def test_an_array_comes_back_as_it_was(dtype: str, shape: tuple[int, ...], content: bool) -> None:
    array = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)

    back = to_array(pb.TensorProto.FromString(to_proto(array, content=content).SerializeToString()))

    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)


def test_the_ends_of_the_range_survive_typed_fields() -> None:
    array = np.array([-(2**63), 2**63 - 1], np.int64)

    assert np.array_equal(to_array(to_proto(array, content=False)), array)


def test_a_scalar_has_a_shape_and_it_is_empty() -> None:
    proto = to_proto(np.array(3.0, np.float32))

    assert proto.HasField("tensor_shape")
    assert len(proto.tensor_shape.dim) == 0


def test_an_array_with_gaps_between_its_rows_is_packed() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]

    assert np.array_equal(to_array(to_proto(array)), array)


def test_one_value_stands_for_a_tensor_of_equal_ones() -> None:
    proto = pb.TensorProto(dtype=pb.DT_FLOAT, float_val=[1.5])
    proto.tensor_shape.dim.add(size=3)

    assert to_array(proto).tolist() == [1.5, 1.5, 1.5]


def a_proto(
    *, dtype: pb.DataType, sizes: list[int], content: bytes = b"", values: list[int] | None = None
) -> pb.TensorProto:
    proto = pb.TensorProto(dtype=dtype, tensor_content=content, int_val=values or [])
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    "proto",
    [
        a_proto(dtype=pb.DT_INT32, sizes=[2], content=b"abc"),
        a_proto(dtype=pb.DT_INT32, sizes=[-1], content=b"abcd"),
        a_proto(dtype=pb.DT_INT32, sizes=[2], values=[1, 2, 3]),
        a_proto(dtype=pb.DT_STRING, sizes=[1]),
        a_proto(dtype=pb.DT_INVALID, sizes=[1]),
    ],
    ids=["too few bytes", "negative size", "too many values", "no numbers", "no dtype"],
)
def test_a_malformed_tensor_is_a_value_error(proto: pb.TensorProto) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        to_array(proto)


def test_dtypes_have_tensorflows_numbers() -> None:
    assert data_type_of(np.dtype(np.uint8)) == 4
    assert dtype_of(1) == np.float32


def test_a_dtype_that_has_no_wire_form_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="complex64"):
        to_proto(np.zeros(1, np.complex64))
