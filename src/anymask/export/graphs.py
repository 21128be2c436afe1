"""ONNX graphs rewritten: operators that torch's exporter spells out, and two graphs made one with an `If`.

torch can trace a branch itself (`torch.cond`), but only what its own compiler reads; graphs joined afterwards may come
from any Python.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import GraphProto, ModelProto, TensorProto


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


def join_branches(condition: str, positive: ModelProto, otherwise: ModelProto) -> ModelProto:
    """Return a graph that runs `positive` where any of the input `condition` (floats) is over 0, else `otherwise`.

    Weights that are alike are kept once.
    """
    from onnx import helper, numpy_helper

    inputs = {value.name: value for graph in (otherwise.graph, positive.graph) for value in graph.input}
    weights: dict[bytes, TensorProto] = {}
    branches = {}
    for key, prefix, graph in (("then_branch", "masked/", positive.graph), ("else_branch", "plain/", otherwise.graph)):
        names = {name: name for name in inputs}
        for weight in graph.initializer:
            content = _content(weight)
            if content not in weights:
                weights[content] = _named(weight, prefix + weight.name)
            names[weight.name] = weights[content].name
        branches[key] = _branch(graph, prefix, names)
    zero = numpy_helper.from_array(np.zeros((), np.float32), "if/zero")
    outputs = [value.name for value in positive.graph.output]
    nodes = [
        helper.make_node("ReduceMax", [condition], ["if/largest"], name="if/reduce", keepdims=0),
        helper.make_node("Greater", ["if/largest", zero.name], ["if/condition"], name="if/compare"),
        helper.make_node("If", ["if/condition"], outputs, name="if", **branches),
    ]
    ordered = [inputs[value.name] for value in positive.graph.input]
    joined = helper.make_graph(nodes, "joined", ordered, list(positive.graph.output), [*weights.values(), zero])
    return helper.make_model(joined, opset_imports=list(positive.opset_import), ir_version=positive.ir_version)


def _content(weight: TensorProto) -> bytes:
    """Return a digest of a weight without its name."""
    return hashlib.sha256(_named(weight, "").SerializeToString(deterministic=True)).digest()


def _named(weight: TensorProto, name: str) -> TensorProto:
    copied = type(weight)()
    copied.CopyFrom(weight)
    copied.name = name
    return copied


def _branch(graph: GraphProto, prefix: str, outer: Mapping[str, str]) -> GraphProto:
    """Return the nodes as a branch: no inputs, and names of its own for whatever is not from outside."""
    from onnx import helper

    def renamed(name: str) -> str:
        return outer.get(name, prefix + name) if name else name

    branch: GraphProto = helper.make_graph(graph.node, prefix.strip("/"), [], graph.output)  # copies
    for index, node in enumerate(branch.node):
        node.name = prefix + (node.name or str(index))
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    for value in branch.output:
        value.name = renamed(value.name)
    return branch
