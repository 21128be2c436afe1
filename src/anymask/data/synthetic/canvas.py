"""The canvas: an image under paint, and for every pixel the node of the scene that is seen there."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int8, Int16, Int64, UInt8

from anymask.data.synthetic.bodies import OTHER, SAME, Body
from anymask.data.synthetic.light import Light, shading
from anymask.data.synthetic.materials import Material, Materials
from anymask.data.synthetic.outlines import Outline

_SHIFT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Where an object stands: scale and centre in pixels, angle in radians, and the tilt of its perspective."""

    scale: float
    centre: tuple[float, float]
    angle: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.0)

    def apply(self, outline: Outline) -> Outline:
        """An outline's points in pixels of the image."""
        c, s = np.cos(self.angle) * self.scale, np.sin(self.angle) * self.scale
        matrix = np.array([[c, s], [-s, c]])
        placed = []
        for ring in outline:
            if self.tilt != (0.0, 0.0):
                ring = ring / np.maximum(1.0 + ring @ np.array(self.tilt), 0.2)[:, None]
            placed.append(ring @ matrix + self.centre)
        return placed


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One painted object: a rectangle of the canvas with colour, coverage and, a pixel, the node painted last.

    `label` is meaningful where alpha is at least one half; `parents` gives each node's parent, -1 for the whole.
    """

    top: int
    left: int
    colour: Float32[np.ndarray, "h w 3"]
    alpha: Float32[np.ndarray, "h w"]
    label: Int16[np.ndarray, "h w"]
    parents: tuple[int, ...]


def coverage(outline: Outline, top: int, left: int, height: int, width: int) -> UInt8[np.ndarray, "h w"]:
    """The share of each pixel of a rectangle that an outline covers, 0..255; holes by the even-odd rule."""
    plane = np.zeros((height, width), np.uint8)
    fixed = [np.clip((ring - (left, top)) * (1 << _SHIFT), -(1 << 18), 1 << 18).astype(np.int32) for ring in outline]
    cv2.fillPoly(plane, fixed, 255, lineType=cv2.LINE_AA, shift=_SHIFT)
    return plane


def bounds(outline: Outline, height: int, width: int) -> tuple[int, int, int, int] | None:
    """The rectangle (top, left, bottom, right) of an outline within the canvas, or None where it is outside."""
    points = outline[0] if len(outline) == 1 else np.concatenate(outline)
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    top, left = max(0, int(y0) - 2), max(0, int(x0) - 2)
    bottom, right = min(height, int(y1) + 3), min(width, int(x1) + 3)
    return (top, left, bottom, right) if bottom - top > 2 and right - left > 2 else None


def paint(
    rng: np.random.Generator,
    body: Body,
    pose: Pose,
    materials: Materials,
    light: Light,
    size: tuple[int, int],
    *,
    base: Material | None = None,
) -> Layer | None:
    """Paint an object's pieces in turn, lit, in a canvas of `size`; None if it lies outside.

    `base` is the material of the whole, drawn unless given.
    """
    placed = [pose.apply(piece.outline) for piece in body]
    seen = [bounds(outline, *size) if outline else None for outline in placed]
    free = [box for box, piece in zip(seen, body, strict=True) if box is not None and not piece.clip]
    if not free:
        return None
    top, left = min(box[0] for box in free), min(box[1] for box in free)
    height, width = max(box[2] for box in free) - top, max(box[3] for box in free) - left
    colour = np.zeros((height, width, 3), np.float32)
    alpha = np.zeros((height, width), np.float32)
    label = np.zeros((height, width), np.int16)
    planes: list[UInt8[np.ndarray, "h w"] | None] = [None] * len(body)
    chosen: list[Material] = []
    shared: dict[int, Material] = {}
    round_parts = rng.random() < 0.4
    for index, (piece, outline, box) in enumerate(zip(body, placed, seen, strict=True)):
        if piece.parent < 0:
            material = base or materials.draw(rng)
        elif piece.shared in shared:
            material = shared[piece.shared].vary(rng, 0.3)
        else:
            parent = chosen[piece.parent]
            material = (
                parent
                if piece.finish == SAME
                else materials.draw(rng)
                if piece.finish == OTHER
                else materials.related(rng, parent)
            )
        if piece.shared >= 0:
            shared.setdefault(piece.shared, material)
        chosen.append(material)
        if box is None:
            continue
        y0, x0 = max(box[0] - top, 0), max(box[1] - left, 0)
        y1, x1 = min(box[2] - top, height), min(box[3] - left, width)
        if y1 - y0 < 2 or x1 - x0 < 2:
            continue
        plane = coverage(outline, top + y0, left + x0, y1 - y0, x1 - x0)
        region = np.s_[y0:y1, x0:x1]
        if piece.clip:
            own = planes[piece.parent]
            plane = np.minimum(plane, own[region] if own is not None else (alpha[region] * 255).astype(np.uint8))
        if any(other.parent == index and other.clip for other in body[index + 1 :]):
            whole = np.zeros((height, width), np.uint8)
            whole[region] = plane
            planes[index] = whole
        if piece.finish == SAME and piece.parent >= 0 and piece.clip:
            label[region][plane >= 128] = index
            continue
        patch = material.sample(rng, y1 - y0, x1 - x0)
        if round_parts and (index == 0 or not piece.clip or rng.random() < 0.5):
            _lighten(rng, light, patch, plane)
        opacity = plane * np.float32(1 / 255)
        before = alpha[region]
        after = opacity + before * (1 - opacity)
        share = opacity / np.maximum(after, np.float32(1e-3))
        colour[region] = cv2.blendLinear(patch, colour[region], share, 1 - share)
        alpha[region] = after
        label[region][plane >= 128] = index
    if not round_parts and rng.random() < 0.75:
        _lighten(rng, light, colour, (alpha * 255).astype(np.uint8))
    return Layer(
        top=top, left=left, colour=colour, alpha=alpha, label=label, parents=tuple(piece.parent for piece in body)
    )


def _lighten(
    rng: np.random.Generator, light: Light, colour: Float32[np.ndarray, "h w 3"], alpha: UInt8[np.ndarray, "h w"]
) -> None:
    """Shade a patch of colour in place as a rounded body of this coverage."""
    gain, glint = shading(rng, light, alpha)
    colour *= gain[:, :, None]
    if glint is not None:
        colour += (glint * np.float32(255))[:, :, None]


@dataclass(slots=True)
class Canvas:
    """The image so far, which node is seen at each pixel (-1 for none), and the tree of nodes."""

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
        shift = np.array(
            [
                [1, 0, layer.left - x0 + light.direction[0] * light.shadow_reach],
                [0, 1, layer.top - y0 + light.direction[1] * light.shadow_reach],
            ]
        )
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
        """Lay an object on top: its paint by `alpha` (its own unless given), its masks where its own alpha is ≥ ½."""
        height, width = layer.alpha.shape
        region = np.s_[layer.top : layer.top + height, layer.left : layer.left + width]
        share = layer.alpha if alpha is None else alpha
        self.image[region] = cv2.blendLinear(
            layer.colour if colour is None else colour, self.image[region], share, 1 - share
        )
        solid = layer.alpha >= 0.5
        first = len(self.parents)
        self.owner[region][solid] = layer.label[solid] + np.int16(first)
        self.drawn.extend(np.bincount(layer.label[solid].ravel(), minlength=len(layer.parents)).tolist())
        self.parents.extend(-1 if parent < 0 else first + parent for parent in layer.parents)

    def masks(
        self, *, min_area: int, max_share: float = 0.9, min_visible: float = 0.12
    ) -> tuple[Bool[np.ndarray, "m h w"], Int8[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
        """The visible masks of all nodes, their levels (0 whole, 1 part, 2 subpart) and their parents' indices.

        A node's mask is the union of what is seen of it and of its descendants. Left out: masks under `min_area`
        pixels or over `max_share` of the canvas, those with less than `min_visible` of what was painted of them left
        in sight, and those equal to their parent's (over 95 % of it).
        """
        count = len(self.parents)
        seen = np.bincount(self.owner.ravel() + 1, minlength=count + 1)[1:]
        drawn = np.array(self.drawn, np.int64)
        for node in range(count - 1, -1, -1):
            if self.parents[node] >= 0:
                seen[self.parents[node]] += seen[node]
                drawn[self.parents[node]] += drawn[node]
        keep = (seen >= min_area) & (seen <= max_share * self.owner.size) & (seen >= min_visible * drawn)
        kept: dict[int, int] = {}
        members: dict[int, list[int]] = {node: [] for node in range(count)}
        levels: list[int] = []
        parents: list[int] = []
        for node in range(count):
            above = self.parents[node]
            while above >= 0 and above not in kept:
                above = self.parents[above]
            if keep[node] and not (above >= 0 and seen[node] > 0.95 * seen[above]):
                kept[node] = len(levels)
                levels.append(0 if above < 0 else min(2, levels[kept[above]] + 1))
                parents.append(kept[above] if above >= 0 else -1)
            ancestor = node
            while ancestor >= 0:
                members[ancestor].append(node)
                ancestor = self.parents[ancestor]
        masks = np.zeros((len(kept), *self.owner.shape), np.bool_)
        table = np.zeros(count + 1, np.bool_)
        for node, place in kept.items():
            if len(members[node]) == 1:
                np.equal(self.owner, node, out=masks[place])
                continue
            table[:] = False
            table[np.array(members[node]) + 1] = True
            masks[place] = table[self.owner + 1]
        return masks, np.array(levels, np.int8), np.array(parents, np.int64)
