"""What is known of masks before they are judged: the embedding under, around and along each, and the model's own word.

The embedding's part is the ranker's extractor (`anymask.model.mask_features`), asked at every resolution that the model
has of an image. The model's word is its answer to a mask's own box: a mask that shows an object comes back, one that
cuts through several does not. The other masks of the image say what a mask repeats, holds, or is a part of.

Legend: N masks, R regions, C channels, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anymask.geometry import rle
from anymask.geometry.masks import stability_score_torch
from anymask.geometry.rle import RLE
from anymask.inference.answers import EncodedImage, chunk_size, evaluating
from anymask.inference.prompts import Prompt, join, to_model
from anymask.inference.resize import mask_to_logits
from anymask.inference.runtimes import runtime_of
from anymask.model import Sam
from anymask.model.mask_features import MEASURES, REGIONS, mask_features

CANDIDATES = ("clear", "ambiguous 1", "ambiguous 2", "ambiguous 3")
"""The decoder's answers to a box: all four."""
ECHO = ("IoU with the mask", "share of the mask", "share of the answer", "predicted IoU", "stability")
"""What is said of each candidate."""
NEIGHBOURS = ("IoU", "share of the mask in another", "share of another in the mask", "share of it in all others")
"""What is said of the other masks of the image: the largest of each, and the mask's share that any other covers."""
IOU_PLACE = ECHO.index("predicted IoU")


def width(model: Sam) -> tuple[int, int]:
    """Return how many numbers of a mask are means of embeddings, and how many are measures."""
    shapes = model.embedding_shapes()
    levels = [shape for name, shape in shapes.items() if name != "hq"]
    means = sum(len(REGIONS) * channels for channels, _, _ in levels)
    return means, len(levels) * len(MEASURES) + len(CANDIDATES) * len(ECHO) + len(NEIGHBOURS)


def describe(model: Sam, image: EncodedImage, masks: Sequence[RLE], others: Sequence[RLE] = ()) -> Float[Tensor, "n f"]:
    """Return the features of masks of an encoded image: `width` means, then as many measures; float32, on the CPU.

    Each mask's neighbours are the other `masks` and `others`; where those are the same mask they count all the same.
    Raises InputError for an empty mask, which shows nothing that could be judged.
    """
    if not masks:
        return torch.zeros(0, sum(width(model)))
    logits = torch.from_numpy(np.stack([_low_resolution(model, image, each) for each in masks]))
    cells = logits > 0
    boxes = np.array([rle.bbox(each) for each in masks], np.float64)
    boxes[:, 2:] += boxes[:, :2]
    near = _neighbours(cells, torch.from_numpy(_stacked(model, image, others)))
    found = []
    for start in range(0, len(masks), chunk_size(model)):
        part = slice(start, start + chunk_size(model))
        means, measures = _pooled(model, image, logits[part])
        echo = _echo(model, image, boxes[part], cells[part])
        found.append(torch.cat([means, measures, echo, near[part]], 1))
    return torch.cat(found)


def predicted_iou(measures: Float[Tensor, "n k"]) -> Float[np.ndarray, " n"]:
    """Return the predicted IoU of the model's clear answer to each mask's box, from the measures of `describe`."""
    place = measures.shape[1] - len(NEIGHBOURS) - len(CANDIDATES) * len(ECHO) + IOU_PLACE
    return np.asarray(measures[:, place].numpy())


def _levels(model: Sam) -> list[str]:
    return [name for name in model.embedding_shapes() if name != "hq"]


def _low_resolution(model: Sam, image: EncodedImage, mask: RLE) -> Float[np.ndarray, "hm wm"]:
    return mask_to_logits(rle.decode(mask), image.frame, model.mask_size)


def _stacked(model: Sam, image: EncodedImage, masks: Sequence[RLE]) -> Bool[np.ndarray, "n hm wm"]:
    side = model.mask_size
    return np.array([_low_resolution(model, image, each) > 0 for each in masks], bool).reshape(-1, side, side)


def _pooled(
    model: Sam, image: EncodedImage, logits: Float[Tensor, "n hm wm"]
) -> tuple[Float[Tensor, "n rc"], Float[Tensor, "n k"]]:
    """Return what every resolution of the embedding holds of masks."""
    tensors = image.embedding.tensors()
    means, measures = [], []
    with evaluating(model):
        for name in _levels(model):
            seen = mask_features(tensors[name].float().cpu(), logits[None, :, None])
            means.append(seen.means[0, :, 0])
            measures.append(seen.measures[0, :, 0])
    return torch.cat(means, 1).clone(), torch.cat(measures, 1).clone()


def _echo(
    model: Sam, image: EncodedImage, boxes: Float[np.ndarray, "n 4"], cells: Bool[Tensor, "n hm wm"]
) -> Float[Tensor, "n e"]:
    """Ask the model for each mask's box, and return the `ECHO` of each of the `CANDIDATES`."""
    prompts = [to_model(Prompt(box=box), image.frame, model.mask_size) for box in boxes]
    with evaluating(model):
        answer = runtime_of(model).answer(image.embedding, join(prompts), multimask=None)
        logits, iou = answer.logits[0].float().cpu(), answer.iou[0].float().cpu()
        answered = logits > 0
        shared = (answered & cells[:, None]).sum((2, 3)).float()
        own, theirs = cells.sum((1, 2)).float()[:, None], answered.sum((2, 3)).float()
        shares = (
            shared / (own + theirs - shared).clamp(min=1),
            shared / own.clamp(min=1),
            shared / theirs.clamp(min=1),
        )
        return torch.stack([*shares, iou, stability_score_torch(logits)], 2).flatten(1).clone()


def _neighbours(cells: Bool[Tensor, "n hm wm"], others: Bool[Tensor, "m hm wm"]) -> Float[Tensor, "n 4"]:
    """Return the `NEIGHBOURS` of each mask, its likes and `others` being the others."""
    mine, all_ = cells.flatten(1).float(), torch.cat([cells, others]).flatten(1).float()
    shared = mine @ all_.T
    shared[torch.arange(len(mine)), torch.arange(len(mine))] = 0
    own, theirs = mine.sum(1)[:, None], all_.sum(1)[None]
    iou = shared / (own + theirs - shared).clamp(min=1)
    covered = all_.sum(0)[None] - mine
    anywhere = (mine * (covered > 0)).sum(1) / own[:, 0].clamp(min=1)
    largest = [(shared / each.clamp(min=1)).amax(1) for each in (own, theirs)]
    return torch.stack([iou.amax(1), *largest, anywhere], 1)
