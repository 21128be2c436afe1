"""One training step of the promptable task: encode once, play the rounds, back-propagate each as it comes.

Source: SAM, sec. 3 and app. A. Every round's gradient with respect to the image embedding is summed, and goes
through the encoder once; so a step holds the graph of one round at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from anymask.data.loader import Batch
from anymask.model import Embedding, Sam
from anymask.task import (
    LossConfig,
    RoundsConfig,
    SimulatedPrompts,
    ambiguous_targets,
    mask_loss,
    rounds_with_loss,
    simulate,
)
from anymask.task.prompts import no_prompts
from anymask.training.config import Recipe
from anymask.training.loop import Callback, Objective, new_state, run
from anymask.training.sources import build_stream
from anymask.training.state import TrainingState


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """Means over the masks of a batch, on the device; `iou_*` are of the candidate ranked first."""

    loss: Tensor
    focal: Tensor
    dice: Tensor
    bce: Tensor
    iou_error: Tensor
    iou_first: Tensor
    iou_last: Tensor
    iou_oracle: Tensor
    """Best candidate's IoU after the first prompt."""


def preprocess(model: Sam, batch: Batch) -> Tensor:
    """Normalise a batch's images; padding becomes zeros, as in inference."""
    images = model.preprocess(batch.images)
    inside = F.interpolate(batch.valid[:, None].float(), images.shape[-2:], mode="nearest")
    return images * inside.to(images.dtype)


def sam_step(
    model: Sam,
    batch: Batch,
    *,
    rounds: RoundsConfig,
    loss: LossConfig,
    generator: torch.Generator,
    precision: torch.dtype = torch.float32,
    scale: float = 1.0,
    train_encoder: bool = True,
    embedding: Embedding | None = None,
    text: Tensor | None = None,
) -> StepResult:
    """Play the rounds on a batch and leave `scale` times the gradient of their mean loss in the parameters.

    With the images' `embedding` given they are not encoded, and the encoder is not trained. With `text`, (b, p, c), one
    of CLIP's embeddings for each mask, that is the first prompt, and stays in all that follow (SAM, app. D.5).
    """
    autocast = torch.autocast(batch.images.device.type, precision, enabled=precision != torch.float32)
    train_encoder = train_encoder and embedding is None
    if embedding is None:
        with autocast, torch.set_grad_enabled(train_encoder):
            embedding = model.encode(preprocess(model, batch))
    encoded = embedding.tensors()
    shared = {name: tensor.detach().requires_grad_(train_encoder) for name, tensor in encoded.items()}
    has_loss = rounds_with_loss(rounds, generator)
    with_loss = iter(has_loss)

    def decoder(prompts: SimulatedPrompts) -> tuple[Tensor, Tensor]:
        with autocast, torch.set_grad_enabled(next(with_loss)):
            logits, iou = model.decode(Embedding.from_tensors(shared), replace(prompts, text=text))
        return logits, iou

    played = simulate(
        decoder,
        batch.masks,
        rounds,
        image_size=model.image_size,
        mask_size=model.mask_size,
        valid=batch.valid,
        first=None if text is None else no_prompts(batch.masks),
        generator=generator,
    )
    share = scale / sum(has_loss)
    parts: list[Tensor] = []
    ious: list[Tensor] = []
    for turn in played:
        others = None
        if loss.ambiguity and turn.index == 0 and text is None and rounds.prompts.point > 0:
            clicks = turn.prompts.points[:, :, 0]
            masks, there = ambiguous_targets(
                clicks, batch.masks, batch.known, image_size=model.image_size, generator=generator
            )
            others = masks, there & turn.prompts.single[..., None]
        result = mask_loss(
            turn.logits,
            turn.iou,
            batch.masks,
            loss,
            candidates=turn.candidates,
            valid=batch.valid,
            others=others,
        )
        if has_loss[turn.index]:
            (result.total * share).backward()
            parts.append(torch.stack([result.total.detach(), result.focal, result.dice, result.bce, result.iou]))
        if turn.index == 0:
            best = result.true_iou.masked_fill(~turn.candidates, 0).amax(2)
            ious.append(best.mean())
        if turn.index in (0, rounds.num_rounds - 1):
            ious.append(result.true_iou.gather(2, turn.chosen[..., None]).mean())
    if train_encoder:
        torch.autograd.backward(list(encoded.values()), [tensor.grad for tensor in shared.values()])
    total, focal, dice, bce, iou_error = torch.stack(parts).mean(0).unbind()
    return StepResult(
        loss=total,
        focal=focal,
        dice=dice,
        bce=bce,
        iou_error=iou_error,
        iou_oracle=ious[0],
        iou_first=ious[1],
        iou_last=ious[-1],
    )


def sam_objective(recipe: Recipe, start: Sam | None = None) -> Objective[Sam]:
    """Return the promptable task as a recipe says it; `start` is the model to begin with, None for random weights."""

    def step(model: Sam, batch: Batch, generator: torch.Generator, scale: float) -> StepResult:
        return sam_step(
            model,
            batch,
            rounds=recipe.rounds,
            loss=recipe.loss,
            generator=generator,
            precision=getattr(torch, recipe.run.precision),
            scale=scale,
        )

    return Objective(
        build=lambda: new_state(recipe, start), stream=lambda step: build_stream(recipe, start=step), step=step
    )


def train(
    recipe: Recipe,
    folder: Path,
    *,
    start: Sam | None = None,
    callbacks: Sequence[tuple[int, Callback[Sam]]] = (),
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> TrainingState[Sam]:
    """Train the promptable task to the recipe's last step (see `anymask.training.loop.run`)."""
    return run(recipe, folder, sam_objective(recipe, start), callbacks=callbacks, progress=progress)
