"""Masks and prompts drawn on their image.

Frame: the image's own pixels throughout. Lines grow with the image, so that they look alike at any size.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from anymask.geometry import boxes as box_geometry
from anymask.geometry import rle
from anymask.plots.colors import palette

_FOREGROUND = (34, 197, 94)
_BACKGROUND = (239, 68, 68)
_SUBPIXEL_BITS = 4
_FARTHEST = 16
"""Pixels from a mask's edge beyond which nothing depends on how far it is."""
_PIXELS_TOGETHER = 1 << 22
"""Drawn at once: each takes some forty bytes."""


def stroke_width(size: tuple[int, int]) -> float:
    """Return the width in pixels of outlines on an image of `size` = (height, width): 1.5 up to 1000 pixels per
    side."""
    return max(1.5, max(size) * 1.5 / 1000)


def draw_masks(
    image: UInt8[np.ndarray, "h w 3"],
    masks: Bool[np.ndarray, "m h w"],
    *,
    colors: UInt8[np.ndarray, "m 3"] | None = None,
    opacity: float = 0.45,
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a copy with each mask filled translucently and outlined, larger masks beneath smaller ones."""
    drawn = image.copy()
    chosen = palette(len(masks)) if colors is None else colors
    stroke = stroke_width((image.shape[0], image.shape[1]))
    areas = [int(np.count_nonzero(mask)) for mask in masks]
    for index in sorted(range(len(masks)), key=lambda i: -areas[i]):
        if areas[index]:
            _draw_mask(drawn, masks[index], chosen[index].astype(np.float32), stroke, opacity)
    return drawn


def draw_everything(
    image: UInt8[np.ndarray, "h w 3"],
    masks: Sequence[rle.RLE],
    *,
    max_side: int = 2048,
    opacity: float = 0.45,
) -> UInt8[np.ndarray, "p q 3"]:
    """Return a copy of at most `max_side` pixels per side with any number of stored masks on it.

    A pixel has the tint of the smallest mask over it, and that mask hides the others' outlines within it: however
    many there are, the photograph stays visible. Only what is shown of a mask is decoded, one after the other.
    """
    shown = _shrunk(image, max_side)
    drawn = shown.copy()
    colors = palette(len(masks)).astype(np.float32)
    stroke = stroke_width((shown.shape[0], shown.shape[1]))
    for index in sorted(range(len(masks)), key=lambda i: -rle.area(masks[i])):
        window, mask = _shown_part(masks[index], shown, _margin(stroke))
        if mask.any():
            tinted = (1 - opacity) * shown[window][mask] + opacity * colors[index]
            drawn[window][mask] = tinted.round().astype(np.uint8)
            _draw_window(drawn[window], mask, colors[index], stroke, opacity=0)
    return drawn


def _shrunk(image: UInt8[np.ndarray, "h w 3"], max_side: int) -> UInt8[np.ndarray, "p q 3"]:
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    if scale == 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _shown_part(
    mask: rle.RLE, shown: UInt8[np.ndarray, "p q 3"], margin: int
) -> tuple[tuple[slice, slice], Bool[np.ndarray, "r c"]]:
    """Return the rows and columns of a mask's box and a margin around it in a shrunk image, and the mask there."""
    rows, columns = (
        ((np.arange(count) + 0.5) * (full / count)).astype(np.int64)
        for count, full in zip(shown.shape[:2], mask["size"], strict=True)
    )
    x, y, width, height = rle.bbox(mask)
    top, bottom = np.searchsorted(rows, (y, y + height)).tolist()
    left, right = np.searchsorted(columns, (x, x + width)).tolist()
    window = slice(max(0, top - margin), bottom + margin), slice(max(0, left - margin), right + margin)
    return window, rle.decode_grid(mask, rows[window[0]], columns[window[1]])


def _draw_mask(
    canvas: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    color: Float[np.ndarray, " 3"],
    stroke: float,
    opacity: float,
) -> None:
    """Draw one mask in place, within its box."""
    x0, y0, x1, y1 = box_geometry.from_masks(mask[None])[0].tolist()
    margin = _margin(stroke)
    window = (slice(max(0, y0 - margin), y1 + margin), slice(max(0, x0 - margin), x1 + margin))
    _draw_window(canvas[window], mask[window], color, stroke, opacity)


def _margin(stroke: float) -> int:
    """Return how far an outline and its smoothing reach beyond a mask."""
    return int(np.ceil(stroke)) + 3


def _draw_window(
    canvas: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    color: Float[np.ndarray, " 3"],
    stroke: float,
    opacity: float,
) -> None:
    """Draw a mask in place, a band of rows at a time, each with as many around it as its pixels depend on."""
    halo = _FARTHEST + 1 + int(np.ceil(4 * stroke / 2)) + 1
    rows = max(1, _PIXELS_TOGETHER // max(1, mask.shape[1]))
    for top in range(0, mask.shape[0], rows):
        first = max(0, top - halo)
        distance = _signed_distance(mask[first : top + rows + halo], smooth=stroke / 2)[top - first :][:rows]
        _draw_band(canvas[top : top + rows], distance, color, stroke, opacity)


def _draw_band(
    canvas: UInt8[np.ndarray, "h w 3"],
    distance: Float[np.ndarray, "h w"],
    color: Float[np.ndarray, " 3"],
    stroke: float,
    opacity: float,
) -> None:
    """Draw in place: fill, a dark hairline that parts the outline from bright ground, the outline."""
    pixels = canvas.astype(np.float32)
    white = np.full(3, 255, np.float32)
    layers = (
        (opacity * np.clip(distance + 0.5, 0, 1), color),
        (0.5 * np.clip(stroke / 2 + 1.5 - np.abs(distance), 0, 1), color * 0.15),
        (np.clip(stroke / 2 + 0.5 - np.abs(distance), 0, 1), 0.65 * color + 0.35 * white),
    )
    for alpha, layer in layers:
        pixels += alpha[..., None] * (layer - pixels)
    canvas[:] = pixels.round().astype(np.uint8)


def _signed_distance(mask: Bool[np.ndarray, "h w"], smooth: float) -> Float[np.ndarray, "h w"]:
    """Return each pixel's distance to the mask's edge, positive inside, smoothed a little to take off the stairs."""
    inside = np.ascontiguousarray(mask).view(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    gap = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    signed = np.where(mask, depth - 0.5, 0.5 - gap).clip(-_FARTHEST, _FARTHEST).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(signed, (0, 0), smooth))


def draw_points(
    image: UInt8[np.ndarray, "h w 3"], points: Shaped[np.ndarray, "n 2"], labels: Int[np.ndarray, " n"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a copy with a dot in a white ring at each (x, y): green for label 1, red for 0."""
    drawn = image.copy()
    radius = 2.2 * stroke_width((image.shape[0], image.shape[1])) + 1
    for (x, y), label in zip(points.tolist(), labels.tolist(), strict=True):
        center = _subpixel(x, y)
        for grown, color in ((2.6, (30, 30, 30)), (1.8, (255, 255, 255)), (0.0, _FOREGROUND if label else _BACKGROUND)):
            size = round((radius + grown * radius / 4) * 2**_SUBPIXEL_BITS)
            cv2.circle(drawn, center, size, color, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
    return drawn


def draw_boxes(
    image: UInt8[np.ndarray, "h w 3"],
    boxes: Shaped[np.ndarray, "n 4"],
    *,
    colors: UInt8[np.ndarray, "n 3"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a copy with the outline of each (x0, y0, x1, y1), right and bottom edges exclusive."""
    drawn = image.copy()
    chosen = palette(len(boxes), lightness=0.85, chroma=0.12) if colors is None else colors
    width = round(stroke_width((image.shape[0], image.shape[1])))
    for (x0, y0, x1, y1), color in zip(boxes.tolist(), chosen.tolist(), strict=True):
        corners = _subpixel(x0 - 0.5, y0 - 0.5), _subpixel(x1 - 0.5, y1 - 0.5)
        for thickness, shade in ((width + 2, (30, 30, 30)), (width, color)):
            cv2.rectangle(drawn, *corners, shade, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
    return drawn


def draw_answer(
    image: UInt8[np.ndarray, "h w 3"],
    masks: Bool[np.ndarray, "m h w"],
    *,
    points: Sequence[Sequence[float]] = (),
    labels: Sequence[int] = (),
    boxes: Sequence[Sequence[float]] = (),
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a copy with masks, and over them the prompts that asked for them."""
    drawn = draw_masks(image, masks)
    if len(boxes):
        drawn = draw_boxes(drawn, np.asarray(boxes, np.float64).reshape(-1, 4))
    if len(points):
        drawn = draw_points(drawn, np.asarray(points, np.float64).reshape(-1, 2), np.asarray(labels, np.int64))
    return drawn


def _subpixel(x: float, y: float) -> tuple[int, int]:
    """Return a place in the fixed-point numbers that OpenCV draws at."""
    return round(x * 2**_SUBPIXEL_BITS), round(y * 2**_SUBPIXEL_BITS)
