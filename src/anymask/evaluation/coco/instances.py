"""The instance protocol: a detector's boxes, our masks, COCO's and LVIS' AP (SAM, sec. 7.4 and app. D.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from anymask.data.sample import Skipped
from anymask.errors import DataError
from anymask.evaluation.coco.average_precision import PrecisionScores, PrecisionTally, Scored, judge
from anymask.evaluation.coco.truth import CocoTruth
from anymask.evaluation.result_log import ResultLog, measured
from anymask.inference.instances import Detection, ImageId, Instance

BoxSegmenter = Callable[[UInt8[np.ndarray, "h w 3"], Sequence[Detection]], Sequence[Instance]]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceResult:
    """AP over the images of a file, and what of it could not be used."""

    name: str
    scores: PrecisionScores
    num_images: int
    num_masks: int
    """Number of annotated masks that count, crowds left out."""
    num_boxes: int
    num_skipped: int
    left_out: dict[str, int]


def evaluate_instances(
    segment: BoxSegmenter,
    name: str,
    truths: CocoTruth,
    detections: Mapping[ImageId, Sequence[Detection]],
    *,
    max_images: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    result_log: ResultLog | None = None,
) -> InstanceResult:
    """Evaluate the masks of boxes on every image, or the first `max_images` by id, an image in memory at a time.

    Images without a box count as well, what is on them being missed. Boxes without an area and those of images that are
    not in the file are left out and counted. Images that the log has are not done again. Raises DataError where no
    detection is of any image of the file.
    """
    ids = {truths.entry(index).id for index in range(len(truths))}
    strange = sum(len(boxes) for image_id, boxes in detections.items() if image_id not in ids)
    if not ids & detections.keys():
        raise DataError(f"{name}: none of the boxes' {len(detections)} images is in the annotation file")
    skipped, tally, num_boxes = Skipped(), PrecisionTally(), 0
    left_out = Counter(truths.left_out)
    lost = Counter({"boxes of images that are not in the file": strange})
    chosen = range(len(truths))[:max_images]

    def boxes_of(index: int) -> Sequence[Detection]:
        return detections.get(truths.entry(index).id, ())

    def measure(index: int) -> dict[str, Any]:
        truth, boxes = truths.truth(index), boxes_of(index)
        found = segment(truths.read_pixels(index), boxes) if boxes else []
        masks = [Scored(mask=i.rle, category=i.detection.category_id, score=i.detection.score) for i in found]
        return {"boxes": len(found), "judged": judge(masks, truth), "left_out": truth.left_out}

    for index, record in measured(name, truths, chosen, measure, skipped, progress=progress, result_log=result_log):
        tally.add(record["judged"])
        num_boxes += record["boxes"]
        left_out.update(record["left_out"])
        lost["boxes without an area in their image"] += len(boxes_of(index)) - record["boxes"]
    return InstanceResult(
        name=name,
        scores=tally.scores(truths.frequency),
        num_images=len(chosen) - skipped.total,
        num_masks=tally.num_truths(),
        num_boxes=num_boxes,
        num_skipped=skipped.total,
        left_out={
            **{f"annotations {reason}": count for reason, count in left_out.items()},
            **{reason: count for reason, count in lost.items() if count},
        },
    )
