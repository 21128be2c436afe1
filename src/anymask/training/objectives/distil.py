"""One step of distilling an image encoder: it learns to give another model's embedding of the same picture.

A new encoder under a decoder that is trained already: once it speaks the embedding that the decoder reads, training on
the promptable task goes on from there instead of from nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from anymask.data.loader import Batch
from anymask.errors import CheckpointError
from anymask.model import Sam
from anymask.training.config import Recipe
from anymask.training.loop import Objective, new_state
from anymask.training.objectives.sam import preprocess
from anymask.training.sources import build_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilResult:
    """Mean squared error of a batch's embeddings over the variance of the teacher's, inside the images."""

    loss: Tensor


def distil_step(
    model: Sam, teacher: Sam, batch: Batch, *, precision: torch.dtype = torch.float32, scale: float = 1.0
) -> DistilResult:
    """Leave `scale` times the gradient of a batch's error in the parameters of the image encoder."""
    autocast = torch.autocast(batch.images.device.type, precision, enabled=precision != torch.float32)
    with autocast, torch.no_grad():
        wanted = teacher.encode(preprocess(teacher, batch)).features.float()
    with autocast:
        given = model.encode(preprocess(model, batch)).features.float()
    inside = F.interpolate(batch.valid[:, None].float(), wanted.shape[-2:], mode="area")
    error = ((given - wanted).square() * inside).sum() / (inside.sum() * wanted.shape[1])
    loss = error / wanted.var()
    (loss * scale).backward()
    return DistilResult(loss=loss.detach())


def distil_objective(recipe: Recipe, teacher: Sam, start: Sam | None = None) -> Objective[Sam]:
    """Return the distillation of a teacher's embedding as a recipe says it.

    Raises:
        CheckpointError: the teacher's embedding has another shape than the model's.
    """
    config = recipe.model.build()
    wanted, given = (teacher.config.width, teacher.embedding_size), (config.width, config.embedding_size)
    if wanted != given:
        raise CheckpointError(
            f"the teacher's embedding has {wanted[0]} channels of side {wanted[1]}, the model's {given[0]} of "
            f"{given[1]}"
        )

    def step(model: Sam, batch: Batch, generator: torch.Generator, scale: float) -> DistilResult:
        return distil_step(model, teacher, batch, precision=getattr(torch, recipe.run.precision), scale=scale)

    return Objective(
        build=lambda: new_state(recipe, start),
        stream=lambda step: build_stream(recipe, start=step),
        step=step,
    )
