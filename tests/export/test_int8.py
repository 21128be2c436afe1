from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from anymask.export.int8 import quantise, quantise_channels


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_no_value_moves_by_more_than_half_a_step(axis: int) -> None:
    values = np.random.default_rng(0).normal(size=(8, 5, 7)).astype(np.float32)
    integers, scale = quantise_channels(values, axis)
    assert integers.dtype == np.int8 and scale.dtype == np.float32
    assert scale.size == values.shape[axis]
    assert (np.abs(integers * scale - values) <= 0.5001 * scale).all()
    others = tuple(other for other in range(3) if other != axis % 3)
    assert (np.abs(integers).max(axis=others) == 127).all()


def test_a_channel_of_zeros_stays_zero() -> None:
    values = np.zeros((2, 3), np.float32)
    values[1] = [1, -2, 0.5]
    integers, scale = quantise_channels(values, 0)
    assert not integers[0].any() and np.isfinite(scale).all()


def model(operator: str, weight: np.ndarray, shape: list[int], **attributes: int) -> ModelProto:
    node = helper.make_node(operator, ["x", "w"], ["h"], **attributes)
    add = helper.make_node("Add", ["h", "small"], ["y"])
    graph = helper.make_graph(
        [node, add],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.ones(1, np.float32), "small")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("operator", "weight_shape", "shape", "attributes", "channels"),
    [
        ("MatMul", (48, 64), [4, 48], {}, 64),
        ("Gemm", (64, 48), [4, 48], {"transB": 1}, 64),
        ("Gemm", (48, 64), [4, 48], {}, 64),
        ("Conv", (32, 8, 3, 3), [1, 8, 9, 9], {}, 32),
        ("ConvTranspose", (8, 32, 3, 3), [1, 8, 9, 9], {}, 32),
    ],
)
def test_each_output_channel_has_its_scale(
    operator: str, weight_shape: tuple[int, ...], shape: list[int], attributes: dict[str, int], channels: int
) -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(size=weight_shape).astype(np.float32)
    whole = model(operator, weight, shape, **attributes)
    x = rng.normal(size=shape).astype(np.float32)
    (wanted,) = onnxruntime.InferenceSession(whole.SerializeToString()).run(None, {"x": x})
    size = len(whole.SerializeToString())
    quantise(whole)
    stored = {one.name: numpy_helper.to_array(one) for one in whole.graph.initializer}
    assert stored["w/int8"].dtype == np.int8 and stored["w/scale"].size == channels
    assert stored["small"].dtype == np.float32
    assert len(whole.SerializeToString()) < 0.6 * size
    (found,) = onnxruntime.InferenceSession(whole.SerializeToString()).run(None, {"x": x})
    assert 0 < np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
