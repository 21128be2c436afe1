"""Tracing: a part of a model to an ONNX program, by `torch.export` and torch's exporter on top of it."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.export import Dim

from anymask.errors import InputError
from anymask.export.graphs import join_branches, simplify
from anymask.export.parts import Axes, Part
from anymask.model import Sam

if TYPE_CHECKING:
    import onnx_ir as ir

OPSETS = (18, 19, 20)
"""ONNX operator sets that torch's exporter writes and that browsers run; the last has the fastest graphs."""


def frozen(model: Sam) -> Sam:
    """Return a copy to trace, whose tensors are the model's own; raises InputError unless it is float32 on the CPU."""
    if model.device.type != "cpu" or model.dtype != torch.float32:
        raise InputError(f"the model is {model.dtype} on {model.device}: exports are made of float32 on the CPU")
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, tensors).eval()


def trace(part: Part, opset: int) -> ir.Model:
    """Trace a part; raises InputError for an opset that is not one of `OPSETS`."""
    from onnx_ir import serde

    if opset not in OPSETS:
        raise InputError(f"opset {opset} cannot be exported; {', '.join(map(str, OPSETS))} can")
    model = _trace(part, part.module, opset)
    if part.without_mask is not None:
        without = _trace(part, part.without_mask, opset)
        branches = (serde.serialize_model(model), serde.serialize_model(without))
        model = serde.deserialize_model(join_branches("has_mask_input", *branches))
    return model


def _trace(part: Part, module: nn.Module, opset: int) -> ir.Model:
    sizes = {name: dict.fromkeys(part.axes.get(name, {}), Dim.AUTO) for name in part.example}
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module,
            kwargs={"inputs": dict(part.example)},
            dynamo=True,
            dynamic_shapes={"inputs": sizes},
            opset_version=opset,
            input_names=list(part.example),
            output_names=list(part.outputs),
            verbose=False,
        )
    assert program is not None
    _name_axes(program.model, part.axes)
    simplify(program.model)
    _strip(program.model)
    return program.model


def _name_axes(model: ir.Model, axes: Axes) -> None:
    """Give sizes that vary their names; one that the tracer took for fixed is a fault of the part."""
    import onnx_ir as ir

    for value in (*model.graph.inputs, *model.graph.outputs):
        assert value.shape is not None and value.name is not None
        sizes: list[int | str | ir.SymbolicDim] = list(value.shape)
        for axis, name in axes.get(value.name, {}).items():
            assert not isinstance(sizes[axis], int), f"{value.name}: {name} was traced as {sizes[axis]}"
            sizes[axis] = name
        value.shape = ir.Shape(sizes)


def _strip(model: ir.Model) -> None:
    """Drop the tracer's notes, stack traces above all: they name files of this machine and outweigh small graphs."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for node in graph:
            node.metadata_props.clear()
            for value in node.outputs:
                value.metadata_props.clear()
        for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
            value.metadata_props.clear()
        graph.metadata_props.clear()
    model.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what torch's exporter says of itself: deprecations inside it, and packages that it does not find."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
