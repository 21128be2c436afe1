"""What prompts share of an image, as flat tensors with names: outputs of one graph, inputs of another.

`Embedding.side` is a dataclass whose fields are the decoder's own affair. Here it is only taken apart and put together:
tensors of the image get names from their fields; what is the same for every image is the model's, and stays in the
graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from anymask.model import Embedding, Sam


def flatten(value: object, name: str = "") -> dict[str, Tensor]:
    """Return the tensors of nested dataclasses and tuples, named by their path: `keys`, `positions_keys`, `parts_0`."""
    if isinstance(value, Tensor):
        return {name: value}
    found: dict[str, Tensor] = {}
    for key, part in _children(value):
        found.update(flatten(part, f"{name}_{key}" if name else key))
    return found


def replace(value: Any, tensors: Mapping[str, Tensor], name: str = "") -> Any:
    """Return the same structure with the named tensors in the place of its own; others stay."""
    if isinstance(value, Tensor):
        return tensors.get(name, value)
    parts = {key: replace(part, tensors, f"{name}_{key}" if name else key) for key, part in _children(value)}
    if isinstance(value, tuple):
        return tuple(parts.values())
    return dataclasses.replace(value, **parts) if parts else value


def image_tensors(model: Sam, embedding: Embedding) -> dict[str, Tensor]:
    """Return the tensors of a prepared embedding's side that another image would change.

    Told by comparing with an image of another embedding, so that no list of names has to be kept.
    """
    other = embedding.map(lambda tensor: tensor.flip(1, 2) + 1.0)
    ours, theirs = flatten(model.prepare(embedding).side), flatten(model.prepare(other).side)
    return {name: tensor for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])}


def _children(value: object) -> list[tuple[str, object]]:
    if isinstance(value, tuple):
        return [(str(index), part) for index, part in enumerate(value)]
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value) if field.init]
    return []
