"""Exemplar prompting: masks of things are examples, and an image's regions that are like them are found.

An example is the mean of an embedding under a mask. The image is asked at a grid as fine as the examples are small; of
the masks that the model is sure of, those stay whose own means are near to an example's. How near is measured against
how far the places of the example's image lie from each other, and how sure against how sure the model is of the
example itself, so that both mean the same whatever the model and the things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from anymask.data.images import ImageSource
from anymask.errors import InputError, PromptError
from anymask.geometry import arrays, rle
from anymask.geometry.rle import RLE
from anymask.inference.answers import EncodedImage, answer, encode, read
from anymask.inference.automatic.masks import AutomaticMasks, MaskRecord
from anymask.inference.automatic.options import AutomaticOptions
from anymask.inference.prompts import Prompt, binary_mask, to_model
from anymask.inference.refinement import Refinement
from anymask.inference.runtimes import AnyModel

_POINTS_PER_SIDE = (32, 48)
"""Fewest and most points along the image's long side."""
_POINTS_PER_THING = 3
"""Points along a side of the smallest example."""
_AREA_RATIO = 20.0
"""A region that is so many times larger or smaller than an example, as shares of their images, is not like it."""
_LIKE = 0.5
"""An answer that overlaps the example by this IoU is like it."""
_DUPLICATE = 0.9
"""Boxes that overlap by more than this IoU are of one answer, before regions are compared."""
_SLACK = 0.15
"""Places that are less like the examples than a region must be by more than this are not asked about."""
_NEARNESS = 3.0
_ASKED_OF_EXAMPLE = 9
"""Points asked in an example, for how sure the model is of it."""
_AS_SURE = (0.92, 0.93)
"""Predicted IoU and stability of a region, as shares of the example's."""
_LEAST_IOU = 0.35
"""No predicted IoU below this counts as sure, whatever the example's is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarOptions:
    """How many regions are asked about, and which answers are kept."""

    max_prompts: int = 1536
    """Points asked on an image: where there would be more, the places that are most like an example."""
    min_similarity: float = 0.4
    """Regions that are less like the examples than this are no match (`SimilarRegion.similarity`)."""
    min_iou: float | None = None
    """Masks of a predicted IoU below this are dropped; None takes the model's own threshold for masks of everything,
    or less where the model is less sure of the examples."""
    min_stability: float | None = None
    """The same for stability."""
    nms: float = 0.4
    """Of two masks that overlap by more than this IoU the one that ranks lower is dropped."""
    containment: float = 0.7
    """So is one of two masks if this share of the smaller one lies in the other."""
    max_results: int = 200

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if min(self.max_prompts, self.max_results) < 1:
            raise InputError(f"{self.max_prompts} prompts, {self.max_results} results: give at least 1 of each")
        shares = [self.nms, self.containment, *(v for v in (self.min_iou, self.min_stability) if v is not None)]
        if not -1 <= self.min_similarity <= 1 or not all(0 <= share <= 1 for share in shares):
            raise InputError(
                "min_similarity must lie from -1 to 1; min_iou, min_stability, nms and containment from 0 to 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarRegion:
    """A region that is like an example."""

    rle: RLE
    similarity: float
    """1 where its mean feature is the example's, 0 where it is as far from it as places of an image are on average."""
    predicted_iou: float
    point: tuple[int, int]
    """The (x, y) pixel that was asked about."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchExample:
    """What to look for: a place in feature space, and how far places of its image lie apart there."""

    feature: Float[np.ndarray, " c"]
    spread: float
    """Twice the features' variance over the image: the mean squared distance of two of its places."""
    sureness: tuple[float, float] | None
    """Predicted IoU and stability of the model's own answer for the example; None where it gives none like it."""
    share: float
    """Share of its image that the example covers."""
    mask: Bool[np.ndarray, "h w"]
    """Mask of the example, in its own image."""


