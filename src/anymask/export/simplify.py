"""What torch's exporter says in more, or slower, operators than there need be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

GELU_OPSET = 20
"""The first with an operator of its own for it."""


def simplify(model: ir.Model) -> None:
    """Rewrite the graph in place; what it computes stays the same, but for rounding.

    Taking the only element along an axis is a view and no copy: the tensors of an image's side are large. GELU is one
    operator and not five passes over the memory.
    """
    for node in list(model.graph):
        if node.op_type == "Gather":
            _view(model.graph, node)
        elif node.op_type == "Erf" and model.opset_imports[""] >= GELU_OPSET:
            _gelu(model.graph, node)


def _view(graph: ir.Graph, node: ir.Node) -> None:
    """Replace a Gather of the one element of an axis by a Squeeze."""
    import onnx_ir as ir

    taken, index = node.inputs[0], node.inputs[1]
    axis = node.attributes.get_int("axis", 0)
    if taken is None or taken.shape is None or taken.shape[axis] != 1:
        return
    if index is None or index.const_value is None or index.const_value.numpy().ndim:
        return
    axes = ir.Value(name=f"{node.outputs[0].name}/axes", const_value=ir.tensor(np.array([axis], np.int64)))
    graph.register_initializer(axes)
    _replace(graph, [node], ir.node("Squeeze", [taken, axes], name=node.name))


def _gelu(graph: ir.Graph, erf: ir.Node) -> None:
    """Replace x · 0.5 · (1 + erf(x / √2)), grouped as the exporter groups it, by Gelu(x)."""
    import onnx_ir as ir

    scaled = erf.inputs[0]
    division = None if scaled is None else scaled.producer()
    if division is None or division.op_type != "Div" or not _is(division.inputs[1], math.sqrt(2)):
        return
    x, chain = division.inputs[0], [division, erf]
    for operator, constant in (("Add", 1.0), ("Mul", 0.5), ("Mul", None)):
        consumers = chain[-1].outputs[0].consumers()
        if len(consumers) != 1 or consumers[0].op_type != operator:
            return
        (other,) = [value for value in consumers[0].inputs if value is not chain[-1].outputs[0]]
        if other is not x if constant is None else not _is(other, constant):
            return
        chain.append(consumers[0])
    if len(division.outputs[0].consumers()) == 1:
        _replace(graph, chain, ir.node("Gelu", [x], name=chain[-1].name))


def _is(value: ir.Value | None, constant: float) -> bool:
    if value is None or value.const_value is None or value.const_value.size != 1:
        return False
    return math.isclose(float(value.const_value.numpy()), constant, rel_tol=1e-5)


def _replace(graph: ir.Graph, nodes: list[ir.Node], new: ir.Node) -> None:
    from onnx_ir import convenience

    last = nodes[-1]
    new.outputs[0].shape, new.outputs[0].type = last.outputs[0].shape, last.outputs[0].type
    new.outputs[0].name = last.outputs[0].name
    convenience.replace_nodes_and_values(graph, last, nodes, [new], last.outputs, new.outputs)
