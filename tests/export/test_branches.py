from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper

from anymask.export.graphs import join_branches

SHARED = np.arange(6, dtype=np.float32).reshape(2, 3)


def model(shift: float, operator: str) -> ModelProto:
    """x @ SHARED, then + or * the shift; the same names in both, though not the same values."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node(operator, ["h", "shift"], ["y"])]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2]),
        helper.make_tensor_value_info("flag", TensorProto.FLOAT, [1]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])]
    weights = [numpy_helper.from_array(SHARED, "w"), numpy_helper.from_array(np.float32(shift), "shift")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_the_flag_chooses_the_graph() -> None:
    joined = join_branches("flag", model(10, "Add"), model(2, "Mul"))
    session = onnxruntime.InferenceSession(joined.SerializeToString())
    x = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    for flag, wanted in ((1.0, x @ SHARED + 10), (0.0, x @ SHARED * 2)):
        (y,) = session.run(None, {"x": x, "flag": np.array([flag], np.float32)})
        np.testing.assert_array_equal(y, wanted)


def test_weights_that_are_alike_are_kept_once() -> None:
    first, second = model(10, "Add"), model(2, "Mul")
    second.graph.initializer[0].name = "renamed"
    second.graph.node[0].input[1] = "renamed"
    joined = join_branches("flag", first, second)
    assert sorted(one.dims for one in joined.graph.initializer if one.dims) == [[2, 3]]
    assert [one.name for one in joined.graph.input] == ["x", "flag"]
