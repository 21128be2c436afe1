"""Find more like this: a mask or click in one image finds similar regions in others, by embedding, then by prompts.

The features under the mask are pooled to one direction; where another image's features point that way, the model is
asked, and its masks are pooled and compared in turn. Features are taken relative to the mean of the image that the
example is in, as directions from the origin are all alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float

from anymask.data.images import ImageSource
from anymask.errors import InputError, PromptError
from anymask.geometry import arrays, nms, rle
from anymask.inference.answers import EncodedImage, answer, encode, read
from anymask.inference.prompts import Prompt, binary_mask, to_model, to_model_all
from anymask.inference.refinement import PLAIN, Refinement
from anymask.inference.runtimes import AnyModel

_PLACES_PER_SIDE = 24
"""Places that are asked about lie at least this fraction of the long side apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarOptions:
    """How many regions are asked about, and which answers are kept."""

    max_prompts: int = 48
    """Points asked on an image: the places that are most like the example."""
    min_similarity: float = 0.5
    """Cosine of the angle between a region's features and the example's, below which it is no match."""
    min_iou: float = 0.5
    """Masks of a predicted IoU below this are dropped."""
    nms: float = 0.6
    """Of two masks that overlap by more than this IoU the less similar one is dropped."""
    max_results: int = 20

    def __post_init__(self) -> None:
        """Reject invalid values."""
        if min(self.max_prompts, self.max_results) < 1:
            raise InputError(f"{self.max_prompts} prompts, {self.max_results} results: give at least 1 of each")
        if not -1 <= self.min_similarity <= 1 or not 0 <= self.min_iou <= 1 or not 0 <= self.nms <= 1:
            raise InputError("min_similarity must lie from -1 to 1, min_iou and nms from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarRegion:
    """A region that is like the example."""

    rle: rle.RLE
    similarity: float
    predicted_iou: float
    point: tuple[int, int]
    """The (x, y) pixel that was asked about."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchExample:
    """What to look for: a direction in feature space, seen from a mean."""

    direction: Float[np.ndarray, " c"]
    mean: Float[np.ndarray, " c"]
    mask: Bool[np.ndarray, "h w"]
    """Mask of the example, in its own image."""


class Similar:
    """Searches images for what is like an example; the model is left in its mode."""

    def __init__(self, model: AnyModel, options: SimilarOptions | None = None) -> None:
        self.model, self.options = model, options or SimilarOptions()

    def example(self, image: ImageSource, prompt: Prompt) -> SearchExample:
        """Take a region as an example; a lone binary mask of the image's size is taken as it is, all else is asked.

        Raises ImageError, or PromptError where the prompt cannot be answered or its mask is empty.
        """
        encoded = encode(self.model, [read(self.model, image)])[0]
        frame, mask = encoded.frame, None
        if prompt.mask is not None and all(part is None for part in (prompt.points, prompt.box, prompt.text)):
            mask = binary_mask(prompt.mask, frame.original, self.model.mask_size)
        if mask is None:
            checked = to_model(prompt, frame, self.model.mask_size)
            mask = next(answer(self.model, encoded, [checked], multimask=None, refinement=Refinement())).best
        return self.example_of(encoded, mask)

    def example_of(self, image: EncodedImage, mask: Bool[np.ndarray, "h w"]) -> SearchExample:
        """Take a mask of an encoded image as an example, as it is; raises PromptError for an empty one."""
        if not mask.any():
            raise PromptError("the example's mask is empty")
        features = _features(image)
        mean = features.mean(axis=(1, 2))
        return SearchExample(direction=_pooled(features - mean[:, None, None], mask), mean=mean, mask=mask)

    def find(self, image: ImageSource, example: SearchExample) -> list[SimilarRegion]:
        """Return the regions of an image that are like the example, the most similar first; raises ImageError."""
        return self.find_encoded(encode(self.model, [read(self.model, image)])[0], example)

    def find_encoded(self, encoded: EncodedImage, example: SearchExample) -> list[SimilarRegion]:
        """Do the same where the image is encoded already."""
        options = self.options
        features = _features(encoded) - example.mean[:, None, None]
        points = _peaks(_similarity(features, example.direction), encoded.frame.original, options)
        prompts = to_model_all([Prompt(points=[point]) for point in points], encoded.frame, self.model.mask_size)
        found: list[SimilarRegion] = []
        answers = answer(self.model, encoded, prompts, multimask=True, refinement=PLAIN)
        for point, masks in zip(points, answers, strict=True):
            for mask, score in zip(masks.masks, masks.scores.tolist(), strict=True):
                if score < options.min_iou or not mask.any():
                    continue
                similarity = float(_pooled(features, mask) @ example.direction)
                if similarity >= options.min_similarity:
                    found.append(
                        SimilarRegion(rle=rle.encode(mask), similarity=similarity, predicted_iou=score, point=point)
                    )
        ranks = np.array([region.similarity * region.predicted_iou for region in found])
        kept = nms.mask_nms([region.rle for region in found], ranks, options.nms)
        chosen = sorted((found[index] for index in kept.tolist()), key=lambda region: -region.similarity)
        return chosen[: options.max_results]


def prototype(examples: Sequence[SearchExample]) -> SearchExample:
    """Return what several examples of one class have in common: the mean of their directions, and of their means.

    Its mask is the first example's. Raises InputError without examples.
    """
    if not examples:
        raise InputError("a prototype needs examples: give at least one")
    direction = np.mean([each.direction for each in examples], axis=0)
    return SearchExample(
        direction=np.asarray(direction / max(float(np.linalg.norm(direction)), 1e-12)),
        mean=np.asarray(np.mean([each.mean for each in examples], axis=0)),
        mask=examples[0].mask,
    )


def _features(image: EncodedImage) -> Float[np.ndarray, "c h w"]:
    """Return the part of an embedding that is the image and not its padding."""
    features = arrays.to_numpy(arrays.float32(image.embedding.features[0]))
    side, frame = features.shape[-1], image.frame
    rows, columns = (max(1, round(side * length / frame.model_size)) for length in frame.resized)
    return np.asarray(features[:, :rows, :columns])


def _pooled(features: Float[np.ndarray, "c h w"], mask: Bool[np.ndarray, "hi wi"]) -> Float[np.ndarray, " c"]:
    """Return the direction of the mean feature under a mask, each place weighing what the mask covers of it."""
    size = (features.shape[2], features.shape[1])
    cover = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    pooled = (features * cover).sum(axis=(1, 2))
    return np.asarray(pooled / max(float(np.linalg.norm(pooled)), 1e-12))


def _similarity(features: Float[np.ndarray, "c h w"], direction: Float[np.ndarray, " c"]) -> Float[np.ndarray, "h w"]:
    length = np.maximum(np.linalg.norm(features, axis=0), 1e-12)
    return np.asarray(np.tensordot(direction, features, axes=1) / length)


def _peaks(
    similarity: Float[np.ndarray, "h w"], size: tuple[int, int], options: SimilarOptions
) -> list[tuple[int, int]]:
    """Return the (x, y) pixels of the most similar places, none of them close to another."""
    smooth = cv2.GaussianBlur(similarity.astype(np.float32), (3, 3), 0)
    apart = max(similarity.shape) / _PLACES_PER_SIDE
    rows, columns = np.nonzero(smooth >= options.min_similarity / 2)
    order = np.argsort(-smooth[rows, columns], kind="stable")
    left = np.stack([rows[order], columns[order]], axis=1)
    chosen: list[tuple[int, int]] = []
    while len(left) and len(chosen) < options.max_prompts:
        row, column = left[0].tolist()
        x = int((column + 0.5) * size[1] / similarity.shape[1])
        y = int((row + 0.5) * size[0] / similarity.shape[0])
        chosen.append((min(x, size[1] - 1), min(y, size[0] - 1)))
        left = left[np.abs(left - left[0]).max(axis=1) >= apart]
    return chosen
