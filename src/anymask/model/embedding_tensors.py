"""Embeddings as flat tensors with names, whatever their fields are, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from anymask.geometry.arrays import Array


def flatten(value: object, name: str = "") -> dict[str, Array]:
    """Return the tensors of nested dataclasses and tuples, named by their path: `keys`, `positions_keys`, `parts_0`."""
    if hasattr(value, "dtype"):
        return {name: value}
    found: dict[str, Array] = {}
    for key, part in _children(value):
        found.update(flatten(part, f"{name}_{key}" if name else key))
    return found


def replace(value: Any, tensors: Mapping[str, Array], name: str = "") -> Any:
    """Return the same structure with the named tensors in the place of its own; others stay."""
    if hasattr(value, "dtype"):
        return tensors.get(name, value)
    parts = {key: replace(part, tensors, f"{name}_{key}" if name else key) for key, part in _children(value)}
    if isinstance(value, tuple):
        return tuple(parts.values())
    return dataclasses.replace(value, **parts) if parts else value


def _children(value: object) -> list[tuple[str, object]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple):
        return [(str(index), part) for index, part in enumerate(value)]
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value) if field.init]
    return []
