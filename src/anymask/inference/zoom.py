"""Zooming in: a small object's surroundings cut out of the image, encoded by themselves and asked again.

At the encoder's input size a small object is a few cells of the embedding. In a crop around it, it is as large as any
other (f-BRS, Sofiiuk et al. 2020, zooms in so while people click). The crops lie on a grid, so that an answer depends
on its prompt alone, and neighbours and later clicks find their crop encoded already.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, UInt8

from anymask.geometry import boxes
from anymask.geometry.frames import Frame
from anymask.inference.prompts import ModelPrompt, Prompt
from anymask.model import PointLabel

if TYPE_CHECKING:
    from anymask.inference.answers import EncodedImage

LARGEST = 0.7
"""Side of the largest crop, as a share of the image's long side; the others are a half, a quarter, … of it."""
MARGIN = 1.5
"""A crop is larger than its object's longer side by this, at least."""
_SMALLEST = 64
"""Side of the smallest crop, in pixels: nothing more is to be seen in less."""
_GRID = 8
"""A crop's place is a multiple of its side by this."""
_NUM_KEPT = 8


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of an image, in its pixels, right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def cut(self, plane: np.ndarray) -> np.ndarray:
        """Return a copy of what lies in the window of a (h, w, …) array."""
        return np.ascontiguousarray(plane[self.top : self.bottom, self.left : self.right])

    def paste(self, plane: np.ndarray, part: np.ndarray) -> None:
        """Write what `cut` would return into a (h, w, …) array."""
        plane[self.top : self.bottom, self.left : self.right] = part


def window_around(box: Float[np.ndarray, " 4"], size: tuple[int, int]) -> Window | None:
    """Return the crop to look at an object of this xyxy box in, in an image of (height, width); None if it is large."""
    height, width = size
    needed = max(float((box[2:] - box[:2]).max()) * MARGIN, _SMALLEST)
    side = LARGEST * max(size)
    if needed > side:
        return None
    while side / 2 >= needed:
        side /= 2
    centre = (box[:2] + box[2:]) / 2
    left, right = _place(float(centre[0]), round(side), width)
    top, bottom = _place(float(centre[1]), round(side), height)
    return Window(left, top, right, bottom)


def _place(centre: float, side: int, total: int) -> tuple[int, int]:
    step, side = max(1, side // _GRID), min(side, total)
    start = min(max(round((centre - side / 2) / step) * step, 0), total - side)
    return start, start + side


class Crops:
    """An image's crops, encoded by `encode` when they are first asked for; the last few are kept."""

    def __init__(
        self,
        pixels: UInt8[np.ndarray, "h w 3"],
        encode: Callable[[Sequence[UInt8[np.ndarray, "h w 3"]]], list[EncodedImage]],
    ) -> None:
        self.pixels = pixels
        self._encode = encode
        self._kept: OrderedDict[Window, EncodedImage] = OrderedDict()

    def encoded(self, window: Window) -> EncodedImage:
        """Return what the encoder makes of a crop."""
        if window not in self._kept:
            self._kept[window] = self._encode([window.cut(self.pixels)])[0]
        self._kept.move_to_end(window)
        while len(self._kept) > _NUM_KEPT:
            self._kept.popitem(last=False)
        return self._kept[window]


def closer(prompt: ModelPrompt, found: Bool[np.ndarray, "h w"], frame: Frame) -> tuple[Window, Prompt] | None:
    """Return the crop in which to ask again about an object, and what to ask there, in the crop's pixels.

    `prompt` is what `found`, the mask of the whole image, answered. None where zooming in is no use: the object is
    large, there is none, or the prompt says by words or a rough mask alone what is meant.
    """
    corners = np.isin(prompt.labels, (PointLabel.TOP_LEFT, PointLabel.BOTTOM_RIGHT))
    clicked = np.isin(prompt.labels, (PointLabel.FOREGROUND, PointLabel.BACKGROUND))
    places, labels = frame.points_to_original(prompt.points[clicked]), prompt.labels[clicked]
    box = frame.points_to_original(prompt.points[corners]).reshape(-1) if corners.any() else None
    meant = places[labels == PointLabel.FOREGROUND]
    if prompt.text is not None or (box is None and not len(meant)) or (not prompt.is_lone_box and not found.any()):
        return None
    extents = [box] if box is not None else [_bounds(meant)]
    if not prompt.is_lone_box:
        extents.append(boxes.from_masks(found[None])[0].astype(np.float32))
    every = np.stack(extents)
    extent = np.concatenate([every[:, :2].min(axis=0), every[:, 2:].max(axis=0)])
    window = window_around(extent, frame.original)
    if window is None:
        return None
    corner = np.array([window.left, window.top], np.float32)
    end = np.array([window.right, window.bottom], np.float32) - corner
    within = ((places - corner >= 0) & (places - corner <= end)).all(axis=1)
    return window, Prompt(
        points=places[within] - corner if within.any() else None,
        labels=labels[within] if within.any() else None,
        box=None if box is None else np.concatenate([(box[:2] - corner).clip(0, end), (box[2:] - corner).clip(0, end)]),
        mask=None if prompt.is_lone_box else window.cut(found),
    )


def _bounds(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " 4"]:
    return np.concatenate([points.min(axis=0), points.max(axis=0) + 1])
