"""Between numpy and TensorProto, for both sides of the wire and for both encodings: raw bytes and typed fields."""

from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from serving.protos import model_server_pb2 as pb

#: A shape in a message costs nothing, the array that it asks for does.
TENSOR_ELEMENTS_MAX = 1 << 28

#: numpy dtype → (DataType, the typed field that TensorFlow uses for it).
_KINDS: Final[dict[str, tuple[int, str]]] = {
    "float32": (pb.DT_FLOAT, "float_val"),
    "float64": (pb.DT_DOUBLE, "double_val"),
    "int32": (pb.DT_INT32, "int_val"),
    "uint8": (pb.DT_UINT8, "int_val"),
    "int16": (pb.DT_INT16, "int_val"),
    "int8": (pb.DT_INT8, "int_val"),
    "uint16": (pb.DT_UINT16, "int_val"),
    "int64": (pb.DT_INT64, "int64_val"),
    "bool": (pb.DT_BOOL, "bool_val"),
    "uint32": (pb.DT_UINT32, "uint32_val"),
    "uint64": (pb.DT_UINT64, "uint64_val"),
}
_DTYPES: Final[dict[int, np.dtype[Any]]] = {data_type: np.dtype(name) for name, (data_type, _) in _KINDS.items()}
_FIELDS: Final[dict[int, str]] = dict(_KINDS.values())


def data_type_of(dtype: np.dtype[Any]) -> int:
    """The DataType number of a numpy dtype; ValueError for one that is not numeric or bool."""
    try:
        return _KINDS[dtype.name][0]
    except KeyError:
        raise ValueError(f"dtype {dtype} has no TensorProto form here; expected one of {', '.join(_KINDS)}") from None


def dtype_of(data_type: int) -> np.dtype[Any]:
    """The numpy dtype of a DataType number; ValueError for one that is not numeric or bool."""
    try:
        return _DTYPES[data_type]
    except KeyError:
        raise ValueError(f"DataType {data_type} is not numeric or bool") from None


def to_proto(array: NDArray[Any], *, content: bool = True) -> pb.TensorProto:
    """A TensorProto of the array: as raw little-endian bytes, or as the typed field that old servers and clients use."""
    data_type = data_type_of(array.dtype)
    proto = pb.TensorProto(dtype=cast("pb.DataType", data_type))
    proto.tensor_shape.SetInParent()  # a scalar has a shape too: an empty one
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if content:
        proto.tensor_content = np.ascontiguousarray(array).tobytes()
    else:
        # A list, not the array: extending from an array converts element by element through numpy scalars.
        getattr(proto, _FIELDS[data_type]).extend(array.ravel().tolist())
    return proto


def to_array(proto: pb.TensorProto) -> NDArray[Any]:
    """The array of a TensorProto in either encoding; read-only when it came as raw bytes. ValueError when malformed."""
    dtype = dtype_of(proto.dtype)
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {shape} has a negative dimension")
    count = int(np.prod(shape, dtype=np.int64))
    if proto.tensor_content:
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise ValueError(f"{len(proto.tensor_content)} bytes for shape {shape} of {dtype}")
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    if count > TENSOR_ELEMENTS_MAX:
        raise ValueError(f"shape {shape} has more than {TENSOR_ELEMENTS_MAX:,} elements")
    values = np.array(getattr(proto, _FIELDS[proto.dtype]), dtype)
    if len(values) == 1 and count != 1:
        values = np.repeat(values, count)  # TensorFlow sends one value for a tensor of equal ones
    if len(values) != count:
        raise ValueError(f"{len(values)} values for shape {shape} of {dtype}")
    return values.reshape(shape)
