"""Painting: from an object's outlines to pixels, with smooth edges, materials and light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from anymask.data.synthetic.canvas import Layer
from anymask.data.synthetic.curves import Outline, place
from anymask.data.synthetic.light import Surface
from anymask.data.synthetic.materials import Material, Materials
from anymask.data.synthetic.pieces import Body
from anymask.data.synthetic.textures import log_uniform, noise

_SHIFT = 4
_FARTHEST = 1 << 18

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Where an object stands: scale and centre in pixels, angle in radians, and the tilt of its perspective."""

    scale: float
    centre: tuple[float, float]
    angle: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.0)

    def apply(self, outline: Outline) -> Outline:
        """An outline's points in pixels of the image."""
        if self.tilt != (0.0, 0.0):
            tilt = np.array(self.tilt)
            outline = [ring / np.maximum(1.0 + ring @ tilt, 0.2)[:, None] for ring in outline]
        return place(outline, scale=self.scale, angle=self.angle, centre=self.centre)


def coverage(outline: Outline, top: int, left: int, height: int, width: int) -> UInt8[np.ndarray, "h w"]:
    """The share of each pixel of a rectangle that an outline covers, 0..255; holes by the even-odd rule.

    OpenCV paints the outline itself too, which makes shapes some 0.7 px larger all round than their points say.
    Masks are taken from this same coverage, so they are exact for what is painted.
    """
    plane = np.zeros((height, width), np.uint8)
    fixed = [np.clip((ring - (left, top)) * (1 << _SHIFT), -_FARTHEST, _FARTHEST).astype(np.int32) for ring in outline]
    cv2.fillPoly(plane, fixed, 255, lineType=cv2.LINE_AA, shift=_SHIFT)
    return plane


def bounds(outline: Outline, height: int, width: int) -> Box | None:
    """The rectangle (top, left, bottom, right) of an outline within the canvas, or None where it is outside."""
    if not outline:
        return None
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
    surface: Surface,
    size: tuple[int, int],
    *,
    base: Material | None = None,
) -> Layer | None:
    """Paint an object's pieces in turn, lit, in a canvas of `size`; None if it lies outside.

    `base` is the material of the whole, drawn unless given.
    """
    placed = [pose.apply(piece.outline) for piece in body]
    boxes = [bounds(outline, *size) for outline in placed]
    free = [box for box, piece in zip(boxes, body, strict=True) if box is not None and not piece.clip]
    if not free:
        return None
    top, left = min(box[0] for box in free), min(box[1] for box in free)
    sheet = _Sheet(top, left, max(box[2] for box in free) - top, max(box[3] for box in free) - left)
    chosen = _assign(rng, body, materials, base)
    masked = {piece.parent for piece in body if piece.clip}
    rounded_parts = rng.random() < 0.4
    for index, (piece, outline, box) in enumerate(zip(body, placed, boxes, strict=True)):
        cut = None if box is None else sheet.window(box)
        if cut is None:
            continue
        plane = sheet.plane(outline, cut, piece.parent if piece.clip else None)
        if index in masked:
            sheet.remember(index, plane, cut)
        if piece.clip and piece.finish == "same":
            sheet.label[cut][plane >= 128] = index
            continue
        patch = chosen[index].sample(rng, *plane.shape)
        if rounded_parts and (index == 0 or not piece.clip or rng.random() < 0.5):
            surface.shade(rng, patch, plane)
        sheet.cover(index, patch, plane, cut)
    if not rounded_parts and rng.random() < 0.8:
        surface.shade(rng, sheet.colour, (sheet.alpha * 255).astype(np.uint8))
    alpha = fringe(rng, sheet.alpha) if rng.random() < 0.12 else sheet.alpha
    parents = tuple(piece.parent for piece in body)
    return Layer(top=top, left=left, colour=sheet.colour, alpha=alpha, label=sheet.label, parents=parents)


