"""`anymask train text`: teach a model to answer words, from CLIP's embeddings of objects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymask.cli.terminal import training_progress
from anymask.data.files import check_folder


def text(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file, such as recipes/text.toml.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="The run's folder; runs/<recipe's name> by default."),
    ] = None,
) -> None:
    """Train a model on words, going on from the run's folder if it holds an earlier state.

    The folder gets state.pt, log.jsonl and model.safetensors, which `anymask segment --text --model` takes.
    """
    import torch

    from anymask.checkpoints import load_model, save_model
    from anymask.model import Sam
    from anymask.training.text_step import read_text_recipe, train_text

    plan = read_text_recipe(recipe)
    folder = output or Path("runs") / recipe.stem
    check_folder(folder)
    weights = folder / "model.safetensors"

    def save(model: Sam, step: int) -> dict[str, float]:
        save_model(model, weights, dtype=torch.float16)
        return {}

    start = load_model(plan.model.start) if plan.model.start else None
    with training_progress(plan.run.steps) as report:
        train_text(plan, folder, start=start, callbacks=[(plan.run.save_every, save)], progress=report)
    typer.echo(weights)
