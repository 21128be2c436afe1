"""Edges of what a model takes for objects: where the probabilities of its masks fall off (SAM, sec. 7.2, app. D.2).

A grid of points is asked, three masks each; of masks that are nearly one the best stays, and none is filtered out. The
strength of an edge is that of Sobel's filter on a mask's probabilities, the largest over masks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from anymask.data.images import ImageSource
from anymask.errors import InputError
from anymask.geometry import arrays, nms, points, rle
from anymask.geometry.edges import thin_ridges
from anymask.inference.answers import EncodedImage, encode, evaluating, read
from anymask.inference.automatic.candidates import Candidate, find_candidates
from anymask.inference.automatic.options import AutomaticOptions
from anymask.inference.automatic.upsampling import column_bands, num_samples
from anymask.inference.runtimes import AnyModel
from anymask.model import MASK_THRESHOLD

_FALL = 4.0
"""Logits below the threshold down to which a mask's surroundings are looked at: a probability of 2 %."""
_MARGIN = 3
"""Pixels around a mask that its outer edge and Sobel's filter reach, and one more."""
_BAND_PIXELS = 1 << 22
_AROUND = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeOptions:
    """How edges are found; as the paper does by default."""

    points_per_side: int = 16
    pred_iou_thresh: float | None = 0.0
    """Masks of a predicted IoU up to this are left out; 0 leaves out none, None takes the model's own."""
    stability_score_thresh: float | None = 0.0
    """The same for the stability, at low resolution and at logits ±4."""
    nms_thresh: float = 0.7
    """Of two masks with a larger IoU, that of the lower predicted IoU is left out."""
    thin: bool = True
    """Whether only the crests of the edges are kept."""

    def __post_init__(self) -> None:
        """Reject invalid values."""
        if self.points_per_side < 1:
            raise InputError(f"points_per_side is {self.points_per_side}; give 1 or more")
        if not 0 <= self.nms_thresh <= 1:
            raise InputError(f"nms_thresh is {self.nms_thresh}; give an IoU from 0 to 1")


class Edges:
    """Finds the edges in an image, without prompts.

    The model runs in evaluation mode, where it is, and is left in the mode that it came in.
    """

    def __init__(self, model: AnyModel, options: EdgeOptions | None = None) -> None:
        self.model = model
        self.options = options or EdgeOptions()
        asking = AutomaticOptions(
            pred_iou_thresh=self.options.pred_iou_thresh,
            stability_score_thresh=self.options.stability_score_thresh,
            stability_score_offset=_FALL,
        )
        self._asking = asking.for_model(model.config)

    def detect(self, image: ImageSource) -> Float[np.ndarray, "h w"]:
        """Return the strength of the edge at each pixel of the image, float32: 0 none, 1 the strongest there is.

        All 0 where there is no mask. Raises ImageError.
        """
        return self.detect_encoded(encode(self.model, [read(self.model, image)])[0])

    def detect_encoded(self, image: EncodedImage) -> Float[np.ndarray, "h w"]:
        """Do the same for an image that is encoded."""
        grid = points.grid(self.options.points_per_side).astype(np.float64)
        strength = np.zeros(image.frame.original, np.float32)
        with evaluating(self.model):
            found = [c for batch in find_candidates(self.model, image, grid, self._asking) for c in batch]
            for candidate in self._distinct(found, num_samples(image.frame, self.model.mask_size)):
                self._draw(candidate, image, strength)
        strongest = strength.max(initial=0)
        if strongest > 0:
            strength /= strongest
        return thin_ridges(strength) if self.options.thin else strength

    def _distinct(self, found: list[Candidate], samples: tuple[int, int]) -> Iterable[Candidate]:
        """Return the masks that no better one overlaps too much, as far as samples of low resolution tell."""
        if not found:
            return []
        masks = [
            rle.encode_at(arrays.to_numpy(c.window.logits > MASK_THRESHOLD), c.window.origin, samples) for c in found
        ]
        scores = np.array([c.predicted_iou for c in found])
        return [found[index] for index in nms.mask_nms(masks, scores, self.options.nms_thresh)]

    def _draw(self, candidate: Candidate, image: EncodedImage, strength: Float[np.ndarray, "h w"]) -> None:
        """Raise the strength to that of a mask's edge, where it is larger."""
        height, width = image.frame.original
        x0, y0, x1, y1 = candidate.window.box
        box = (max(x0 - _MARGIN, 0), max(y0 - _MARGIN, 0), min(x1 + _MARGIN, width), min(y1 + _MARGIN, height))
        # Masks end where padding begins: samples that have any of it are left out, and the last ones repeated instead.
        whole = np.floor(np.multiply(image.frame.resized, self.model.mask_size / image.frame.model_size)).astype(int)
        left, top = candidate.window.origin
        seen = candidate.window.logits[: max(int(whole[0]) - top, 1), : max(int(whole[1]) - left, 1)]
        window = dataclasses.replace(candidate.window, logits=seen, box=box)
        bands = column_bands(window, image.frame, self.model.mask_size, _BAND_PIXELS)
        logits = np.concatenate([arrays.to_numpy(band) for _, band in bands], 1)
        part = strength[box[1] : box[3], box[0] : box[2]]
        edge = mask_edge(1 / (1 + np.exp(MASK_THRESHOLD - logits)))
        np.maximum(part, edge, out=part)


def mask_edge(probability: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return the strength of Sobel's filter on a mask's probabilities at the pixels on either side of its edge.

    0 elsewhere. Where the mask ends at the array's border there is no edge: that is where the image ends. *Decision:*
    the paper keeps the filter's values where they "intersect" the outer boundary; both sides are kept here, so that
    the crest is not cut off.
    """
    inside = (probability > 0.5).astype(np.uint8)
    on_edge: Bool[np.ndarray, "h w"] = cv2.dilate(inside, _AROUND) != cv2.erode(inside, _AROUND)
    x, y = (cv2.Sobel(probability, cv2.CV_32F, dx, 1 - dx, borderType=cv2.BORDER_REPLICATE) for dx in (1, 0))
    return np.where(on_edge, np.hypot(x, y), np.float32(0))


def to_grey(strength: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return strengths from 0 to 1 as grey values from 0 to 255."""
    return np.asarray(np.rint(np.clip(strength, 0, 1) * 255), np.uint8)
