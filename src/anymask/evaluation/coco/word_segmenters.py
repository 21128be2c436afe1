"""The two ways to masks from words as `WordSegmenter`s: a detector's boxes, and a model that was trained on words."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import UInt8

from anymask.errors import PromptError
from anymask.evaluation.coco.text_to_mask import Named, PreparedWords, WordSegmenter
from anymask.geometry import rle
from anymask.inference import Predictor, TextMasks
from anymask.inference.answers import EncodedImage, encode
from anymask.inference.words.clip import Clip
from anymask.inference.words.detector import WordBox
from anymask.inference.words.text import MAX_PHRASES, select
from anymask.model import Sam


def by_detector(finder: TextMasks) -> WordSegmenter:
    """Return what answers a phrase with the masks that pass the finder's threshold, and several with all it has."""
    return lambda image: _Detected(finder, image)


def by_words(model: Sam, clip: Clip | str | os.PathLike[str] | None = None) -> WordSegmenter:
    """Return what answers a phrase with the one mask of a model that was trained on words (SAM, app. D.5)."""
    predictor = Predictor(model, clip=clip)

    def prepare(image: UInt8[np.ndarray, "h w 3"]) -> PreparedWords:
        predictor.set_image(image)
        return _Said(predictor)

    return prepare


class _Detected:
    def __init__(self, finder: TextMasks, image: UInt8[np.ndarray, "h w 3"]) -> None:
        self._finder, self._pixels = finder, image

    def one(self, phrase: str) -> list[rle.RLE]:
        return [found.rle for found in self._masks(self._finder.boxes(self._pixels, [phrase]))]

    def several(self, phrases: Sequence[str]) -> list[Named]:
        chosen = select(self._ask(list(phrases)), dataclasses.replace(self._finder.options, threshold=0.0))
        return self._masks(chosen)

    def _ask(self, phrases: list[str]) -> list[WordBox]:
        """Ask for as many phrases at once as the detector reads; one that is too long by itself finds nothing."""
        if len(phrases) <= MAX_PHRASES:
            try:
                return self._finder.detector.detect(self._pixels, phrases) if phrases else []
            except PromptError:
                if len(phrases) == 1:
                    return []
        middle = len(phrases) // 2
        return [*self._ask(phrases[:middle]), *self._ask(phrases[middle:])]

    def _masks(self, boxes: Sequence[WordBox]) -> list[Named]:
        found = self._finder.masks(self._encoded, boxes) if boxes else []
        return [Named(phrase=each.phrase, score=each.score, rle=each.rle) for each in found]

    @cached_property
    def _encoded(self) -> EncodedImage:
        return encode(self._finder.model, [self._pixels])[0]


class _Said:
    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def one(self, phrase: str) -> list[rle.RLE]:
        return [rle.encode(self._predictor.predict(text=phrase).best)]

    def several(self, phrases: Sequence[str]) -> None:
        """Such a model makes a mask for whatever it is asked about, there or not."""
