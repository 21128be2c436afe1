"""Training a model to answer words: CLIP's embedding of an object is the prompt that its mask answers (SAM, app. D.5).

Words come in at inference alone: CLIP puts them near the images that they describe. Gradient goes into the model only.
Crops of objects, as CLIP is shown them, are cut from the padded model input.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn import functional as F

from anymask.data.loader import Batch
from anymask.errors import CheckpointError
from anymask.inference.words.clip import Clip
from anymask.model import Sam, TextConfig, build_sam
from anymask.task.sampling import masks_to_boxes
from anymask.training.config import Recipe
from anymask.training.loop import Objective, state_of
from anymask.training.objectives.sam import StepResult, sam_step
from anymask.training.sources import build_stream
from anymask.training.state import TrainingState
from anymask.training.strict_toml import read_strictly

_PROJECTION = "prompt_encoder.text_projection."


@dataclass(frozen=True, slots=True, kw_only=True)
class CropConfig:
    """How an object is cut out: the sides of its box times `enlarge`, and how often all around it is black."""

    enlarge: tuple[float, float] = (1.0, 2.0)
    blank: float = 0.5
    """Chance that pixels off the object are zero."""

    def __post_init__(self) -> None:
        """Reject invalid values; raises ValueError."""
        low, high = self.enlarge
        if not 0 < low <= high:
            raise ValueError(f"enlarge is {self.enlarge}; it must be a low and a high factor above 0")
        if not 0 <= self.blank <= 1:
            raise ValueError(f"blank is {self.blank}; it must be from 0 to 1")


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
    """Read a recipe; an unknown, missing, ill-typed or invalid key raises RecipeError with its line."""
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


@torch.no_grad()
def crop_objects(
    images: UInt8[Tensor, "b 3 s s"],
    masks: Bool[Tensor, "b p g g"],
    config: CropConfig,
    *,
    side: int,
    generator: torch.Generator,
) -> tuple[UInt8[Tensor, "n 3 side side"], Bool[Tensor, "n side side"]]:
    """Cut out each mask's object as a square of `side` pixels, with its mask; the objects of the first image first.

    The mask's box is enlarged by a random factor about its centre and made square; what lies outside the image is
    black. Masks may be on a coarser grid than the images. Randomness comes from the generator, on the images' device.
    """
    size, count = images.shape[-1], masks.shape[0] * masks.shape[1]
    low, high = config.enlarge
    draw = torch.rand(2, count, generator=generator, device=images.device)
    boxes = masks_to_boxes(masks, size).flatten(0, 1)
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1) / 2 * (low + (high - low) * draw[0])
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2
    corners = torch.cat([centre - half[:, None], centre + half[:, None]], 1).round().long().tolist()
    crops = torch.empty(count, 3, side, side, device=images.device)
    inside = torch.empty(count, side, side, dtype=torch.bool, device=images.device)
    for index, (x0, y0, x1, y1) in enumerate(corners):
        image, mask = images[index // masks.shape[1]], masks.flatten(0, 1)[index]
        full = F.interpolate(mask[None, None].float(), (size, size), mode="nearest")[0]
        both = _cut(torch.cat([image.float(), full * 255]), x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
        small = F.interpolate(both[None], (side, side), mode="bilinear", antialias=True, align_corners=False)[0]
        crops[index], inside[index] = small[:3], small[3] >= 127.5
    blank = (draw[1] < config.blank)[:, None, None] & ~inside
    return crops.masked_fill(blank[:, None], 0.0).round().clamp(0, 255).to(torch.uint8), inside


def _cut(planes: Tensor, x0: int, y0: int, x1: int, y1: int) -> Tensor:
    """Cut a box out of (c, h, w), zero where it reaches outside."""
    height, width = planes.shape[-2:]
    part = planes[:, max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    return F.pad(part, (max(-x0, 0), max(x1 - width, 0), max(-y0, 0), max(y1 - height, 0)))
