"""What a detector is to the engine: an image in, scored boxes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """Boxes (x0, y0, x1, y1) in pixels of the original image, best first, and their scores from 0 to 1."""

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]


class BoxDetector(Protocol):
    """Whatever finds objects without asking what they are."""

    def detect(self, image: UInt8[np.ndarray, "h w 3"], /) -> Detections:
        """Return the objects' boxes in an RGB image."""
        ...
