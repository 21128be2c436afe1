"""One step of a masked autoencoder's pre-training, and the run of many (He et al. 2022, sec. 3)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from anymask.data.loader import Batch, BatchStream, Source
from anymask.data.open import open_images
from anymask.data.readers.images import Pictures
from anymask.model.mae import MaskedAutoencoder, patchify, reconstruction_loss
from anymask.training.config import Recipe
from anymask.training.distributed import join_processes
from anymask.training.loop import Objective, state_of
from anymask.training.sources import image_cache, places
from anymask.training.state import TrainingState


@dataclass(frozen=True, slots=True, kw_only=True)
class MaeResult:
    """The mean over the hidden patches of a batch, on the device."""

    loss: Tensor


def normalise(model: MaskedAutoencoder, batch: Batch) -> Tensor:
    """Normalise a batch's images; padding becomes zeros."""
    images = (batch.images.float() - model.pixel_mean) / model.pixel_std
    inside = batch.valid.repeat_interleave(model.patch_size, 1).repeat_interleave(model.patch_size, 2)
    return images * inside[:, None]


def mae_step(
    model: MaskedAutoencoder,
    batch: Batch,
    *,
    generator: torch.Generator,
    precision: torch.dtype = torch.float32,
    scale: float = 1.0,
) -> MaeResult:
    """Hide patches and leave `scale` times the gradient of the loss in the parameters; padding does not count."""
    images = normalise(model, batch)
    visible = model.draw_visible(len(images), generator)
    counted = model.hidden(visible) & batch.valid.flatten(1)
    with torch.autocast(images.device.type, precision, enabled=precision != torch.float32):
        predicted = model(images, visible)
    loss = reconstruction_loss(predicted, patchify(images, model.patch_size), counted, model.mae.normalise)
    (loss * scale).backward()
    return MaeResult(loss=loss.detach())


def build_image_stream(recipe: Recipe, *, start: int = 0) -> BatchStream:
    """Open the recipe's sources as a stream of batches of images, whose `valid` is on the grid of patches."""
    config, processes = recipe.model.build(), join_processes(recipe.run.device)
    cache = image_cache(recipe)
    sources = []
    for source in recipe.sources:
        whole = dataclasses.replace(source.transforms, min_cells=1, max_share=1.0)
        files = Pictures(open_images(places(source)), cache=cache)
        sources.append(Source(files=files, weight=source.weight, transforms=whole))
    with torch.device("meta"):
        grid = MaskedAutoencoder(config, recipe.mae).grid
    return BatchStream(
        sources,
        batch_size=recipe.run.batch_size,
        num_masks=1,
        image_size=config.image_size,
        mask_size=grid,
        seed=recipe.run.seed,
        start=start * recipe.optim.accumulate,
        rank=processes.rank,
        count=processes.count,
    )


def new_mae_state(recipe: Recipe) -> TrainingState[MaskedAutoencoder]:
    """Build an autoencoder of random weights with its optimiser and average."""
    torch.manual_seed(recipe.run.seed)
    return state_of(MaskedAutoencoder(recipe.model.build(), recipe.mae), recipe, forward_methods=())


def mae_objective(recipe: Recipe) -> Objective[MaskedAutoencoder]:
    """Return masked pre-training as a recipe says it."""

    def step(model: MaskedAutoencoder, batch: Batch, generator: torch.Generator, scale: float) -> MaeResult:
        precision = getattr(torch, recipe.run.precision)
        return mae_step(model, batch, generator=generator, precision=precision, scale=scale)

    return Objective(
        build=lambda: new_mae_state(recipe),
        stream=lambda step: build_image_stream(recipe, start=step),
        step=step,
    )
