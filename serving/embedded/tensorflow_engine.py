"""Runs any SavedModel in a TensorFlow session, as TensorFlow Serving does: the same errors, no check of shapes."""

import os
from pathlib import Path
from typing import Any

import grpc
from numpy.typing import NDArray

from serving.embedded.engine import RequestError
from serving.protos import model_server_pb2 as pb

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # noqa: TID251  TensorFlow reads it when it is imported

import tensorflow as tf


class TensorFlowEngine:
    """See `Engine`."""

    def __init__(self, path: Path, *, threads_per_request: int) -> None:
        graph = tf.Graph()
        config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads_per_request)
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        with graph.as_default():
            meta_graph = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(path))
        self.signatures = {
            name: pb.SignatureDef.FromString(signature.SerializeToString())
            for name, signature in meta_graph.signature_def.items()
        }

    def run(self, signature: pb.SignatureDef, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        """See `Engine`."""
        feeds = {signature.inputs[alias].name: value for alias, value in inputs.items()}
        fetches = [signature.outputs[alias].name for alias in outputs]
        try:
            answers: list[NDArray[Any]] = self._session.run(fetches, feeds)
        except tf.errors.OpError as error:
            code = next(code for code in grpc.StatusCode if code.value[0] == error.error_code)
            raise RequestError(code, error.message) from error
        except (TypeError, ValueError) as error:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        return answers
