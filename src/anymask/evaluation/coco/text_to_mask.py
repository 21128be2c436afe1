"""The text protocol: names of classes in, masks out, against what is annotated under those names.

SAM shows pictures of text to mask and no figure (sec. 7.5), so the measures are ours. Each name annotated on an image
is asked about alone: is the first mask an object of that name (`hit`), how well does it fit (`best`), and do all masks
together cover all such objects and nothing else (`union`)? A detector is also asked for all names at once, as COCO and
LVIS do: AP.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8

from anymask.data.sample import Skipped
from anymask.errors import DataError, InputError, PromptError
from anymask.evaluation.coco.average_precision import PrecisionScores, PrecisionTally, Scored, judge
from anymask.evaluation.coco.truth import ImageTruth, TruthSet
from anymask.evaluation.result_log import ResultLog, draw_images, measured, seeded
from anymask.geometry import rle
from anymask.inference import Predictor, TextMasks
from anymask.inference.answers import EncodedImage, encode
from anymask.inference.runtimes import AnyModel
from anymask.inference.words.clip import Clip
from anymask.inference.words.detector import WordBox
from anymask.inference.words.text import MAX_PHRASES, select

HIT = 0.5
"""The IoU from which on a mask is of the object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextProtocolConfig:
    """How names become phrases, and on how many images, drawn by `seed`; None takes all."""

    template: str = "{}"
    """What is asked, `{}` standing for the name: "a photo of a {}"."""
    max_images: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject invalid values; raises InputError."""
        if self.template.count("{}") != 1:
            raise InputError(f"the template is {self.template!r}; it must hold {{}} once, where the name goes")
        if self.max_images is not None and self.max_images < 1:
            raise InputError(f"max_images is {self.max_images}; give at least 1, or None for all")

    def phrase(self, name: str) -> str:
        """Return what is asked for a class: its name with blanks for underscores, in the template."""
        return self.template.replace("{}", " ".join(name.replace("_", " ").split()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A mask that answers one of several phrases."""

    phrase: str
    score: float
    rle: rle.RLE


class PreparedWords(Protocol):
    """An image that is ready for words."""

    def one(self, phrase: str, /) -> Sequence[rle.RLE]:
        """Return the masks of one phrase, best first; none where nothing is found. Raises PromptError."""
        ...

    def several(self, phrases: Sequence[str], /) -> Sequence[Named] | None:
        """Return what is found where all phrases are asked for at once, some or all of which may be absent.

        None from what cannot tell that a thing is absent.
        """
        ...


WordSegmenter = Callable[[UInt8[np.ndarray, "h w 3"]], PreparedWords]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextResult:
    """Means over the phrases asked alone (an image and a name each), and AP; None where nothing could be measured."""

    name: str
    best: float | None
    """IoU of the first mask with the object of that name that it fits best; 0 where there is no mask."""
    hit: float | None
    """Share of phrases whose first mask reaches `HIT`."""
    chance: float | None
    """Share of hits of an answer that shows any one of the image's annotated objects: the share of objects that bear
    the name.
    """
    union: float | None
    """IoU of all masks with all objects of the name; names of which LVIS annotates only some objects are left out."""
    scores: PrecisionScores | None
    """None from what cannot tell that a thing is absent."""
    num_images: int
    num_phrases: int
    num_skipped: int
    left_out: dict[str, int]