class Similar:
    """Searches images for what is like examples; the model is left in its mode."""

    def __init__(self, model: AnyModel, options: SimilarOptions | None = None) -> None:
        self.model, self.options = model, options or SimilarOptions()

    def example(self, image: ImageSource, prompt: Prompt) -> SearchExample:
        """Take a region as an example; a lone binary mask of the image's size is taken as it is, all else is asked.

        Raises ImageError, or PromptError where the prompt cannot be answered or its mask is empty.
        """
        return self.example_of(encode(self.model, [read(self.model, image)])[0], prompt)

    def example_of(self, encoded: EncodedImage, prompt: Prompt) -> SearchExample:
        """Take a region of an encoded image as an example, as `example` does."""
        frame, mask = encoded.frame, None
        if prompt.mask is not None and all(part is None for part in (prompt.points, prompt.box, prompt.text)):
            mask = binary_mask(prompt.mask, frame.original, self.model.mask_size)
        if mask is None:
            checked = to_model(prompt, frame, self.model.mask_size)
            mask = next(answer(self.model, encoded, [checked], multimask=None, refinement=Refinement())).best
        if not mask.any():
            raise PromptError("the example's mask is empty")
        features = _features(encoded)
        spread = 2 * float(features.var(axis=(1, 2)).sum())
        return SearchExample(
            feature=_pooled(features, mask),
            spread=max(spread, 1e-12),
            sureness=self._sureness(encoded, mask),
            share=float(mask.mean()),
            mask=mask,
        )

    def _sureness(self, encoded: EncodedImage, mask: Bool[np.ndarray, "h w"]) -> tuple[float, float] | None:
        """Ask at points in a mask; return how sure the model is of the answers that are like it."""
        inside = np.argwhere(mask)
        chosen = inside[np.linspace(0, len(inside) - 1, _ASKED_OF_EXAMPLE + 2).astype(np.int64)[1:-1]]
        grid = (chosen[:, ::-1] + 0.5) / np.array(mask.shape[::-1])
        asking = AutomaticOptions(
            points_per_side=None, point_grids=[grid], pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1
        )
        records = AutomaticMasks(self.model, asking).of_encoded(encoded)
        if not records:
            return None
        overlaps = rle.pairwise_iou([rle.encode(mask)], [record.rle for record in records])[0]
        if overlaps.max() < _LIKE:
            return None
        near = [records[index] for index in np.flatnonzero(overlaps >= 0.9 * overlaps.max()).tolist()]
        return max(record.predicted_iou for record in near), max(record.stability_score for record in near)

    def _asking(self, grid: Float[np.ndarray, "n 2"], examples: Sequence[SearchExample]) -> AutomaticOptions:
        """Return how a grid is asked, and how sure answers must be."""
        options, config = self.options, self.model.config
        known = [each.sureness for each in examples if each.sureness is not None]
        least_iou, least_stability = config.pred_iou_thresh, config.stability_score_thresh
        if known:
            least_iou = min(least_iou, max(_LEAST_IOU, _AS_SURE[0] * min(iou for iou, _ in known)))
            least_stability = min(least_stability, _AS_SURE[1] * min(stability for _, stability in known))
        return AutomaticOptions(
            points_per_side=None,
            point_grids=[grid],
            pred_iou_thresh=least_iou if options.min_iou is None else options.min_iou,
            stability_score_thresh=least_stability if options.min_stability is None else options.min_stability,
            box_nms_thresh=_DUPLICATE,
        )

    def find(self, image: ImageSource, example: SearchExample | Sequence[SearchExample]) -> list[SimilarRegion]:
        """Return the regions of an image that are like an example, or any of several, the most similar first.

        Raises ImageError, or PromptError without an example.
        """
        return self.find_in(encode(self.model, [read(self.model, image)])[0], example)

    def find_in(
        self,
        encoded: EncodedImage,
        example: SearchExample | Sequence[SearchExample],
        *,
        taken: Sequence[RLE] = (),
    ) -> list[SimilarRegion]:
        """Return the regions of an encoded image that are like an example, or any of several, as `find` does.

        Regions that `taken` masks, of the image's size, overlap are left out. Raises PromptError without an example.
        """
        examples = [example] if isinstance(example, SearchExample) else list(example)
        if not examples:
            raise PromptError("there is no example of what to look for: give at least one")
        options, features = self.options, _features(encoded)
        grid = self._grid(encoded, features, examples)
        if not len(grid):
            return []
        records = AutomaticMasks(self.model, self._asking(grid, examples)).of_encoded(encoded)
        found = [
            SimilarRegion(
                rle=record.rle,
                similarity=similarity,
                predicted_iou=record.predicted_iou,
                point=(int(record.point_coords[0][0]), int(record.point_coords[0][1])),
            )
            for record, similarity in zip(records, _likeness(records, features, examples), strict=True)
        ]
        like = [index for index, region in enumerate(found) if region.similarity >= options.min_similarity]
        ranks = [_rank(found[index], records[index].stability_score) for index in like]
        ordered = [like[place] for place in np.argsort(-np.array(ranks), kind="stable").tolist()]
        kept = _apart([found[index] for index in ordered], taken, options)
        return sorted(kept, key=lambda region: -region.similarity)[: options.max_results]

    def _grid(
        self, encoded: EncodedImage, features: Float[np.ndarray, "c h w"], examples: Sequence[SearchExample]
    ) -> Float[np.ndarray, "n 2"]:
        """Return points of the unit square, as far apart as a third of the smallest example's side, where it may be."""
        height, width = encoded.frame.original
        side = min(float(np.sqrt(each.share * height * width)) for each in examples)
        fewest, most = _POINTS_PER_SIDE
        along = max(fewest, min(most, round(_POINTS_PER_THING * max(height, width) / side)))
        rows, columns = (max(1, round(along * length / max(height, width))) for length in (height, width))
        x, y = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
        grid = np.stack([x.ravel(), y.ravel()], axis=1)
        at = (grid * features.shape[:0:-1]).astype(np.int64)
        places = cv2.blur(features.transpose(1, 2, 0), (3, 3))[at[:, 1], at[:, 0]]
        likeness = np.max([_similarity(places, each) for each in examples], axis=0)
        order = np.argsort(-likeness, kind="stable")[: self.options.max_prompts]
        return np.asarray(grid[np.sort(order[likeness[order] >= self.options.min_similarity - _SLACK])])


