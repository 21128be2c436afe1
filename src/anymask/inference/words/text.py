"""Masks for words: an open-vocabulary detector finds boxes for phrases, the model makes their masks.

Models that were trained on words themselves (`anymask.inference.words.clip`) need no detector.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from anymask.data.images import ImageSource
from anymask.errors import InputError, PromptError
from anymask.geometry import nms, rle
from anymask.inference.answers import EncodedImage, Masks, encode, read
from anymask.inference.instances import Detection, Instances
from anymask.inference.runtimes import AnyModel
from anymask.inference.words.detector import DETECTOR, TransformersDetector, WordBox, WordDetector

THRESHOLD = 0.3
MAX_PHRASES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions:
    """Which of a detector's boxes become masks, and how."""

    threshold: float = THRESHOLD
    """Least score of a box, from 0 to 1; others are dropped."""
    nms: float = 0.5
    """Of two boxes that overlap by more than this IoU the one of lower score is dropped, whatever their phrases."""
    max_results: int = 100
    """Objects on an image at most, the best ones."""
    refinements: int = 1
    """How often a mask is fed back with its box."""

    def __post_init__(self) -> None:
        """Reject invalid values; raises InputError."""
        for name in ("threshold", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        if self.max_results < 1 or self.refinements < 0:
            raise InputError(f"{self.max_results} results, {self.refinements} refinements: give 1 or more, 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextInstance:
    """An object that words describe."""

    phrase: str
    """The phrase that fits best."""
    score: float
    """The detector's score, from 0 to 1."""
    box: tuple[float, float, float, float]
    """The detector's (x0, y0, x1, y1) in pixels of the image; it may reach beyond it."""
    rle: rle.RLE
    predicted_iou: float


def check_phrases(phrases: Sequence[str]) -> list[str]:
    """Return phrases without blanks around and within, each once; raises PromptError if one is empty, or none given."""
    if isinstance(phrases, str):
        phrases = [phrases]
    cleaned = [" ".join(phrase.split()) for phrase in phrases]
    if not cleaned or not all(any(letter.isalnum() for letter in phrase) for phrase in cleaned):
        raise PromptError("words are missing: give a phrase such as 'a wheel', or several")
    if len(cleaned) > MAX_PHRASES:
        raise PromptError(f"{len(cleaned)} phrases were given; at most {MAX_PHRASES} can be looked for at once")
    return list(dict.fromkeys(cleaned))


def select(boxes: Sequence[WordBox], options: TextOptions) -> list[WordBox]:
    """Return the boxes that pass the threshold and are not suppressed by a better one, by falling score."""
    passed = [box for box in boxes if box.score >= options.threshold]
    corners = np.array([box.box for box in passed], np.float64).reshape(-1, 4)
    kept = nms.box_nms(corners, np.array([box.score for box in passed], np.float64), options.nms)
    return [passed[index] for index in kept[: options.max_results].tolist()]


class TextMasks:
    """Finds objects by words: any detector's boxes, and the model's masks for them; the model is left in its mode.

    `detector` is a folder of transformers, a name in its cache, or whatever has `detect`; it is read when it is first
    asked, onto the model's device. `TransformersDetector` says what it raises.
    """

    def __init__(
        self,
        model: AnyModel,
        detector: WordDetector | str | os.PathLike[str] = DETECTOR,
        options: TextOptions | None = None,
    ) -> None:
        self.model, self.options = model, options or TextOptions()
        self._detector = detector

    @property
    def detector(self) -> WordDetector:
        """The detector, read by now."""
        if isinstance(self._detector, str | os.PathLike):
            self._detector = TransformersDetector(self._detector, device=self.model.device)
        return self._detector

    def find(self, image: ImageSource, phrases: Sequence[str], *, threshold: float | None = None) -> list[TextInstance]:
        """Return the objects of an image that any of the phrases describes, by falling score of the detector.

        `threshold` takes the place of the options'. Raises ImageError, PromptError.
        """
        checked = check_phrases(phrases)
        pixels = read(self.model, image)
        boxes = self.boxes(pixels, checked, threshold=threshold)
        return self.masks(encode(self.model, [pixels])[0], boxes) if boxes else []

    def boxes(
        self, image: UInt8[np.ndarray, "h w 3"], phrases: Sequence[str], *, threshold: float | None = None
    ) -> list[WordBox]:
        """Return the boxes alone, by falling score."""
        options = self.options
        if threshold is not None:
            options = TextOptions(threshold=threshold, nms=options.nms, max_results=options.max_results)
        return select(self.detector.detect(image, check_phrases(phrases)), options)

    def masks(self, image: EncodedImage, boxes: Sequence[WordBox]) -> list[TextInstance]:
        """Return a mask for each box that has an area in the encoded image, in their order."""
        return [
            TextInstance(
                phrase=box.phrase,
                score=box.score,
                box=box.box,
                rle=rle.encode(masks.best),
                predicted_iou=float(masks.scores[0]),
            )
            for box, masks in self.answers(image, boxes)
        ]

    def joined(self, image: EncodedImage, boxes: Sequence[WordBox]) -> Masks:
        """Return the masks of all boxes as one answer, in the boxes' order."""
        height, width = image.frame.original
        side = self.model.mask_size
        answers = [masks for _, masks in self.answers(image, boxes)]
        return Masks(
            masks=np.concatenate([np.zeros((0, height, width), np.bool_), *(each.masks for each in answers)]),
            scores=np.concatenate([np.zeros(0, np.float32), *(each.scores for each in answers)]),
            logits=np.concatenate([np.zeros((0, side, side), np.float32), *(each.logits for each in answers)]),
        )

    def answers(self, image: EncodedImage, boxes: Sequence[WordBox]) -> Iterator[tuple[WordBox, Masks]]:
        """Yield each box that has an area in the encoded image with the model's answer, one mask."""
        places = [Detection(category_id=index, score=box.score, box=box.box) for index, box in enumerate(boxes)]
        instances = Instances(self.model, refinements=self.options.refinements)
        return ((boxes[place.category_id], masks) for place, masks in instances.answers(image, places))
