"""Candidates to masks: the best first, each computed exactly only if no better mask has clearly suppressed it.

Non-maximum suppression goes by falling predicted IoU, so a candidate that surely overlaps a mask already kept needs no
full-resolution work. The result is that of computing all and suppressing then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from anymask.geometry import arrays, boxes, rle
from anymask.geometry.arrays import Array
from anymask.geometry.crops import Box, uncrop_boxes
from anymask.geometry.frames import Frame
from anymask.geometry.rle import RLE
from anymask.inference.automatic.candidates import Candidate
from anymask.inference.automatic.options import AutomaticOptions
from anymask.inference.automatic.upsampling import BAND_PIXELS, column_bands
from anymask.model import MASK_THRESHOLD

_BYTES_PER_PIXEL = 16
"""What a band holds for each of its pixels: logits, what they are interpolated from, cuts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExactMask:
    """A mask at the original size, in the whole image's frame."""

    rle: RLE
    cuts: tuple[RLE, RLE] | None
    """The masks cut above and below the threshold by the stability's offset; None where nothing will need them."""
    box: Box
    """Box of the mask, xyxy in pixels; all 0 if it is empty."""
    area: int
    predicted_iou: float
    stability: float
    point: tuple[float, float]
    crop: Box


class CropSelection:
    """Gathers the candidates of one crop, within a budget of memory, and selects among them.

    `crop` is the crop's xyxy box in the image of `size` = (height, width).
    """

    def __init__(
        self, frame: Frame, mask_size: int, crop: Box, size: tuple[int, int], options: AutomaticOptions
    ) -> None:
        self._frame, self._mask_size, self._crop, self._size, self._options = frame, mask_size, crop, size, options
        self._gathered: list[Candidate | ExactMask] = []
        self._num_bytes = 0

    def add(self, candidates: Sequence[Candidate]) -> None:
        """Take in candidates; where their logits outgrow the budget all so far become exact masks, which are small."""
        self._gathered.extend(candidates)
        self._num_bytes += sum(candidate.num_bytes for candidate in candidates)
        if self._num_bytes > self._options.memory_limit // 2:
            exact = [self._exact(found) for found in self._gathered]
            self._gathered = [mask for mask in exact if self._passes(mask)]
            self._num_bytes = 0

    def select(self) -> list[ExactMask]:
        """Return the masks to keep, by falling predicted IoU."""
        kept = _Kept(self._options)
        for found in sorted(self._gathered, key=lambda found: -found.predicted_iou):
            if isinstance(found, Candidate) and kept.surely_suppress(found, self._crop):
                continue
            mask = self._exact(found)
            if self._passes(mask) and not kept.suppress(mask):
                kept.add(mask)
        return kept.masks

    def _passes(self, mask: ExactMask) -> bool:
        options, (height, width) = self._options, self._size
        fraction = mask.area / (height * width)
        if mask.area == 0 or (options.max_area_fraction < 1 and fraction >= options.max_area_fraction):
            return False
        if mask.stability < options.thresholds[1]:
            return False
        x0, y0, x1, y1 = mask.box
        left, top = self._crop[:2]
        inclusive = np.array([[x0 - left, y0 - top, x1 - 1 - left, y1 - 1 - top]])
        return not bool(boxes.is_near_crop_edge(inclusive, self._crop, (0, 0, width, height))[0])

    def _exact(self, found: Candidate | ExactMask) -> ExactMask:
        """Compute a candidate at the original size, a band of columns at a time."""
        if isinstance(found, ExactMask):
            return found
        options, (left, top) = self._options, self._crop[:2]
        y0 = found.window.box[1]
        max_pixels = min(BAND_PIXELS, options.memory_limit // (2 * _BYTES_PER_PIXEL))
        with_cuts = options.min_mask_region_area > 0
        parts: tuple[list[rle.RLE], ...] = ([], [], [])
        num_above = num_reaching = 0
        for x, band in column_bands(found.window, self._frame, self._mask_size, max_pixels):
            levels = _levels(band, options.stability_score_offset)
            num_above += int(np.count_nonzero(levels == 3))
            num_reaching += int(np.count_nonzero(levels))
            for part, least in zip(parts if with_cuts else parts[:1], (2, 3, 1), strict=False):
                part.append(rle.encode_at(levels >= least, (left + x, top + y0), self._size))
        mask, *cuts = (part[0] if len(part) == 1 else rle.merge(part) for part in parts if part)
        return ExactMask(
            rle=mask,
            cuts=(cuts[0], cuts[1]) if cuts else None,
            box=corners(mask),
            area=rle.area(mask),
            predicted_iou=found.predicted_iou,
            stability=float(np.float32(num_above) / np.float32(max(num_reaching, 1))),
            point=(found.point[0] + left, found.point[1] + top),
            crop=self._crop,
        )


class _Kept:
    """The masks kept so far, and what they suppress."""

    def __init__(self, options: AutomaticOptions) -> None:
        self.masks: list[ExactMask] = []
        self._by_mask = options.nms == "mask"
        self._threshold = options.box_nms_thresh
        self._boxes: Float[np.ndarray, "n 4"] = np.zeros((0, 4), np.float32)

    def add(self, mask: ExactMask) -> None:
        """Keep a mask."""
        self.masks.append(mask)
        self._boxes = np.concatenate([self._boxes, np.array([mask.box], np.float32)])

    def suppress(self, mask: ExactMask) -> bool:
        """Say whether a mask overlaps a kept one by more than the threshold."""
        if self._by_mask:
            overlaps = rle.pairwise_iou([mask.rle], [kept.rle for kept in self.masks])
        else:
            overlaps = boxes.pairwise_iou(np.array([mask.box], np.float32), self._boxes)
        return bool((overlaps > self._threshold).any())

    def surely_suppress(self, candidate: Candidate, crop: Box) -> bool:
        """Say whether a candidate overlaps a kept mask by more than the threshold, wherever its edges prove to be."""
        if self._by_mask or not self.masks:
            return False
        inner, outer = uncrop_boxes(np.array([candidate.inner, candidate.outer], np.float32), crop)
        low, high = np.maximum(inner[:2], self._boxes[:, :2]), np.minimum(inner[2:], self._boxes[:, 2:])
        shared = np.maximum(high - low, 0).prod(axis=1)
        union = boxes.area(outer) + boxes.area(self._boxes) - shared
        return bool((shared > self._threshold * union).any())


def corners(mask: rle.RLE) -> Box:
    """Return a mask's xyxy box; all 0 if it is empty."""
    x, y, width, height = rle.bbox(mask)
    return x, y, x + width, y + height


def _levels(band: Float[Array, "h c"], offset: float) -> UInt8[np.ndarray, "h c"]:
    """Return how many cuts each pixel exceeds: 1 the lower, 2 the mask's own, 3 the upper.

    One small array comes from the device, however many cuts are needed of it.
    """
    cuts = (MASK_THRESHOLD - offset, MASK_THRESHOLD, MASK_THRESHOLD + offset)
    if isinstance(band, np.ndarray) or band.device.type == "cpu":
        values = arrays.to_numpy(band)
        exceeded: list[Bool[np.ndarray, "h c"]] = [values > cut for cut in cuts]
        return np.asarray(exceeded[0].view(np.uint8) + exceeded[1].view(np.uint8) + exceeded[2].view(np.uint8))
    lower, own, upper = (band > cut for cut in cuts)
    return np.asarray((lower.byte() + own.byte() + upper.byte()).cpu().numpy())