def _similarity(features: Float[np.ndarray, "n c"], example: SearchExample) -> Float[np.ndarray, " n"]:
    distance = ((features - example.feature) ** 2).sum(axis=1)
    return np.asarray(1 - distance / example.spread)


def _likeness(
    records: Sequence[MaskRecord], features: Float[np.ndarray, "c h w"], examples: Sequence[SearchExample]
) -> list[float]:
    """Return how like each mask is to the example that it is most like, of those of about its size; -inf for none."""
    if not records:
        return []
    masks = (rle.decode(record.rle) for record in records)
    pooled = np.stack([_pooled(features, mask) for mask in masks])
    shares = np.array([record.area / np.prod(record.rle["size"]) for record in records])
    best = np.full(len(records), -np.inf)
    for example in examples:
        is_sized = np.abs(np.log(shares / example.share)) <= np.log(_AREA_RATIO)
        best = np.maximum(best, np.where(is_sized, _similarity(pooled, example), -np.inf))
    likeness: list[float] = best.tolist()
    return likeness


def _rank(region: SimilarRegion, stability: float) -> float:
    """Return by what overlapping masks are chosen among: how sure the model is counts, and how like they are."""
    nearness = float(np.exp(_NEARNESS * (region.similarity - 1)))
    return nearness * max(region.predicted_iou, 0.0) ** 3 * stability**2


def _apart(regions: Sequence[SimilarRegion], taken: Sequence[RLE], options: SimilarOptions) -> list[SimilarRegion]:
    """Return the regions that overlap no taken mask and none before them, given by falling rank."""
    masks = [*taken, *(region.rle for region in regions)]
    areas = np.array([rle.area(mask) for mask in masks], np.float64)
    free = np.ones(len(masks), bool)
    kept: list[SimilarRegion] = []
    for index, mask in enumerate(masks):
        if not free[index]:
            continue
        if index >= len(taken):
            kept.append(regions[index - len(taken)])
        rest = max(index + 1, len(taken))
        later: Int[np.ndarray, " k"] = rest + np.flatnonzero(free[rest:])
        iou = rle.pairwise_iou([mask], [masks[other] for other in later.tolist()])[0]
        inside = iou * (areas[index] + areas[later]) / (1 + iou) / np.maximum(np.minimum(areas[index], areas[later]), 1)
        free[later[(iou > options.nms) | (inside > options.containment)]] = False
    return kept


def _features(image: EncodedImage) -> Float[np.ndarray, "c h w"]:
    """Return the part of an embedding that is the image and not its padding."""
    features = arrays.to_numpy(arrays.float32(image.embedding.features[0]))
    side, frame = features.shape[-1], image.frame
    rows, columns = (max(1, round(side * length / frame.model_size)) for length in frame.resized)
    return np.asarray(features[:, :rows, :columns])


def _pooled(features: Float[np.ndarray, "c h w"], mask: Bool[np.ndarray, "hi wi"]) -> Float[np.ndarray, " c"]:
    """Return the mean feature under a mask, each place weighing what the mask covers of it."""
    size = (features.shape[2], features.shape[1])
    cover = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(np.tensordot(features, cover, axes=2) / max(float(cover.sum()), 1e-12))
