"""A recipe trained into a folder: weights saved, sheets drawn and validation played as it goes: `anymask train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8

from anymask.checkpoints import load_model, save_model
from anymask.checkpoints.mae import sam_of_mae
from anymask.data.files import check_folder, make_folder, write_image_atomic
from anymask.data.open import open_sets
from anymask.evaluation.single_point import quick_validation
from anymask.model import Sam
from anymask.model.mae import MaskedAutoencoder
from anymask.training.config import Recipe
from anymask.training.loop import Callback, M, Objective, run
from anymask.training.objectives.distil import distil_objective
from anymask.training.objectives.mae import build_image_stream, mae_objective
from anymask.training.objectives.ranker import ranker_objective
from anymask.training.objectives.sam import sam_objective
from anymask.training.objectives.text import TextRecipe, text_objective
from anymask.training.sources import build_start, build_stream, find
from anymask.workflows.sheets import prediction_sheet, reconstruction_sheet

WEIGHTS = "model.safetensors"
_SHEET_IMAGES = 8

OnProgress: TypeAlias = Callable[[int, dict[str, float]], None]
"""Called with the number of steps made, and the last one's loss and IoUs, as a line of log.jsonl has them."""


def train_recipe(recipe: Recipe, folder: Path, *, progress: OnProgress | None = None) -> Path:
    """Train to the recipe's last step, going on from the folder if it holds an earlier state; return the model's file.

    The folder gets state.pt, log.jsonl, TensorBoard's files, sheets of predictions or reconstructions, and
    model.safetensors: as of the last save. Raises DataError, CheckpointError, OutputError and TrainingError.
    """
    check_folder(folder)
    saves, sheets = recipe.run.save_every, recipe.run.sheet_every
    if recipe.kind == "mae":
        drawn = [
            (saves, _encoder_saver(folder, recipe.run.seed)),
            (sheets, _sheet_drawer(recipe, folder, _draw_reconstructions)),
        ]
        run(recipe, folder, mae_objective(recipe), callbacks=drawn, progress=progress)
        return folder / WEIGHTS
    start = build_start(recipe.model, seed=recipe.run.seed)
    callbacks = [
        (saves, _saver(folder)),
        (sheets, _sheet_drawer(recipe, folder, _draw_answers)),
        (recipe.validation.every, _validator(recipe)),
    ]
    run(recipe, folder, _objective(recipe, start), callbacks=callbacks, progress=progress)
    return folder / WEIGHTS


def _objective(recipe: Recipe, start: Sam | None) -> Objective[Sam]:
    """Return what a recipe of a kind that trains a whole model learns."""
    if recipe.kind == "distil":
        return distil_objective(recipe, load_model(recipe.distil.teacher, image_size=recipe.model.image_size), start)
    return ranker_objective(recipe, start) if recipe.kind == "ranker" else sam_objective(recipe, start)


def train_words(recipe: TextRecipe, folder: Path, *, progress: OnProgress | None = None) -> Path:
    """Train a model on words, going on from the folder if it holds an earlier state; return the model's file.

    Raises what `train_recipe` raises.
    """
    check_folder(folder)
    start = load_model(recipe.model.start) if recipe.model.start else None
    callbacks = [(recipe.run.save_every, _saver(folder))]
    run(recipe, folder, text_objective(recipe, start), callbacks=callbacks, progress=progress)
    return folder / WEIGHTS


def _saver(folder: Path) -> Callback[Sam]:
    """Return what saves the weights as a model file."""

    def save(model: Sam, step: int) -> dict[str, float]:
        save_model(model, folder / WEIGHTS, dtype=torch.float16)
        return {}

    return save


def _encoder_saver(folder: Path, seed: int) -> Callback[MaskedAutoencoder]:
    """Return what saves a model of the pre-trained encoder and random weights elsewhere, to start training from."""

    def save(model: MaskedAutoencoder, step: int) -> dict[str, float]:
        save_model(sam_of_mae(model, seed=seed), folder / WEIGHTS)
        return {}

    return save


def _sheet_drawer(
    recipe: Recipe, folder: Path, draw_sheet: Callable[[M, Recipe], UInt8[np.ndarray, "h w 3"]]
) -> Callback[M]:
    """Return what draws a sheet of a model on a batch that stays the same through the run."""
    shown = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, batch_size=_SHEET_IMAGES))

    def draw(model: M, step: int) -> dict[str, float]:
        sheets = make_folder(folder / "sheets")
        write_image_atomic(sheets / f"step-{step:06d}.png", draw_sheet(model, shown))
        return {}

    return draw


def _draw_reconstructions(model: MaskedAutoencoder, recipe: Recipe) -> UInt8[np.ndarray, "h w 3"]:
    return reconstruction_sheet(model, build_image_stream(recipe).batch(0))


def _draw_answers(model: Sam, recipe: Recipe) -> UInt8[np.ndarray, "h w 3"]:
    return prediction_sheet(model, build_stream(recipe).batch(0))


def _validator(recipe: Recipe) -> Callback[Sam]:
    """Return what plays the single-point protocol on the recipe's validation tars, which are opened now."""
    plan = recipe.validation
    sets = open_sets(find(plan.tars, "tar")) if plan.every else {}

    def validate(model: Sam, step: int) -> dict[str, float]:
        return quick_validation(model, sets, num_images=plan.num_images, num_masks=plan.num_masks)

    return validate
