"""Masks of everything in an image: a grid of points asked, good answers kept, duplicates dropped (SAM, app. B)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from anymask.data.images import ImageSource
from anymask.data.writers.sa1b import annotation
from anymask.errors import ImageError, InputError
from anymask.geometry import boxes, crops, nms, rle, run_regions
from anymask.geometry.crops import Crop
from anymask.geometry.rle import RLE
from anymask.inference.answers import EncodedImage, encode, encode_ahead, evaluating, read
from anymask.inference.automatic.candidates import find_candidates
from anymask.inference.automatic.options import AutomaticOptions
from anymask.inference.automatic.selection import CropSelection, ExactMask, corners
from anymask.inference.runtimes import AnyModel


class AutomaticMasks:
    """Makes masks of everything in an image, without prompts.

    The model runs in evaluation mode, where it is, and is left in the mode that it came in. `overrides` replace single
    options. Raises InputError for invalid options.
    """

    def __init__(self, model: AnyModel, options: AutomaticOptions | None = None, **overrides: Any) -> None:
        self.model = model
        self.options = (options or AutomaticOptions()).replace(**overrides).for_model(model.config)

    def generate(self, image: ImageSource) -> list[MaskRecord]:
        """Return the masks of one image: within a crop by falling predicted IoU, smaller crops first.

        An empty list where none is confident. Raises ImageError.
        """
        pixels = read(self.model, image)
        return self._records(pixels, encode(self.model, [pixels])[0])

    def generate_many(self, images: Iterable[ImageSource], *, batch_size: int = 4) -> Iterator[list[MaskRecord]]:
        """Yield what `generate` returns for each image, in their order.

        `batch_size` images are encoded in one call, while a thread reads as many of the next; so twice as many are
        held. Raises ImageError when it comes to an image that cannot be read, after the masks of all before it.
        """
        if batch_size < 1:
            raise ImageError(f"batch_size is {batch_size}; at least 1 image must be encoded at a time")
        for pixels, encoded, _ in encode_ahead(self.model, ((image, None) for image in images), batch_size=batch_size):
            yield self._records(pixels, encoded)

    def of_encoded(self, encoded: EncodedImage) -> list[MaskRecord]:
        """Return what `generate` returns for an image that was encoded before; raises InputError with layers of crops.

        Crops are encoded by themselves, from pixels.
        """
        if self.options.crop_n_layers:
            raise InputError(f"crop_n_layers is {self.options.crop_n_layers}; an encoded image has no crops: give 0")
        return self._records(np.empty((*encoded.frame.original, 0), np.uint8), encoded)

    def _records(self, pixels: UInt8[np.ndarray, "h w _"], encoded: EncodedImage) -> list[MaskRecord]:
        options, size = self.options, (pixels.shape[0], pixels.shape[1])
        grids = options.grids()
        parts = crops.layered(size, options.crop_n_layers, options.crop_overlap_ratio)
        found: list[ExactMask] = []
        with evaluating(self.model):
            for part in parts:
                if part.layer > 0:
                    x0, y0, x1, y1 = part.box
                    encoded = encode(self.model, [pixels[y0:y1, x0:x1]])[0]
                found += self._masks_of_crop(part, encoded, grids[part.layer], size)
        if len(parts) > 1:
            # The smaller the crop, the better its masks: it was seen at a larger scale.
            scores = 1 / boxes.area(np.array([mask.crop for mask in found], np.int64).reshape(-1, 4))
            found = _suppressed(found, scores, options.crop_nms_thresh, options)
        if options.min_mask_region_area > 0:
            found = _cleaned(found, options)
        return [_record(mask) for mask in found]

    def _masks_of_crop(
        self,
        part: Crop,
        encoded: EncodedImage,
        grid: np.ndarray[Any, np.dtype[np.floating[Any]]],
        size: tuple[int, int],
    ) -> list[ExactMask]:
        selection = CropSelection(encoded.frame, self.model.mask_size, part.box, size, self.options)
        for candidates in find_candidates(self.model, encoded, grid.astype(np.float64), self.options):
            selection.add(candidates)
        return selection.select()


def _suppressed(
    masks: Sequence[ExactMask], scores: np.ndarray[Any, np.dtype[Any]], threshold: float, options: AutomaticOptions
) -> list[ExactMask]:
    """Return the masks that no mask of a higher score overlaps by more than the threshold, by falling score."""
    if options.nms == "mask":
        kept = nms.mask_nms([mask.rle for mask in masks], scores, threshold)
    else:
        kept = nms.box_nms(np.array([mask.box for mask in masks], np.float32).reshape(-1, 4), scores, threshold)
    return [masks[index] for index in kept]


def _cleaned(masks: Sequence[ExactMask], options: AutomaticOptions) -> list[ExactMask]:
    """Remove small islands and holes; of masks that are duplicates now, those that needed no change stay.

    A changed mask gets a new box, area and stability: the IoU of its two cuts, cleaned likewise.
    """
    results, unchanged = [], []
    for mask in masks:
        cleaned, changed = run_regions.clean(mask.rle, options.min_mask_region_area)
        unchanged.append(not changed)
        if changed:
            assert mask.cuts is not None
            upper, lower = (run_regions.clean(cut, options.min_mask_region_area)[0] for cut in mask.cuts)
            mask = dataclasses.replace(
                mask,
                rle=cleaned,
                box=corners(cleaned),
                area=rle.area(cleaned),
                stability=float(rle.pairwise_iou([upper], [lower])[0, 0]),
            )
        results.append(mask)
    threshold = max(options.box_nms_thresh, options.crop_nms_thresh)
    return _suppressed(results, np.array(unchanged, np.float64), threshold, options)


def _record(mask: ExactMask) -> MaskRecord:
    (x0, y0, x1, y1), (left, top, right, bottom) = mask.box, mask.crop
    return MaskRecord(
        rle=mask.rle,
        bbox=(x0, y0, x1 - x0, y1 - y0),
        area=mask.area,
        predicted_iou=mask.predicted_iou,
        stability_score=mask.stability,
        point_coords=(mask.point,),
        crop_box=(left, top, right - left, bottom - top),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRecord:
    """One mask in the original image's frame, with SA-1B's fields."""

    rle: RLE
    bbox: tuple[int, int, int, int]
    """(x, y, width, height) as COCO counts: the mask's last column is x + width - 1."""
    area: int
    predicted_iou: float
    stability_score: float
    point_coords: tuple[tuple[float, float], ...]
    """The (x, y) that the model was asked about."""
    crop_box: tuple[int, int, int, int]
    """(x, y, width, height) of the part of the image that the model saw."""


def sa1b_annotation(
    index: int, record: MaskRecord, *, level: int | None = None, parent: int | None = None
) -> dict[str, Any]:
    """Return a record as SA-1B has it, its numbers rounded to what they are worth."""
    return annotation(
        index,
        record.rle,
        bbox=record.bbox,
        area=record.area,
        predicted_iou=round(record.predicted_iou, 6),
        stability_score=round(record.stability_score, 6),
        crop_box=record.crop_box,
        point_coords=[(round(x, 3), round(y, 3)) for x, y in record.point_coords],
        level=level,
        parent=parent,
    )
