"""Average precision of masks with categories, as COCO and LVIS define it, from one image after the other.

Kept of an image are the scores of its detections and two bits for each range of areas and threshold.
Legend: D detections of falling score, T IoU thresholds, R ranges of areas.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from anymask.evaluation.coco.matching import AREAS, THRESHOLDS, iou, match, outside
from anymask.evaluation.coco.truth import ImageTruth
from anymask.geometry import rle

MAX_COCO = 100
"""Detections of an image and category that COCO looks at."""
MAX_LVIS = 300
"""Detections of an image, of all categories, that LVIS looks at."""

_RECALLS = np.linspace(0, 1, 101)
_CELLS = len(AREAS) * len(THRESHOLDS)
_BITS = 1 << np.arange(_CELLS, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One detection of an image."""

    mask: rle.RLE
    category: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionScores:
    """COCO's figures; None where nothing of the kind is annotated. The frequencies are LVIS'."""

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ap_rare: float | None = None
    ap_common: float | None = None
    ap_frequent: float | None = None


def judge(detections: Sequence[Scored], truth: ImageTruth) -> dict[str, Any]:
    """Match an image's detections category by category; return what is to be kept, in values that JSON holds.

    On LVIS (`truth.negative` is known) detections of categories of which nothing is known are left out.
    """
    if truth.negative is not None:
        ranked = sorted(detections, key=lambda d: -d.score)[:MAX_LVIS]
        known = truth.negative | set(truth.categories.tolist())
        detections = [d for d in ranked if d.category in known]
    by_category: dict[int, list[Scored]] = defaultdict(list)
    for detection in detections:
        by_category[detection.category].append(detection)
    kept: dict[str, Any] = {}
    for category in sorted({*by_category, *truth.categories.tolist()}):
        ranked = sorted(by_category[category], key=lambda d: -d.score)
        if truth.negative is None:
            ranked = ranked[:MAX_COCO]
        kept[str(category)] = _judge_category(ranked, truth, category)
    return kept


def _judge_category(detections: Sequence[Scored], truth: ImageTruth, category: int) -> dict[str, Any]:
    members = np.flatnonzero(truth.categories == category)
    crowd = truth.crowd[members]
    ious = iou([d.mask for d in detections], [truth.masks[index] for index in members.tolist()], crowd)
    ignored_truths = outside(truth.areas[members]) | crowd
    matched = match(ious, crowd, ignored_truths)
    elsewhere = outside(np.array([rle.area(d.mask) for d in detections], np.float64))
    elsewhere |= category in truth.not_exhaustive
    ignored = matched.ignored | (~matched.hit & elsewhere[:, None])
    return {
        "truths": (~ignored_truths).sum(axis=1).tolist(),
        "scores": [d.score for d in detections],
        "hit": _packed(matched.hit),
        "ignored": _packed(ignored),
    }


def _packed(cells: Bool[np.ndarray, "r t d"]) -> list[int]:
    packed: list[int] = (cells.reshape(_CELLS, cells.shape[-1]).T @ _BITS).tolist()
    return packed


def _unpacked(values: Int[np.ndarray, " d"]) -> Bool[np.ndarray, "r t d"]:
    return np.asarray((values & _BITS[:, None]) != 0).reshape(len(AREAS), len(THRESHOLDS), len(values))


class PrecisionTally:
    """Collects what `judge` returns, image after image, in the order of the images' ids: it decides ties of scores."""

    def __init__(self) -> None:
        self._truths: dict[int, Int[np.ndarray, " r"]] = {}
        self._parts: dict[int, list[tuple[Any, ...]]] = defaultdict(list)

    def add(self, judged: Mapping[str, Any]) -> None:
        """Add an image."""
        for name, part in judged.items():
            category = int(name)
            count = np.array(part["truths"], np.int64)
            self._truths[category] = self._truths.get(category, 0) + count
            if part["scores"]:
                packed = (np.array(part[key], np.int64) for key in ("hit", "ignored"))
                self._parts[category].append((np.array(part["scores"], np.float64), *packed))

    def num_truths(self) -> int:
        """Return how many annotated masks count."""
        return sum(int(counts[0]) for counts in self._truths.values())

    def scores(self, frequency: Mapping[int, str] | None = None) -> PrecisionScores:
        """Return the figures over all categories that have truths."""
        precision = {c: self._precision(c) for c, counts in sorted(self._truths.items()) if counts.any()}
        values = np.stack([*precision.values()]) if precision else np.full((0, len(AREAS), len(THRESHOLDS)), np.nan)
        kinds = np.array([(frequency or {}).get(category, "") for category in precision], "U1")
        return PrecisionScores(
            ap=_mean(values[:, 0]),
            ap50=_mean(values[:, 0, 0]),
            ap75=_mean(values[:, 0, 5]),
            ap_small=_mean(values[:, 1]),
            ap_medium=_mean(values[:, 2]),
            ap_large=_mean(values[:, 3]),
            **{f"ap_{name}": _mean(values[kinds == name[0], 0]) for name in ("rare", "common", "frequent")},
        )

    def _precision(self, category: int) -> Float[np.ndarray, "r t"]:
        """Return the mean precision over recalls by range and threshold, NaN where a range has no truth."""
        truths = self._truths[category]
        parts = self._parts[category] or [(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))]
        scores, hit, ignored = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(-scores, kind="stable")
        hits, out = _unpacked(hit[order]), _unpacked(ignored[order])
        right = np.cumsum(hits & ~out, axis=-1, dtype=np.float64)
        wrong = np.cumsum(~hits & ~out, axis=-1, dtype=np.float64)
        result = np.full((len(AREAS), len(THRESHOLDS)), np.nan)
        for place in np.ndindex(result.shape):
            if truths[place[0]]:
                result[place] = _interpolated(right[place], wrong[place], int(truths[place[0]]))
        return result


def _interpolated(right: Float[np.ndarray, " d"], wrong: Float[np.ndarray, " d"], num_truths: int) -> float:
    """Return the precision at 101 recalls, averaged: at each the highest that any recall from it on has."""
    precision = right / np.maximum(right + wrong, np.spacing(1))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right / num_truths, _RECALLS, side="left")
    return float(np.append(best, 0.0)[places].mean())


def _mean(values: Float[np.ndarray, "*n"]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
