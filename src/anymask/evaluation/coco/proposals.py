"""The proposal protocol: how much of what is annotated do the best 10, 100 and 1,000 masks of an image find?

Source: SAM, sec. 7.3 and app. D.3: average recall over IoU thresholds .50 to .95, categories disregarded, on LVIS by
size and by how frequent a category is. Only counts are kept of an image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8

from anymask.data.sample import Skipped
from anymask.errors import InputError
from anymask.evaluation.coco.matching import AREAS, THRESHOLDS, iou, match, outside
from anymask.evaluation.coco.truth import ImageTruth, TruthSet
from anymask.evaluation.result_log import ResultLog, draw_images, measured, seeded
from anymask.geometry.rle import RLE
from anymask.inference import AutomaticMasks, AutomaticOptions
from anymask.inference.runtimes import AnyModel

FREQUENCIES = {"rare": "r", "common": "c", "frequent": "f"}

RANGES = (*AREAS, *FREQUENCIES)
"""All masks, those of a size by their annotated area, and on LVIS those of categories of a frequency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """Masks of one image, in any order, and how good each is thought to be."""

    masks: Sequence[RLE]
    scores: Sequence[float]


Proposer = Callable[[UInt8[np.ndarray, "h w 3"]], Proposals]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalConfig:
    """How many of an image's masks count, and on how many images, drawn by `seed`; None takes all."""

    limits: tuple[int, ...] = (10, 100, 1000)
    max_images: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject invalid values."""
        if not self.limits or min(self.limits) < 1:
            raise InputError(f"the limits are {self.limits}; give one or more, of at least 1 mask each")
        if self.max_images is not None and self.max_images < 1:
            raise InputError(f"max_images is {self.max_images}; give at least 1, or None for all")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalResult:
    """Average recall, by range and by how many masks count; None where nothing of a range is annotated."""

    name: str
    recall: dict[str, dict[int, float | None]]
    num_images: int
    num_masks: int
    """Number of annotated masks that count, crowds left out."""
    num_skipped: int
    left_out: dict[str, int]
    """Annotations that cannot be used, by the reason."""


@dataclass(slots=True, kw_only=True, eq=False)
class RecallCounts:
    """How many truths there are and how many are found; counts of several images add up."""

    truths: Int[np.ndarray, " r"]
    found: Int[np.ndarray, "r k t"]
    """By range, by how many masks count, and by threshold."""

    def __iadd__(self, other: RecallCounts) -> RecallCounts:
        """Add another image's counts."""
        self.truths = self.truths + other.truths
        self.found = self.found + other.found
        return self

    def average_recall(self) -> list[list[float | None]]:
        """Return the recall averaged over thresholds, by range and limit; None where there is no truth."""
        shares = (self.found / np.maximum(self.truths, 1)[:, None, None]).mean(axis=-1)
        return [row.tolist() if n else [None] * len(row) for row, n in zip(shares, self.truths, strict=True)]


def count_found(
    proposals: Proposals, truth: ImageTruth, frequency: Mapping[int, str], limits: Sequence[int]
) -> RecallCounts:
    """Count what the best proposals of an image find; truths out of a range are there to be found, but do not count."""
    order = np.argsort(-np.asarray(proposals.scores, np.float64), kind="stable")[: max(limits)]
    ious = iou([proposals.masks[index] for index in order.tolist()], truth.masks, truth.crowd)
    ignored = _ignored(truth, frequency)
    matched = match(ious, truth.crowd, ignored)
    found = matched.hit & ~matched.ignored
    counts = np.stack([found[..., :limit].sum(axis=-1) for limit in limits], axis=1)
    return RecallCounts(truths=(~ignored).sum(axis=1), found=counts.astype(np.int64))


def _ignored(truth: ImageTruth, frequency: Mapping[int, str]) -> Bool[np.ndarray, "r g"]:
    kinds = np.array([frequency.get(category, "") for category in truth.categories.tolist()], "U1")
    elsewhere = [kinds != letter for letter in FREQUENCIES.values()]
    return np.asarray(np.concatenate([outside(truth.areas), elsewhere]) | truth.crowd)


def evaluate_proposals(
    propose: Proposer,
    name: str,
    truths: TruthSet,
    config: ProposalConfig | None = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    result_log: ResultLog | None = None,
) -> ProposalResult:
    """Evaluate proposals on one data set, an image in memory at a time; what cannot be read is skipped and counted.

    `progress` is called with the set, the images done and their number. Images that the log has are not done again.
    Raises DataError where no image can be used.
    """
    config, skipped, left_out = config or ProposalConfig(), Skipped(), Counter(truths.left_out)
    total = RecallCounts(
        truths=np.zeros(len(RANGES), np.int64),
        found=np.zeros((len(RANGES), len(config.limits), len(THRESHOLDS)), np.int64),
    )
    chosen = draw_images(len(truths), config.max_images, seeded(config.seed, name))

    def measure(index: int) -> dict[str, Any]:
        image, truth = truths.read(index)
        counts = count_found(propose(image), truth, truths.frequency, config.limits)
        return {"truths": counts.truths.tolist(), "found": counts.found.tolist(), "left_out": truth.left_out}

    for _, record in measured(name, truths, chosen, measure, skipped, progress=progress, result_log=result_log):
        total += RecallCounts(**{part: np.array(record[part], np.int64) for part in ("truths", "found")})
        left_out.update(record["left_out"])
    found = total.average_recall()
    return ProposalResult(
        name=name,
        recall={r: dict(zip(config.limits, row, strict=True)) for r, row in zip(RANGES, found, strict=True)},
        num_images=len(chosen) - skipped.total,
        num_masks=int(total.truths[0]),
        num_skipped=skipped.total,
        left_out=dict(left_out),
    )


def model_proposer(model: AnyModel, points_per_side: int = 64) -> Proposer:
    """Return what the paper does: no crops, no filters, NMS at 0.9, ranked by the mean of confidence and stability."""
    options = AutomaticOptions(
        points_per_side=points_per_side, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=0.9
    )
    automatic = AutomaticMasks(model, options)

    def propose(image: UInt8[np.ndarray, "h w 3"]) -> Proposals:
        records = automatic.generate(image)
        scores = [(record.predicted_iou + record.stability_score) / 2 for record in records]
        return Proposals(masks=[record.rle for record in records], scores=scores)

    return propose
