"""What a reader finds: images, each with masks that are checked already."""

from __future__ import annotations

from dataclasses import dataclass, field

from anymask.geometry.rle import RLE


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMask:
    """A mask and what its source calls it; `key`, a plain one, is the same whenever the source is read."""

    key: str
    rle: RLE
    label: str | None = None
    """Of its class."""
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """An image, by reference where it is a file of its own, else with its content to be copied into the project."""

    name: str
    location: str
    """Absolute, an address of fsspec's, or below the project's folder where there is a `content`."""
    size: tuple[int, int]
    """(height, width), upright."""
    masks: list[FoundMask] = field(default_factory=list)
    content: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """How much of a source was new to the project, and how much it had."""

    images: int
    masks: int
    known_images: int
    known_masks: int
