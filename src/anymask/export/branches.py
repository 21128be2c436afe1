"""Two graphs of the same inputs and outputs made one, with an `If` between them.

torch can trace a branch itself (`torch.cond`), but only what its own compiler reads; graphs joined afterwards may come
from any Python.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto


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
