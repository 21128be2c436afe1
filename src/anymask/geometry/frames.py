"""The three frames of an image: original, resized, padded.

An image is resized so that its long side is the model's size or, for models that were trained so (SAM 2), both sides
are. The padded frame extends the resized one to the bottom and right, so both share one origin and one scale: a point
"in the model's frame" is the same in either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Shaped

from anymask.errors import InputError

Fit: TypeAlias = Literal["pad", "stretch"]
"""How an image becomes a square: its long side as long, the rest padded; or both sides."""


def resized_size(size: tuple[int, int], model_size: int, fit: Fit = "pad") -> tuple[int, int]:
    """Return the (height, width) of an image whose long side, or with "stretch" each, is scaled to `model_size`.

    Sides are rounded half up, as the public SAM code does; unlike there, the short side of a very elongated
    image is never rounded to zero but kept at one pixel. Raises InputError for a side below one pixel.
    """
    height, width = size
    if height < 1 or width < 1 or model_size < 1:
        raise InputError(f"cannot resize {height} x {width} pixels to {model_size}: no side may be below 1")
    if fit == "stretch":
        return model_size, model_size
    scale = model_size * 1.0 / max(height, width)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


@dataclass(frozen=True, slots=True)
class Frame:
    """How an original image of `original` = (height, width) pixels maps to a model of side `model_size`.

    x is scaled by resized width / original width and y by resized height / original height; with rounding the
    two differ a little. All results are float32, computed in double precision. Raises InputError for empty
    images.
    """

    original: tuple[int, int]
    model_size: int
    fit: Fit = "pad"

    def __post_init__(self) -> None:
        """Reject sizes that no image has."""
        resized_size(self.original, self.model_size, self.fit)

    @property
    def resized(self) -> tuple[int, int]:
        """(height, width) after scaling to the model's size."""
        return resized_size(self.original, self.model_size, self.fit)

    @property
    def padding(self) -> tuple[int, int]:
        """Rows below and columns to the right that turn the resized image into the padded square."""
        height, width = self.resized
        return self.model_size - height, self.model_size - width

    @property
    def scale(self) -> tuple[float, float]:
        """(x, y) factors from original to resized pixels."""
        height, width = self.resized
        return width / self.original[1], height / self.original[0]

    def points_to_model(self, points: Shaped[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Map (x, y) points of the original image to the model's frame."""
        return np.asarray(np.asarray(points, np.float64) * self.scale, np.float32)

    def points_to_original(self, points: Shaped[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Map (x, y) points of the model's frame to the original image."""
        return np.asarray(np.asarray(points, np.float64) / self.scale, np.float32)

    def boxes_to_model(self, boxes: Shaped[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
        """Map xyxy boxes of the original image to the model's frame."""
        return np.asarray(np.asarray(boxes, np.float64) * (self.scale * 2), np.float32)

    def boxes_to_original(self, boxes: Shaped[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
        """Map xyxy boxes of the model's frame to the original image."""
        return np.asarray(np.asarray(boxes, np.float64) / (self.scale * 2), np.float32)
