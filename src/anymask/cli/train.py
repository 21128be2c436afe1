"""`anymask train`: run a recipe, look at what it would feed the model, render synthetic scenes, find regions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.plan import plan as plan_verb
from anymask.cli.regions import regions
from anymask.cli.terminal import training_progress
from anymask.cli.train_text import text
from anymask.data.files import check_folder

if TYPE_CHECKING:
    from anymask.model import Sam
    from anymask.model.mae import MaskedAutoencoder
    from anymask.training.config import Recipe
    from anymask.training.loop import Callback

WEIGHTS = "model.safetensors"
_SHEET_IMAGES = 8


app = typer.Typer(
    help="Train a model from a recipe: `anymask train RECIPE` is short for `anymask train run RECIPE`.",
    epilog="Example: anymask train recipes/smoke.toml -o runs/smoke",
)
_VERBS = ("run", "plan", "preview", "render", "regions", "text", "-h", "--help")


def expand(arguments: list[str]) -> list[str]:
    """Read `train RECIPE` as `train run RECIPE`."""
    if len(arguments) > 1 and arguments[1] not in _VERBS:
        return ["train", "run", *arguments[1:]]
    return arguments


@app.command(epilog="Example: anymask train recipes/smoke.toml -o runs/smoke")
def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file, such as those in recipes/.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="The run's folder; runs/<recipe's name> by default."),
    ] = None,
) -> None:
    """Train to the recipe's last step, going on from the run's folder if it holds an earlier state.

    The folder gets state.pt, log.jsonl, TensorBoard's files, sheets of predictions, and model.safetensors: the weights
    in float16, which `anymask segment --model` takes, as of the last save. A recipe of kind "mae" pre-trains the image
    encoder: its sheets show reconstructions, and its model.safetensors is what another recipe's model.start takes. One
    of kind "distil" teaches an image encoder another model's embeddings, one of kind "ranker" a model's ranker alone.
    """
    from anymask.checkpoints import load_model
    from anymask.training.config import read_recipe
    from anymask.training.distil_step import train_distil
    from anymask.training.loop import train
    from anymask.training.mae_step import train_mae
    from anymask.training.ranker_step import train_ranker
    from anymask.training.start import build_start

    plan = read_recipe(recipe)
    folder = output or Path("runs") / recipe.stem
    check_folder(folder)
    every = plan.run
    if plan.kind == "mae":
        drawn = [(every.save_every, _encoder_saver(folder, every.seed)), (every.sheet_every, _mae_drawer(plan, folder))]
        with training_progress(every.steps) as report:
            train_mae(plan, folder, callbacks=drawn, progress=report)
    else:
        start = build_start(plan.model, seed=every.seed)
        callbacks = [
            (every.save_every, _saver(folder)),
            (every.sheet_every, _sheet_drawer(plan, folder)),
            (plan.validation.every, _validator(plan)),
        ]
        with training_progress(every.steps) as report:
            if plan.kind == "distil":
                teacher = load_model(plan.distil.teacher, image_size=plan.model.image_size)
                train_distil(plan, folder, teacher, start=start, callbacks=callbacks, progress=report)
            elif plan.kind == "ranker":
                train_ranker(plan, folder, start=start, callbacks=callbacks, progress=report)
            else:
                train(plan, folder, start=start, callbacks=callbacks, progress=report)
    typer.echo(folder / WEIGHTS)


def _saver(folder: Path) -> Callback[Sam]:
    """Return what saves the weights as a model file."""
    import torch

    from anymask.checkpoints import save_model

    def save(model: Sam, step: int) -> dict[str, float]:
        save_model(model, folder / WEIGHTS, dtype=torch.float16)
        return {}

    return save


def _encoder_saver(folder: Path, seed: int) -> Callback[MaskedAutoencoder]:
    """Return what saves a model of the pre-trained encoder and random weights elsewhere, to start training from."""
    from anymask.checkpoints import save_model
    from anymask.checkpoints.mae import sam_of_mae

    def save(model: MaskedAutoencoder, step: int) -> dict[str, float]:
        save_model(sam_of_mae(model, seed=seed), folder / WEIGHTS)
        return {}

    return save


def _mae_drawer(recipe: Recipe, folder: Path) -> Callback[MaskedAutoencoder]:
    """Return what draws reconstructions of a batch that stays the same through the run."""
    from anymask.data.files import write_image_atomic
    from anymask.training.mae_step import build_image_stream
    from anymask.workflows.sheets import reconstruction_sheet

    shown = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, batch_size=_SHEET_IMAGES))

    def draw(model: MaskedAutoencoder, step: int) -> dict[str, float]:
        sheets = folder / "sheets"
        sheets.mkdir(exist_ok=True)
        drawn = reconstruction_sheet(model, build_image_stream(shown).batch(0))
        write_image_atomic(sheets / f"step-{step:06d}.png", drawn)
        return {}

    return draw


def _sheet_drawer(recipe: Recipe, folder: Path) -> Callback[Sam]:
    """Return what draws the model's answers on a batch that stays the same through the run."""
    from anymask.data.files import write_image_atomic
    from anymask.training.sources import build_stream
    from anymask.workflows.sheets import prediction_sheet

    shown = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, batch_size=_SHEET_IMAGES))

    def draw(model: Sam, step: int) -> dict[str, float]:
        sheets = folder / "sheets"
        sheets.mkdir(exist_ok=True)
        write_image_atomic(sheets / f"step-{step:06d}.png", prediction_sheet(model, build_stream(shown).batch(0)))
        return {}

    return draw


