from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from anymask.export.graphs import simplify


def model(nodes: list[NodeProto], shape: list[int], opset: int, **constants: np.ndarray) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def simplified(before: ModelProto) -> ModelProto:
    graph = ir.serde.deserialize_model(before)
    simplify(graph)
    after: ModelProto = ir.serde.serialize_model(graph)
    return after


def operators(graph: ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node]


def outputs(graph: ModelProto, x: np.ndarray) -> np.ndarray:
    found: np.ndarray = onnxruntime.InferenceSession(graph.SerializeToString()).run(["y"], {"x": x})[0]
    return found


def gelu(half: float = 0.5, root: float = 2**0.5) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    nodes = [
        helper.make_node("Div", ["x", "root"], ["a"]),
        helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("Add", ["b", "one"], ["c"]),
        helper.make_node("Mul", ["half", "c"], ["d"]),
        helper.make_node("Mul", ["x", "d"], ["y"]),
    ]
    constants = {"root": np.float32(root), "one": np.float32(1), "half": np.float32(half)}
    return nodes, {name: np.asarray(value) for name, value in constants.items()}


def test_gelu_is_one_operator_where_there_is_one() -> None:
    nodes, constants = gelu()
    x = np.linspace(-6, 6, 50, dtype=np.float32)
    before = model(nodes, [50], 20, **constants)
    after = simplified(before)
    assert operators(after) == ["Gelu"]
    assert np.abs(outputs(after, x) - outputs(before, x)).max() < 1e-6
    assert operators(simplified(model(nodes, [50], 18, **constants))) == operators(before)


@pytest.mark.parametrize("constants", [{"half": 0.6}, {"root": 1.0}])
def test_what_only_resembles_gelu_stays(constants: dict[str, float]) -> None:
    nodes, values = gelu(**constants)
    before = model(nodes, [50], 20, **values)
    assert operators(simplified(before)) == operators(before)


def test_gelu_whose_parts_are_used_elsewhere_stays() -> None:
    nodes, constants = gelu()
    nodes[-1].output[0] = "z"
    nodes.append(helper.make_node("Add", ["z", "c"], ["y"]))
    assert "Erf" in operators(simplified(model(nodes, [50], 20, **constants)))


@pytest.mark.parametrize(("shape", "axis", "index"), [([1, 3, 4], 0, 0), ([3, 1, 4], -2, -1)])
def test_the_only_element_of_an_axis_is_a_view(shape: list[int], axis: int, index: int) -> None:
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=axis)
    before = model([node], shape, 20, i=np.array(index, np.int64))
    after = simplified(before)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert operators(after) == ["Squeeze"]
    np.testing.assert_array_equal(outputs(after, x), outputs(before, x))


def test_other_elements_are_gathered() -> None:
    scalar, vector = np.array(0, np.int64), np.array([0], np.int64)
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=0)
    assert operators(simplified(model([node], [2, 3], 20, i=scalar))) == ["Gather"]
    assert operators(simplified(model([node], [1, 3], 20, i=vector))) == ["Gather"]
