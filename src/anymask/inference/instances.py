"""Boxes of any detector to masks: each box a prompt, then once more with the mask that it gave (SAM, sec. 7.4)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from anymask.data.images import ImageSource
from anymask.data.json_files import as_number, as_whole, read_json
from anymask.errors import DataError, InputError
from anymask.geometry import boxes as box_geometry
from anymask.geometry import rle
from anymask.inference.answers import EncodedImage, Masks, answer, encode, encode_ahead, read
from anymask.inference.prompts import box_prompts, to_model_all
from anymask.inference.refinement import Refinement
from anymask.inference.runtimes import AnyModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A detector's box for an object."""

    category_id: int
    score: float
    box: tuple[float, float, float, float]
    """(x0, y0, x1, y1) in pixels of the image; it may reach beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A detection's mask."""

    detection: Detection
    rle: rle.RLE
    predicted_iou: float

    def to_coco(self, image_id: int | str) -> dict[str, Any]:
        """Return an entry of COCO's results: the mask, its own box, and the detector's category and score."""
        return {
            "image_id": image_id,
            "category_id": self.detection.category_id,
            "segmentation": self.rle,
            "bbox": list(rle.bbox(self.rle)),
            "score": self.detection.score,
            "predicted_iou": round(self.predicted_iou, 6),
        }


ImageId = int | str


def read_detections(path: str | Path) -> dict[ImageId, list[Detection]]:
    """Read COCO's results, [{image_id, category_id, bbox [x, y, width, height], score}, …], by image in their order.

    `category_id` may be left out (1) and so may `score` (1). Raises DataError, naming the entry, for any other file.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        kind = "an annotation file" if isinstance(entries, dict) and "annotations" in entries else "no list"
        raise DataError(f"{path} is {kind}; COCO's results, a list of boxes, were expected")
    found: dict[ImageId, list[Detection]] = defaultdict(list)
    for number, entry in enumerate(entries):
        image_id, detection = _checked(entry, f"{path}: entry {number}")
        found[image_id].append(detection)
    return dict(found)


def _checked(entry: object, where: str) -> tuple[ImageId, Detection]:
    match entry:
        case {"image_id": int() | str() as image_id, "bbox": [_, _, _, _] as bbox, **rest}:
            category = as_whole(rest.get("category_id", 1))
            given = (*bbox, rest.get("score", 1.0))
            numbers = [as_number(value) for value in given if isinstance(value, int | float)]
            finite = [number for number in numbers if number is not None]
            if category is not None and len(finite) == 5:
                x, y, width, height, score = finite
                box = (x, y, x + width, y + height)
                return image_id, Detection(category_id=category, score=score, box=box)
    shown = json.dumps(entry)[:80]
    raise DataError(f"{where} is no box of COCO's results, with image_id, category_id, bbox and score: {shown}")


def usable(detections: Sequence[Detection], size: tuple[int, int]) -> Bool[np.ndarray, " n"]:
    """Say which boxes have an area within an image of `size` = (height, width)."""
    corners = np.array([d.box for d in detections], np.float64).reshape(-1, 4)
    return np.asarray(box_geometry.area(box_geometry.clip(corners, size)) > 0)


class Instances:
    """Makes masks of detections, images encoded `batch_size` at a time.

    `refinements` is how often a mask is fed back with its box; the paper does so once. The model is left in its mode.
    """

    def __init__(self, model: AnyModel, *, refinements: int = 1, batch_size: int = 4) -> None:
        if refinements < 0 or batch_size < 1:
            raise InputError(f"{refinements} refinements and batches of {batch_size}; give 0 or more, and 1 or more")
        self.model, self.refinements, self.batch_size = model, refinements, batch_size

    def segment(self, image: ImageSource, detections: Sequence[Detection]) -> list[Instance]:
        """Return a mask for each detection of one image that has an area in it, in their order; raises ImageError."""
        pixels = read(self.model, image)
        return self.segment_encoded(encode(self.model, [pixels])[0], detections)

    def segment_many(
        self, images: Iterable[tuple[ImageSource, Sequence[Detection]]]
    ) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], list[Instance]]]:
        """Yield each image's pixels and what `segment` returns for it, in their order.

        While a batch is answered a thread reads the next, so two are held. Raises ImageError when it comes to an image
        that cannot be read, after the masks of all before it.
        """
        for pixels, encoded, boxes in encode_ahead(self.model, images, batch_size=self.batch_size):
            yield pixels, self.segment_encoded(encoded, boxes)

    def segment_encoded(self, image: EncodedImage, detections: Sequence[Detection]) -> list[Instance]:
        """Do as `segment` for an image that is encoded already."""
        return [
            Instance(detection=detection, rle=rle.encode(masks.best), predicted_iou=float(masks.scores[0]))
            for detection, masks in self.answers(image, detections)
        ]

    def answers(self, image: EncodedImage, detections: Sequence[Detection]) -> Iterator[tuple[Detection, Masks]]:
        """Yield each detection that has an area in the image with the model's answer, one mask, in their order."""
        size = image.frame.original
        kept = [d for d, fits in zip(detections, usable(detections, size), strict=True) if fits]
        corners = box_geometry.clip(np.array([d.box for d in kept], np.float64).reshape(-1, 4), size)
        checked = to_model_all(box_prompts(corners), image.frame, self.model.mask_size)
        refinement = Refinement(passes=self.refinements)
        return zip(kept, answer(self.model, image, checked, multimask=False, refinement=refinement), strict=True)
