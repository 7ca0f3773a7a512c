"""The DCGAN-64 generator with random weights, as a published version: what the figures of speed are measured with.

latent 128 → 4×4×512 → 256 → 128 → 64 → 64×64×3, transposed 4×4 convolutions; 3.8 M parameters, 105 MMAC a picture.
"""

from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from aigc_core.storage.object_store import ObjectStore
from serving.contract import IMAGES, LATENTS, ONNX_PATH, ModelCard
from serving.repository import publish

LATENT_DIM = 128
WIDTHS = (512, 256, 128, 64)


def onnx_model(seed: int = 0) -> onnx.ModelProto:
    """latents float32 (N, 128) → images uint8 (N, 64, 64, 3)."""
    random = np.random.default_rng(seed)
    weights: list[Any] = []
    nodes: list[Any] = []

    def weight(name: str, shape: tuple[int, ...], fan_in: int) -> str:
        values = random.standard_normal(shape).astype(np.float32) * np.float32(np.sqrt(2 / fan_in))
        weights.append(numpy_helper.from_array(values, name))
        return name

    def constant(name: str, value: Any) -> str:
        weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    nodes.append(helper.make_node("MatMul", [LATENTS, weight("project", (LATENT_DIM, 4 * 4 * WIDTHS[0]), 256)], ["flat"]))
    nodes.append(helper.make_node("Reshape", ["flat", constant("first", np.array([-1, WIDTHS[0], 4, 4]))], ["x0"]))
    for stage, (wide, narrow) in enumerate(zip(WIDTHS, (*WIDTHS[1:], 3), strict=True)):
        kernel = weight(f"kernel{stage}", (wide, narrow, 4, 4), wide * 4)
        nodes.append(helper.make_node("Relu", [f"x{stage}"], [f"a{stage}"]))
        nodes.append(
            helper.make_node(
                "ConvTranspose",
                [f"a{stage}", kernel],
                [f"x{stage + 1}"],
                strides=[2, 2],
                pads=[1, 1, 1, 1],
                kernel_shape=[4, 4],
            )
        )
    nodes += [
        helper.make_node("Tanh", [f"x{len(WIDTHS)}"], ["tanh"]),
        helper.make_node("Mul", ["tanh", constant("half", np.float32(127.5))], ["scaled"]),
        helper.make_node("Add", ["scaled", constant("offset", np.float32(128.0))], ["levels"]),
        helper.make_node("Cast", ["levels"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["bytes"], [IMAGES], perm=[0, 2, 3, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "dcgan64",
        [helper.make_tensor_value_info(LATENTS, TensorProto.FLOAT, ["N", LATENT_DIM])],
        [helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, ["N", 64, 64, 3])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def publish_dcgan64(base_path: Path, *, store: ObjectStore, name: str = "dcgan64", server_base_path: str = "") -> ModelCard:
    """Publish the generator as the next version of `name`."""

    job_id = f"benchmark-{uuid4().hex}"  # a job publishes one version; each call here is a job of its own

    def build(folder: Path) -> dict[str, float]:
        path = folder / ONNX_PATH
        path.parent.mkdir(parents=True)
        path.write_bytes(onnx_model().SerializeToString())
        return {}

    def card(version: int) -> ModelCard:
        return ModelCard(
            name=name, version=version, latent_dim=LATENT_DIM, height=64, width=64, channels=3, class_names=(),
            dataset="none", dataset_fingerprint="none", job_id=job_id, code_revision="none", created_at=0.0,
        )  # fmt: skip

    return publish(base_path, card, build, store=store, server_base_path=server_base_path)