def _assign(rng: np.random.Generator, body: Body, materials: Materials, base: Material | None) -> list[Material]:
    """A material for every piece, by its finish and its share in another's."""
    chosen: list[Material] = []
    shared: dict[int, Material] = {}
    for piece in body:
        if piece.parent < 0:
            material = base or materials.draw(rng)
        elif piece.shared in shared:
            material = shared[piece.shared].vary(rng, 0.3)
        elif piece.finish == "same":
            material = chosen[piece.parent]
        elif piece.finish == "other":
            material = materials.draw(rng)
        else:
            material = materials.related(rng, chosen[piece.parent])
        if piece.shared >= 0:
            shared.setdefault(piece.shared, material)
        chosen.append(material)
    return chosen


class _Sheet:
    """The rectangle under paint: colour (not multiplied by alpha), coverage and the piece painted last."""

    def __init__(self, top: int, left: int, height: int, width: int) -> None:
        self.top, self.left = top, left
        self.colour = np.zeros((height, width, 3), np.float32)
        self.alpha = np.zeros((height, width), np.float32)
        self.label = np.zeros((height, width), np.int16)
        self.planes: dict[int, UInt8[np.ndarray, "h w"]] = {}

    def window(self, box: Box) -> tuple[slice, slice] | None:
        """A box of the canvas as an index into the sheet; None if it has fewer than two rows or columns here."""
        height, width = self.alpha.shape
        rows = slice(max(box[0] - self.top, 0), min(box[2] - self.top, height))
        columns = slice(max(box[1] - self.left, 0), min(box[3] - self.left, width))
        return (rows, columns) if rows.stop - rows.start > 1 and columns.stop - columns.start > 1 else None

    def plane(self, outline: Outline, cut: tuple[slice, slice], clip_to: int | None) -> UInt8[np.ndarray, "h w"]:
        """An outline's coverage of a window, inside the paint of the piece `clip_to` if given."""
        rows, columns = cut
        height, width = rows.stop - rows.start, columns.stop - columns.start
        plane = coverage(outline, self.top + rows.start, self.left + columns.start, height, width)
        if clip_to is None:
            return plane
        whole = self.planes.get(clip_to)
        limit = whole[cut] if whole is not None else (self.alpha[cut] * 255).astype(np.uint8)
        return np.asarray(np.minimum(plane, limit), np.uint8)

    def remember(self, index: int, plane: UInt8[np.ndarray, "h w"], cut: tuple[slice, slice]) -> None:
        """Keep a piece's coverage, for pieces that are clipped to it."""
        self.planes[index] = np.zeros(self.alpha.shape, np.uint8)
        self.planes[index][cut] = plane

    def cover(
        self,
        index: int,
        patch: Float32[np.ndarray, "h w 3"],
        plane: UInt8[np.ndarray, "h w"],
        cut: tuple[slice, slice],
    ) -> None:
        """Lay a patch of colour over a window."""
        opacity = plane * np.float32(1 / 255)
        after = opacity + self.alpha[cut] * (1 - opacity)
        share = opacity / np.maximum(after, np.float32(1e-3))
        self.colour[cut] = cv2.blendLinear(patch, self.colour[cut], share, 1 - share)
        self.alpha[cut] = after
        self.label[cut][plane >= 128] = index


def fringe(rng: np.random.Generator, alpha: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The coverage eaten away along its edge by noise: fur, foliage, torn paper, powder."""
    depth = cv2.distanceTransform((alpha >= 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    thickness = min(float(depth.max()), float(max(alpha.shape)))
    reach = min(float(rng.uniform(1.5, 0.3 * thickness + 2)), 0.5 * thickness)
    if reach < 1.0:
        return alpha
    bite = noise(rng, alpha.shape, cell=log_uniform(rng, 2, 10), octaves=2, gain=0.7) * np.float32(reach)
    eaten = np.clip(depth - bite + np.float32(0.5), 0, 1)
    return np.asarray(np.minimum(alpha, eaten), np.float32)
