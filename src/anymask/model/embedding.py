"""What goes into the mask decoder and what comes out of it: tensors of torch, or arrays of NumPy where graphs run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from jaxtyping import Float

from anymask.geometry.arrays import Array

if TYPE_CHECKING:
    from anymask.model.amortised import SharedImage


MASK_THRESHOLD = 0.0
"""Logits above this are the mask."""

Skips: TypeAlias = tuple[Float[Array, "b c4 h2 w2"], Float[Array, "b c8 h4 w4"]]
"""What is added to an image's pixels at twice and at four times the embedding's size."""


class Answer(NamedTuple):
    """What the decoder says to prompts: candidate masks, how good they are, and whether there is an object at all."""

    logits: Float[Array, "b p m hm wm"]
    iou: Float[Array, "b p m"]
    """Predicted IoU of each candidate."""
    object_score: Float[Array, "b p"] | None = None
    """Logit of there being an object, below 0 where there is none (SAM 2); None: the model does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """What the encoder leaves of an image: all that prompts need."""

    features: Float[Array, "b c h w"]
    hq: Float[Array, "b e hm wm"] | None = None
    """SAM-HQ's high-resolution features; None for every other model."""
    skips: Skips | None = None
    """What is added to masks while they are upscaled, at twice and four times the size; None: the model has none."""
    side: SharedImage | Mapping[str, Array] | None = None
    """Projections that are made once for all prompts (`Sam.prepare`; by name where a graph made them); None: every
    prompt makes its own."""

    def tensors(self) -> dict[str, Array]:
        """Return what is to be kept of the image, by name: features and, where there are, hq, skip2 and skip4."""
        named = {"features": self.features, "hq": self.hq}
        named |= dict(zip(("skip2", "skip4"), self.skips or (None, None), strict=True))
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> Embedding:
        """Build an embedding from what `tensors` returned; other names are passed over."""
        skips = (tensors["skip2"], tensors["skip4"]) if "skip2" in tensors else None
        return cls(features=tensors["features"], hq=tensors.get("hq"), skips=skips)

    def map(self, change: Callable[[Array], Array]) -> Embedding:
        """Return the embedding whose tensors are changed; without what `Sam.prepare` added."""
        return self.from_tensors({name: change(tensor) for name, tensor in self.tensors().items()})


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
