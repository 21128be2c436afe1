"""Words that the page asks about: a detector of transformers, read when it is first asked."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8

from anymask.geometry import rle
from anymask.inference.text import TextMasks
from anymask.model import Sam


class DetectorWords:
    """A `TextModel` of an open-vocabulary detector and the server's model."""

    def __init__(self, model: Sam, detector: str) -> None:
        self._finder = TextMasks(model, detector)

    def find(
        self, image: UInt8[np.ndarray, "h w 3"], phrases: list[str], box_threshold: float
    ) -> list[tuple[Bool[np.ndarray, "h w"], float, str]]:
        """Return (mask, score, phrase) of each object found, by falling score of the detector."""
        found = self._finder.find(image, phrases, threshold=box_threshold)
        return [(rle.decode(one.rle), one.score, one.phrase) for one in found]
