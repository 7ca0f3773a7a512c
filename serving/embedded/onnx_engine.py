"""Runs assets.extra/model.onnx of a version: four times the pictures per second of the SavedModel on a CPU, equal pixels.

Parallelism over requests beats parallelism inside one, and spinning threads steal from the encoder beside the server: so one
thread per request without spinning, and as many requests at once as there are cores.
"""

import os
import threading
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from serving.contract import SIGNATURE
from serving.embedded.engine import invalid
from serving.protos import model_server_pb2 as pb

_DATA_TYPES = {
    "tensor(float)": pb.DT_FLOAT,
    "tensor(double)": pb.DT_DOUBLE,
    "tensor(int32)": pb.DT_INT32,
    "tensor(int64)": pb.DT_INT64,
    "tensor(uint8)": pb.DT_UINT8,
    "tensor(bool)": pb.DT_BOOL,
}


class OnnxEngine:
    """See `Engine`. Its one signature, `serving_default`, is what the ONNX model itself says of inputs and outputs."""

    def __init__(self, path: Path, *, threads_per_request: int) -> None:
        threads = threads_per_request or 1
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._turns = threading.BoundedSemaphore(max(1, (os.cpu_count() or 1) // threads))
        self.signatures = {SIGNATURE: _signature(self._session)}

    def run(self, signature: pb.SignatureDef, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        """See `Engine`."""
        with self._turns:
            try:
                answers: list[NDArray[Any]] = self._session.run(outputs, inputs)
            except (InvalidArgument, ValueError) as error:
                raise invalid(str(error)) from error
        return answers


def _signature(session: Any) -> pb.SignatureDef:
    signature = pb.SignatureDef(method_name="tensorflow/serving/predict")
    for aliases, nodes in ((signature.inputs, session.get_inputs()), (signature.outputs, session.get_outputs())):
        for node in nodes:
            tensor = aliases[node.name]
            tensor.name = f"{node.name}:0"
            tensor.dtype = _DATA_TYPES[node.type]
            for size in node.shape:
                tensor.tensor_shape.dim.add(size=size if isinstance(size, int) else -1)
    return signature