def _validator(recipe: Recipe) -> Callback[Sam]:
    """Return what plays the single-point protocol on the recipe's validation tars, which are opened now."""
    from anymask.data.open import open_sets
    from anymask.evaluation.single_point import quick_validation
    from anymask.training.sources import find

    plan = recipe.validation
    sets = open_sets(find(plan.tars, "tar")) if plan.every else {}

    def validate(model: Sam, step: int) -> dict[str, float]:
        return quick_validation(model, sets, num_images=plan.num_images, num_masks=plan.num_masks)

    return validate


@app.command(epilog="Example: anymask train preview recipes/smoke.toml -o sheet.png")
def preview(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file, such as those in recipes/.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The sheet: .png or .jpg.")],
    batch: Annotated[int, typer.Option(metavar="K", min=0, help="Which batch of the run to show.")] = 0,
) -> None:
    """Draw a batch as the model will see it: images varied and padded, masks, first prompts."""
    from anymask.data.files import write_image_atomic
    from anymask.training.config import read_recipe
    from anymask.training.sources import build_stream
    from anymask.workflows.sheets import batch_sheet

    plan = read_recipe(recipe)
    drawn = batch_sheet(build_stream(plan).batch(batch), plan.rounds.prompts, seed=batch)
    write_image_atomic(output, drawn)
    typer.echo(output)


@app.command(epilog="Example: anymask train render -o shards --shards 1 --scenes 8 --size 128")
def render(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where tars go; made if need be.")],
    shards: Annotated[int, typer.Option(min=1, help="How many tars.")] = 1,
    scenes: Annotated[int, typer.Option(min=1, help="Scenes in each.")] = 1000,
    size: Annotated[int, typer.Option(min=32, help="Side of a scene in pixels.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other scenes.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 renders in this one.")] = 0,
    nested: Annotated[
        bool, typer.Option("--nested", help="Only scenes with a subpart in a part in an object, named nested-*.tar.")
    ] = False,
    photographs: Annotated[
        list[Path] | None, typer.Option(metavar="TAR", help="A tar of photographs to draw on; may be repeated.")
    ] = None,
    cutouts: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="TAR",
            help="A tar of cut-outs with alpha, or of photographs with masks, whose objects to paste; may be repeated.",
        ),
    ] = None,
) -> None:
    """Render synthetic scenes with exact masks of wholes, parts and subparts, as tars in SA-1B's layout.

    Tars that are there already are passed over, so an interrupted call can be repeated.
    """
    from rich.console import Console
    from rich.progress import track

    from anymask.data.synthetic import SceneConfig, load_cutouts, load_pictures, render_shards

    check_folder(output)
    config = SceneConfig(
        size=size,
        nested=nested,
        photographs=[image for tar in photographs or [] for image in load_pictures(tar)],
        cutouts=[image for tar in cutouts or [] for image in load_cutouts(tar)],
    )
    paths = render_shards(
        output,
        config,
        name="nested" if nested else "synthetic",
        num_shards=shards,
        scenes_per_shard=scenes,
        seed=seed,
        workers=workers,
    )
    for path in track(paths, "rendering", total=shards, console=Console(stderr=True), transient=True):
        typer.echo(path)


app.command("plan", epilog="Example: anymask train plan recipes/smoke.toml --gpu h100")(plan_verb)
app.command(epilog="Example: anymask train regions photographs -o shards")(regions)
app.command(epilog="Example: anymask train text recipes/text.toml -o runs/text")(text)