def evaluate_text(
    prepare: WordSegmenter,
    name: str,
    truths: TruthSet,
    config: TextProtocolConfig | None = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    result_log: ResultLog | None = None,
) -> TextResult:
    """Evaluate words on one data set, an image in memory at a time; what cannot be read is skipped and counted.

    Names with a crowd on an image are not asked alone there. `progress` is called with the set, the images done and
    their number. Images that the log has are not done again. Raises DataError where classes have no names, two the same
    one, or no image can be used.
    """
    config, skipped = config or TextProtocolConfig(), Skipped()
    phrases = class_phrases(name, truths, config)
    rows: list[dict[str, Any]] = []
    tally, is_precise, left_out = PrecisionTally(), True, Counter(truths.left_out)
    chosen = draw_images(len(truths), config.max_images, seeded(config.seed, name))

    def measure(index: int) -> dict[str, Any]:
        image, truth = truths.read(index)
        return {**_ask(prepare(image), truth, phrases), "left_out": truth.left_out}

    for _, record in measured(name, truths, chosen, measure, skipped, progress=progress, result_log=result_log):
        rows += record["phrases"]
        is_precise = is_precise and record["judged"] is not None
        tally.add(record["judged"] or {})
        left_out.update(record["left_out"])
    lost = Counter({f"annotations {reason}": count for reason, count in left_out.items()})
    lost["phrases that are too long to be read, taken for not found"] = sum(row["unread"] for row in rows)
    return TextResult(
        name=name,
        best=_mean([row["best"] for row in rows]),
        hit=_mean([float(row["best"] >= HIT) for row in rows]),
        chance=_mean([row["chance"] for row in rows]),
        union=_mean([row["union"] for row in rows if row["union"] is not None]),
        scores=tally.scores(truths.frequency) if is_precise else None,
        num_images=len(chosen) - skipped.total,
        num_phrases=len(rows),
        num_skipped=skipped.total,
        left_out={reason: count for reason, count in lost.items() if count},
    )


def class_phrases(name: str, truths: TruthSet, config: TextProtocolConfig) -> dict[int, str]:
    """Return the phrase of each class of a data set; raises DataError where there are none, or two the same."""
    phrases = {category: config.phrase(words) for category, words in truths.names.items()}
    if not phrases:
        raise DataError(f"{name}: its classes have no names; give a JSON of COCO's or LVIS' layout, with categories")
    twice = [phrase for phrase, count in Counter(phrases.values()).items() if count > 1]
    if twice:
        raise DataError(f"{name}: two of its classes are named {twice[0]!r}, so that words cannot tell them apart")
    return phrases


def _ask(image: PreparedWords, truth: ImageTruth, phrases: Mapping[int, str]) -> dict[str, Any]:
    """Return what is to be kept of an image, in values that JSON holds."""
    present = dict.fromkeys(truth.categories.tolist())
    nameless = [category for category in present if category not in phrases]
    if nameless:
        raise DataError(f"{truth.key}: something is of class {nameless[0]}, which has no name")
    crowded = set(truth.categories[truth.crowd].tolist())
    rows = [_alone(image, truth, category, phrases[category]) for category in present if category not in crowded]
    known = phrases if truth.negative is None else {c: phrases[c] for c in phrases if c in truth.negative | {*present}}
    found = image.several(list(known.values()))
    judged = None
    if found is not None:
        category_of = {phrase: category for category, phrase in known.items()}
        judged = judge([Scored(mask=f.rle, category=category_of[f.phrase], score=f.score) for f in found], truth)
    return {"phrases": rows, "judged": judged}


def _alone(image: PreparedWords, truth: ImageTruth, category: int, phrase: str) -> dict[str, Any]:
    """Ask about one name, and compare with what is annotated under it."""
    objects = [mask for mask, its in zip(truth.masks, truth.categories.tolist(), strict=True) if its == category]
    try:
        found, unread = list(image.one(phrase)), False
    except PromptError:
        found, unread = [], True
    union = None
    if category not in truth.not_exhaustive:
        union = float(rle.pairwise_iou([rle.merge(found)], [rle.merge(objects)])[0, 0]) if found else 0.0
    return {
        "category": category,
        "best": float(rle.pairwise_iou(found[:1], objects).max()) if found else 0.0,
        "union": union,
        "chance": len(objects) / int((~truth.crowd).sum()),
        "unread": unread,
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def by_detector(finder: TextMasks) -> WordSegmenter:
    """Return what answers a phrase with the masks that pass the finder's threshold, and several with all it has."""
    return lambda image: _Detected(finder, image)


def by_words(model: AnyModel, clip: Clip | str | os.PathLike[str] | None = None) -> WordSegmenter:
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
