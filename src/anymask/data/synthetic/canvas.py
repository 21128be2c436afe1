"""The canvas: an image under paint, and for every pixel the node of the scene that is seen there."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int8, Int16, Int64

from anymask.data.synthetic.light import Light

_MIN_SHOWN = 0.3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """One painted object: a rectangle of the canvas with colour, coverage and, for each pixel, the node painted last.

    `label` is meaningful where alpha is at least one half; `parents` gives each node's parent, -1 for the whole.
    """

    top: int
    left: int
    colour: Float32[np.ndarray, "h w 3"]
    alpha: Float32[np.ndarray, "h w"]
    label: Int16[np.ndarray, "h w"]
    parents: tuple[int, ...]

    @property
    def region(self) -> tuple[slice, slice]:
        """The rectangle as an index into the canvas."""
        height, width = self.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(slots=True, eq=False)
class Canvas:
    """The image so far, which node is seen at each pixel (-1 for none), and the tree of nodes.

    `drawn` counts the pixels that each node itself had when it was painted.
    """

    image: Float32[np.ndarray, "h w 3"]
    owner: Int16[np.ndarray, "h w"] = field(init=False)
    parents: list[int] = field(init=False, default_factory=list)
    drawn: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Start with nobody owning a pixel."""
        self.owner = np.full(self.image.shape[:2], -1, np.int16)

    def cast(self, layer: Layer, light: Light) -> None:
        """Darken the canvas where the layer's shadow will fall; call it before `add`."""
        if light.shadow <= 0:
            return
        reach = int(light.shadow_reach + 3 * light.shadow_blur) + 2
        height, width = self.owner.shape
        y0, x0 = max(0, layer.top - reach), max(0, layer.left - reach)
        y1 = min(height, layer.top + layer.alpha.shape[0] + reach)
        x1 = min(width, layer.left + layer.alpha.shape[1] + reach)
        right = layer.left - x0 + light.direction[0] * light.shadow_reach
        down = layer.top - y0 + light.direction[1] * light.shadow_reach
        shift = np.array([[1, 0, right], [0, 1, down]], np.float64)
        shadow = cv2.warpAffine(layer.alpha, shift, (x1 - x0, y1 - y0), flags=cv2.INTER_NEAREST)
        side = 2 * int(1.5 * light.shadow_blur) + 1
        shadow = cv2.blur(shadow, (side, side)) if side > 1 else shadow
        self.image[y0:y1, x0:x1] *= (1 - shadow * np.float32(light.shadow))[:, :, None]

    def add(
        self,
        layer: Layer,
        alpha: Float32[np.ndarray, "h w"] | None = None,
        colour: Float32[np.ndarray, "h w 3"] | None = None,
    ) -> None:
        """Lay an object on top; it owns the pixels where its own alpha is ≥ ½, whatever it is painted with."""
        share = layer.alpha if alpha is None else alpha
        paint = layer.colour if colour is None else colour
        self.image[layer.region] = cv2.blendLinear(paint, self.image[layer.region], share, 1 - share)
        solid = layer.alpha >= 0.5
        first = len(self.parents)
        self.owner[layer.region][solid] = layer.label[solid] + np.int16(first)
        self.drawn.extend(np.bincount(layer.label[solid].ravel(), minlength=len(layer.parents)).tolist())
        self.parents.extend(-1 if parent < 0 else first + parent for parent in layer.parents)

    def masks(
        self, *, min_area: int, most: int, max_share: float = 0.9, min_visible: float = 0.12
    ) -> tuple[Bool[np.ndarray, "m h w"], Int8[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
        """The visible masks of all nodes, their levels (0 whole, 1 part, 2 subpart) and their parents' indices.

        A node's mask is the union of what is seen of it and of its descendants. Left out: masks under `min_area`
        pixels or over `max_share` of the canvas, those with less than `min_visible` of what was painted of them left
        in sight, those of whose outline next to nothing shows, those equal to their parent's (over 95 % of it), and
        all but the `most` largest. The children of a node that is left out belong to its parent.
        """
        members = self._members()
        kept, levels, parents = self._kept(members, min_area, most, max_share, min_visible)
        masks = np.zeros((len(kept), *self.owner.shape), np.bool_)
        for place, node in enumerate(kept):
            if members[node].sum() == 1:
                np.equal(self.owner, node, out=masks[place])
            else:
                masks[place] = members[node][self.owner]
        return masks, np.array(levels, np.int8), np.array(parents, np.int64)

    def _members(self) -> Bool[np.ndarray, "n n_plus_1"]:
        """For each node, which nodes are itself or below it; the last column, for owner -1, is never set."""
        count = len(self.parents)
        members = np.zeros((count, count + 1), np.bool_)
        for node in range(count - 1, -1, -1):
            members[node, node] = True
            if self.parents[node] >= 0:
                members[self.parents[node]] |= members[node]
        return members

    def _edges(self) -> tuple[Int16[np.ndarray, "e 2"], Bool[np.ndarray, " e"]]:
        """The owners on both sides of each change of owner along rows and columns, and whether the paint changes too.

        It does if colours per pixel and a half to either side differ by a twentieth of the brightness and a little.
        """
        picture = np.clip(self.image, 0, 255)
        pairs, shown = [], []
        for turn in (False, True):
            owner = self.owner.T if turn else self.owner
            colour = picture.transpose(1, 0, 2) if turn else picture
            y, x = np.nonzero(owner[:, 1:-2] != owner[:, 2:-1])
            one, other = colour[y, x], colour[y, x + 3]
            pairs.append(np.stack([owner[y, x + 1], owner[y, x + 2]], axis=1))
            shown.append(np.abs(one - other).max(axis=1) > 3 + 0.025 * (one + other).max(axis=1))
        return np.concatenate(pairs), np.concatenate(shown)

    def _kept(
        self,
        members: Bool[np.ndarray, "n n_plus_1"],
        min_area: int,
        most: int,
        max_share: float,
        min_visible: float,
    ) -> tuple[list[int], list[int], list[int]]:
        """The nodes whose masks are kept, their levels, and the places of their parents among them."""
        count = len(self.parents)
        seen = np.bincount(self.owner.ravel() + 1, minlength=count + 1)[1:]
        drawn = np.array(self.drawn, np.int64)
        for node in range(count - 1, -1, -1):
            if self.parents[node] >= 0:
                seen[self.parents[node]] += seen[node]
                drawn[self.parents[node]] += drawn[node]
        good = (seen >= min_area) & (seen <= max_share * self.owner.size) & (seen >= min_visible * drawn)
        pairs, shown = self._edges()
        for node in np.flatnonzero(good).tolist():
            outline = members[node][pairs[:, 0]] != members[node][pairs[:, 1]]
            good[node] = shown[outline].mean() >= _MIN_SHOWN if outline.any() else False
        if good.sum() > most:
            # A parent is no smaller than its children, so none of those kept loses it; ties go to the earlier node.
            order = np.argsort(np.where(good, -seen, 1), kind="stable")
            good[order[most:]] = False
        places: dict[int, int] = {}
        levels: list[int] = []
        parents: list[int] = []
        for node in np.flatnonzero(good).tolist():
            above = self.parents[node]
            while above >= 0 and above not in places:
                above = self.parents[above]
            if above >= 0 and seen[node] > 0.95 * seen[above]:
                continue
            places[node] = len(levels)
            levels.append(0 if above < 0 else min(2, levels[places[above]] + 1))
            parents.append(places[above] if above >= 0 else -1)
        return list(places), levels, parents
