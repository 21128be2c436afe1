"""Weights as 8-bit integers: files of about a quarter of the size, at some cost in masks, which `verify` measures.

Each output channel of a weight has a scale of its own, and the graph multiplies the two. A runtime folds that product
when it loads the file: from then on the speed, and the activations, are those of float32. Activations in 8 bits would
need pictures to calibrate with, and lose far more in transformers, whose activations have outliers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int8

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

_MIN_ELEMENTS = 1024
"""Weights below this are biases and gains, which do not add up to anything."""
_LIMIT = 127.0


def quantise(model: ModelProto) -> None:
    """Store the weights of products and convolutions as int8, in place."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    axes = dict(_weights(graph, {weight.name for weight in graph.initializer}))
    nodes, stored = [], []
    for weight in graph.initializer:
        axis = axes.get(weight.name)
        values = None if axis is None else numpy_helper.to_array(weight)
        if axis is None or values is None or values.dtype != np.float32 or values.size < _MIN_ELEMENTS:
            stored.append(weight)
            continue
        integers, scale = quantise_channels(values, axis)
        name = weight.name
        stored += [numpy_helper.from_array(integers, f"{name}/int8"), numpy_helper.from_array(scale, f"{name}/scale")]
        nodes += [
            helper.make_node("Cast", [f"{name}/int8"], [f"{name}/whole"], f"{name}/cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}/whole", f"{name}/scale"], [name], f"{name}/scaled"),
        ]
    ordered = [*nodes, *graph.node]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(ordered)
    graph.initializer.extend(stored)


def quantise_channels(
    values: Float32[np.ndarray, "*shape"], axis: int
) -> tuple[Int8[np.ndarray, "*shape"], Float32[np.ndarray, "*ones"]]:
    """Return integers from -127 to 127 and the scale of each channel along `axis`, which broadcasts to them."""
    others = tuple(other for other in range(values.ndim) if other != axis % values.ndim)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / _LIMIT, 1.0).astype(np.float32)
    return np.rint(values / scale).astype(np.int8), scale


def _weights(graph: GraphProto, names: set[str]) -> Iterator[tuple[str, int]]:
    """Name the constant weights of products and convolutions, and the axis of their output channels."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _weights(attribute.g, names)
        for position, name in enumerate(node.input):
            if name not in names:
                continue
            if node.op_type in ("Conv", "ConvTranspose") and position == 1:
                yield name, 0 if node.op_type == "Conv" else 1
            elif node.op_type == "MatMul":
                yield name, -1 if position == 1 else -2
            elif node.op_type == "Gemm" and position == 1:
                transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
                yield name, 0 if transposed else 1
