"""Small models for the serving tests, as ONNX and as SavedModel: both give the same pictures from the same latents.

To check the contract against a real tensorflow_model_server, write the repository that it is to serve and name the server:

    python tests/contract/serving_models.py /models
    tensorflow_model_server --port=8500 --model_config_file=/models/models.config
    AIGC_TEST_SERVING_TARGET=localhost:8500 pytest tests/contract/test_model_server.py
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

LATENT_DIM, HEIGHT, WIDTH = 4, 8, 8
NAME = "pictures"


def weights() -> np.ndarray:
    """float32 (LATENT_DIM, HEIGHT × WIDTH)."""
    return np.random.default_rng(7).normal(size=(LATENT_DIM, HEIGHT * WIDTH)).astype(np.float32) * 40


def write_onnx(version: Path, *, level: float = 127.5, labels: bool = True) -> Path:
    """A version folder with assets.extra/model.onnx; `level` is the mean grey, so that versions differ."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    inputs = [helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["N", LATENT_DIM])]
    nodes = [helper.make_node("MatMul", ["latents", "weights"], ["product"])]
    summed = "product"
    if labels:
        inputs.append(helper.make_tensor_value_info("labels", TensorProto.INT32, ["N"]))
        nodes += [
            helper.make_node("Cast", ["labels"], ["shift"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["shift", "axis"], ["column"]),
            helper.make_node("Add", ["product", "column"], ["shifted"]),
        ]
        summed = "shifted"
    nodes += [
        helper.make_node("Add", [summed, "level"], ["levels"]),
        helper.make_node("Clip", ["levels", "low", "high"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Reshape", ["bytes", "shape"], ["images"]),
    ]
    constants: dict[str, Any] = {
        "weights": weights(),
        "level": np.float32(level),
        "low": np.float32(0),
        "high": np.float32(255),
        "shape": np.array([-1, HEIGHT, WIDTH, 1], np.int64),
    }
    if labels:
        constants["axis"] = np.array([1], np.int64)
    output = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 1])
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "pictures", inputs, [output], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path = version / "assets.extra" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return version


def write_saved_model(version: Path, *, level: float = 127.5) -> Path:
    """The same as `write_onnx` with labels, as a SavedModel. Imports TensorFlow."""
    import tensorflow as tf

    class Pictures(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(weights())

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, LATENT_DIM], tf.float32, name="latents"),
                tf.TensorSpec([None], tf.int32, name="labels"),
            ]
        )
        def __call__(self, latents: Any, labels: Any) -> dict[str, Any]:
            levels = latents @ self.weights + tf.cast(labels, tf.float32)[:, None] + level
            grey = tf.cast(tf.clip_by_value(levels, 0.0, 255.0), tf.uint8)
            return {"images": tf.reshape(grey, [-1, HEIGHT, WIDTH, 1])}

    model = Pictures()
    tf.saved_model.save(model, str(version), signatures={"serving_default": model.__call__})
    return version


if __name__ == "__main__":
    base_path = Path(sys.argv[1]).resolve()
    write_saved_model(base_path / NAME / "1")
    from serving.repository import write_config

    write_config(base_path)
