"""Comparison of a model with transformers' one of the same weights, from the encoder's levels to the third round."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from anymask.model import Embedding, Prompts, Sam

TOLERANCE = 1e-4


def error(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def images(side: int) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(5))


def check_levels(ours: Sam, peer: SimpleNamespace) -> None:
    """Compare the image embedding, and the skips that the decoder adds."""
    with torch.no_grad():
        embedding = ours.encode(images(peer.side))
        levels = peer.reference.get_image_embeddings(images(peer.side))
    assert embedding.skips is not None
    for found, expected in zip((embedding.skips[1], embedding.skips[0], embedding.features), levels, strict=True):
        assert error(found, expected) < TOLERANCE


@torch.no_grad()
def check_answers(ours: Sam, peer: SimpleNamespace) -> None:
    """Compare the answers to points, boxes and both, prepared and not; then those of rounds, each on the one before."""
    side = peer.side
    points = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(6)) * side
    labels = torch.tensor([[[1, 0], [1, 1], [0, 1]]])
    boxes = torch.tensor([[[0.1, 0.2, 0.5, 0.9], [0.0, 0.0, 1.0, 0.7], [0.4, 0.1, 0.6, 0.3]]]) * side
    plain = ours.encode(images(side))
    levels = peer.reference.get_image_embeddings(images(side))
    for prompt in (
        {"points": points, "labels": labels},
        {"boxes": boxes},
        {"points": points, "labels": labels, "boxes": boxes},
    ):
        for multimask in (True, False):
            theirs = _theirs(peer, levels, prompt, multimask)
            for embedding in (plain, ours.prepare(plain)):
                _check(ours, embedding, prompt, multimask, theirs)
    _check_rounds(ours, peer, plain, levels, points, boxes)


def _check_rounds(
    ours: Sam, peer: SimpleNamespace, embedding: Embedding, levels: list[Tensor], points: Tensor, boxes: Tensor
) -> None:
    """A click, a second one and a box with a third, each beside the logits of the best mask before, each side's own."""
    clicks, labels = points.flatten(1, 2)[:, None, :3], torch.tensor([[[1, 0, 1]]])
    masks: tuple[Tensor, Tensor] | None = None
    for count in (1, 2, 3):
        prompt = {"points": clicks[:, :, :count], "labels": labels[:, :, :count]}
        if count == 3:
            prompt["boxes"] = boxes[:, :1]
        given = ({}, {}) if masks is None else ({"masks": masks[0]}, {"masks": masks[1]})
        theirs = _theirs(peer, levels, prompt | given[1], multimask=count == 1)
        logits = _check(ours, embedding, prompt | given[0], count == 1, theirs)
        best = int(theirs.iou_scores[0, 0].argmax())
        masks = logits[:, :, best], theirs.pred_masks[:, :, best]


def _theirs(peer: SimpleNamespace, levels: list[Tensor], prompt: dict[str, Tensor], multimask: bool) -> SimpleNamespace:
    asked = {f"input_{name}": tensor for name, tensor in prompt.items()}
    answered: SimpleNamespace = peer.reference(image_embeddings=list(levels), multimask_output=multimask, **asked)
    return answered


def _check(
    ours: Sam, embedding: Embedding, prompt: dict[str, Tensor], multimask: bool, theirs: SimpleNamespace
) -> Tensor:
    answer = ours.answer(embedding, Prompts.build(**prompt), multimask=multimask)
    assert answer.object_score is not None
    assert error(answer.logits, theirs.pred_masks) < TOLERANCE
    assert error(answer.iou, theirs.iou_scores) < TOLERANCE
    assert error(answer.object_score, theirs.object_score_logits[..., 0]) < TOLERANCE
    return answer.logits
