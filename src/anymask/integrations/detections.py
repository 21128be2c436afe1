"""Masks as supervision's detections, and any detector's boxes as prompts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from anymask.errors import InputError, MissingPackageError
from anymask.geometry import boxes, rle
from anymask.inference import MaskRecord, Masks

if TYPE_CHECKING:
    import supervision as sv


def to_supervision(
    found: Masks | Sequence[Masks] | Sequence[MaskRecord],
    *,
    class_id: int | Sequence[int] | None = None,
) -> sv.Detections:
    """Return masks as `supervision.Detections`: of a prompt the best, of several the best each, or of everything.

    Their confidence is the predicted IoU; of everything, `data` has the stability too. `class_id` is one number for
    all, or one for each. Raises MissingPackageError, and InputError unless there are as many class ids as masks.
    """
    if find_spec("supervision") is None:
        raise MissingPackageError("detections of supervision need that package: pip install supervision")
    import supervision as sv

    answers = [found] if isinstance(found, Masks) else list(found)
    if not answers:
        return sv.Detections.empty()
    data: dict[str, Any] = {}
    records = [each for each in answers if isinstance(each, MaskRecord)]
    if records:
        masks = np.stack([rle.decode(record.rle) for record in records])
        scores = [record.predicted_iou for record in records]
        data["stability_score"] = np.array([record.stability_score for record in records], np.float32)
    else:
        prompts = [each for each in answers if isinstance(each, Masks)]
        masks = np.stack([answer.best for answer in prompts])
        scores = [float(answer.scores[0]) for answer in prompts]
    return sv.Detections(
        xyxy=boxes.from_masks(masks).astype(np.float32),
        mask=masks,
        confidence=np.array(scores, np.float32),
        class_id=_class_ids(class_id, len(masks)),
        data=data,
    )


def _class_ids(class_id: int | Sequence[int] | None, count: int) -> np.ndarray[Any, Any] | None:
    if class_id is None:
        return None
    ids = np.full(count, class_id) if isinstance(class_id, int) else np.asarray(class_id, int)
    if ids.shape != (count,):
        raise InputError(f"there are {ids.size} class ids for {count} masks: give one for each, or one number for all")
    return ids


def boxes_of(result: Any) -> Float[np.ndarray, "n 4"]:
    """Return the boxes (x0, y0, x1, y1), in pixels, of a result of ultralytics or supervision, for `predict_boxes`.

    ultralytics gives a list with one result an image: hand in one of them. Neither package is needed. Raises InputError
    where there are none.
    """
    held = getattr(result, "boxes", result)
    values = getattr(held, "xyxy", None)
    if values is None:
        kind = type(result).__name__
        hint = "; take the result of one image, results[0]" if isinstance(result, list | tuple) else ""
        raise InputError(f"a {kind} has no boxes: results of ultralytics and supervision.Detections have{hint}")
    values = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    found: Float[np.ndarray, "n 4"] = np.asarray(values, np.float32).reshape(-1, 4)
    return found
