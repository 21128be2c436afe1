"""Training a model to answer words: CLIP's embedding of an object is the prompt that its mask answers (SAM, app. D.5).

Words come in at inference alone: CLIP puts them near the images that they describe. Gradient goes into the model only.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import torch

from anymask.data.loader import Batch
from anymask.errors import CheckpointError
from anymask.inference.words.clip import Clip
from anymask.model import Sam, TextConfig, build_sam
from anymask.task.text_crops import CropConfig, crop_objects
from anymask.training.config import Recipe
from anymask.training.loop import Objective, state_of
from anymask.training.objectives.sam import StepResult, sam_step
from anymask.training.sources import build_stream
from anymask.training.state import TrainingState
from anymask.training.strict_toml import read_strictly

_PROJECTION = "prompt_encoder.text_projection."


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTraining:
    """Whose embeddings, of which crops."""

    clip: str = TextConfig().clip
    """A folder of a CLIP, or a name in transformers' cache; it is read before the first step."""
    crops: CropConfig = field(default_factory=CropConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRecipe(Recipe):
    """A training run on words; `rounds.prompts` is of no use, as the first prompt is always an object's embedding."""

    text: TextTraining = field(default_factory=TextTraining)


def read_text_recipe(path: str | Path) -> TextRecipe:
    """Read a recipe; an unknown, missing, ill-typed or senseless key raises RecipeError with its line."""
    return read_strictly(path, TextRecipe)


def new_text_state(recipe: TextRecipe, clip: Clip, start: Sam | None = None) -> TrainingState[Sam]:
    """Build the model with a projection for the CLIP; `start` is a model to begin with, with or without one."""
    torch.manual_seed(recipe.run.seed)
    text = TextConfig(width=clip.width, clip=recipe.text.clip)
    model = build_sam(dataclasses.replace(recipe.model.build(None if start is None else start.config), text=text))
    if start is not None:
        own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(_PROJECTION)}
        try:
            model.load_state_dict(own | start.state_dict())
        except RuntimeError as error:
            raise CheckpointError(f"the weights to start from are not of a {recipe.model.size}: {error}") from error
    return state_of(model, recipe)


def text_step(
    model: Sam,
    clip: Clip,
    batch: Batch,
    recipe: TextRecipe,
    *,
    generator: torch.Generator,
    scale: float = 1.0,
) -> StepResult:
    """Embed each mask's object, play the rounds from there, and leave `scale` times the gradient in the model."""
    crops, inside = crop_objects(
        batch.images, batch.masks, recipe.text.crops, side=clip.image_size, generator=generator
    )
    return sam_step(
        model,
        batch,
        rounds=recipe.rounds,
        loss=recipe.loss,
        generator=generator,
        precision=getattr(torch, recipe.run.precision),
        scale=scale,
        text=clip.objects(crops, inside).unflatten(0, batch.masks.shape[:2]),
    )


def text_objective(recipe: TextRecipe, start: Sam | None = None) -> Objective[Sam]:
    """Return training on words as a recipe says it; raises as `Clip` where there is none."""
    clip = Clip(recipe.text.clip, device=recipe.run.device)

    def step(model: Sam, batch: Batch, generator: torch.Generator, scale: float) -> StepResult:
        return text_step(model, clip, batch, recipe, generator=generator, scale=scale)

    return Objective(
        build=lambda: new_text_state(recipe, clip, start),
        stream=lambda step: build_stream(recipe, start=step),
        step=step,
    )
