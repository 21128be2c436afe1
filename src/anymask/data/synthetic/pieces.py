"""An object before it is painted: a tree of pieces, the whole with its parts and their subparts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from anymask.data.synthetic.curves import Outline, Ring, place

Cutouts = Sequence[UInt8[np.ndarray, "h w 4"]]
Finish = Literal["same", "related", "other"]

EVERYWHERE: Outline = [np.array([[-9.0, -9], [9, -9], [9, 9], [-9, 9]])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One node of an object: what is painted and to whom it belongs.

    `outline` is in the object's coordinates (radius about one); an empty one paints nothing: such a node is the
    union of its children. `parent` is the index of an earlier piece, -1 for the whole. `clip` keeps the paint inside
    the parent's own. `finish` says how its material relates to the parent's; pieces of one object with the same
    `shared` number have one material (buttons, wheels, petals), -1 is a material of its own.
    """

    outline: Outline
    parent: int = -1
    clip: bool = False
    finish: Finish = "related"
    shared: int = -1


class Body:
    """The pieces of one object in the order of painting; the first is the whole."""

    def __init__(self, outline: Outline | None = None) -> None:
        """Start with the whole: an outline, or the union of what is added to it."""
        self.pieces = [Piece(outline=outline or [])]

    def __len__(self) -> int:
        """The number of pieces."""
        return len(self.pieces)

    def __iter__(self) -> Iterator[Piece]:
        """The pieces, each after its parent."""
        return iter(self.pieces)

    def add(
        self,
        outline: Outline | Ring,
        *,
        parent: int = 0,
        clip: bool = False,
        finish: Finish = "related",
        shared: int = -1,
        scale: float = 1.0,
        angle: float = 0.0,
        centre: Sequence[float] | Float[np.ndarray, " 2"] = (0.0, 0.0),
    ) -> int:
        """Add a piece on top, its outline turned, scaled and moved; return its index."""
        rings = [outline] if isinstance(outline, np.ndarray) else outline
        moved = place(rings, scale=scale, angle=angle, centre=(float(centre[0]), float(centre[1])))
        self.pieces.append(Piece(outline=moved, parent=parent, clip=clip, finish=finish, shared=shared))
        return len(self.pieces) - 1

    def reshaped(self, outline: Outline) -> Body:
        """The same object with another outline of its whole."""
        other = Body()
        other.pieces = [replace(self.pieces[0], outline=outline), *self.pieces[1:]]
        return other
