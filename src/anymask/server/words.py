"""Words that the page asks about: a detector of transformers, read when it is first asked."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8

from anymask.geometry import rle
from anymask.inference import EmbeddingCache, Predictor
from anymask.model import Sam


class DetectorWords:
    """A `TextModel` of an open-vocabulary detector and the server's model.

    With the project's cache an image that was encoded for the page is not encoded again, nor the other way round.
    """

    def __init__(self, model: Sam, detector: str, cache: EmbeddingCache | None = None) -> None:
        self._predictor = Predictor(model, cache=cache, detector=detector)

    def find(
        self, image: UInt8[np.ndarray, "h w 3"], phrases: list[str], box_threshold: float
    ) -> list[tuple[Bool[np.ndarray, "h w"], float, str]]:
        """Return (mask, score, phrase) of each object found, by falling score of the detector."""
        self._predictor.set_image(image)
        try:
            found = self._predictor.find(phrases, threshold=box_threshold)
        finally:
            self._predictor.reset()
        return [(rle.decode(one.rle), one.score, one.phrase) for one in found]
