"""`anymask train`: run a recipe, look at what it would feed the model, render synthetic scenes, find regions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.terminal import training_progress
from anymask.data.files import check_folder

if TYPE_CHECKING:
    from anymask.training.cost.plan import Plan

app = typer.Typer(
    help="Train a model from a recipe: `anymask train RECIPE` is short for `anymask train run RECIPE`.",
    epilog="Example: anymask train recipes/smoke.toml -o runs/smoke",
)
_VERBS = ("run", "plan", "preview", "render", "regions", "text", "-h", "--help")
RunFolder = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FOLDER", help="The run's folder; runs/<recipe's name> by default."),
]


def expand(arguments: list[str]) -> list[str]:
    """Read `train RECIPE` as `train run RECIPE`."""
    if len(arguments) > 1 and arguments[1] not in _VERBS:
        return ["train", "run", *arguments[1:]]
    return arguments


@app.command(epilog="Example: anymask train recipes/smoke.toml -o runs/smoke")
def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file, such as those in recipes/.")],
    output: RunFolder = None,
) -> None:
    """Train to the recipe's last step, going on from the run's folder if it holds an earlier state.

    The folder gets state.pt, log.jsonl, TensorBoard's files, sheets of predictions, and model.safetensors: the weights
    in float16, which `anymask segment --model` takes, as of the last save. A recipe of kind "mae" pre-trains the image
    encoder: its sheets show reconstructions, and its model.safetensors is what another recipe's model.start takes. One
    of kind "distil" teaches an image encoder another model's embeddings, one of kind "ranker" a model's ranker alone.
    """
    from anymask.training.config import read_recipe
    from anymask.workflows.train import train_recipe

    plan = read_recipe(recipe)
    with training_progress(plan.run.steps) as report:
        weights = train_recipe(plan, output or Path("runs") / recipe.stem, progress=report)
    typer.echo(weights)


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


@app.command(epilog="Example: anymask train plan recipes/smoke.toml --gpu h100")
def plan(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file, such as those in recipes/.")],
    gpu: Annotated[str, typer.Option(help="a100, h100, h200, …")] = "a100",
    gpus: Annotated[int | None, typer.Option(metavar="N", help="How many; the recipe's processes by default.")] = None,
    efficiency: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of the peak reached; 0.35 (bfloat16), 0.45 (float32).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count a recipe's parameters, operations, memory per GPU and hours; nothing is read or trained."""
    from anymask.training.config import read_recipe
    from anymask.training.cost.plan import plan_run

    found = plan_run(read_recipe(recipe), gpu=gpu, gpus=gpus, efficiency=efficiency)
    typer.echo(json.dumps(dataclasses.asdict(found)) if as_json else "\n".join(_lines(found)))


def _lines(found: Plan) -> list[str]:
    """Return the plan as text."""
    parts = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in found.parameters.items())
    checkpointed = f"{found.flops_per_image_checkpointed / 1e12:.3g} TFLOP with activation checkpointing"
    lines = [
        f"model        {found.size} at {found.image_size} pixels: {parts}",
        f"run          {found.steps} steps of {found.batch} images",
        f"forward      {found.encoder_flops / 1e12:.3g} TFLOP per image in the encoder, "
        f"{found.decoder_flops / 1e12:.3g} in the decoder",
        f"step         {found.flops_per_image / 1e12:.3g} TFLOP per image, forward and backward; {checkpointed}",
        f"             {found.flops_per_step / 1e15:.3g} PFLOP in all",
        f"memory       {found.state_bytes / 2**30:.1f} GiB of weights, gradients and optimiser in a process",
    ]
    if found.activation_bytes is not None and found.activation_bytes_checkpointed is not None:
        lines.append(
            f"             {found.activation_bytes / 2**30:.1f} GiB of activations, "
            f"{found.activation_bytes_checkpointed / 2**30:.1f} GiB with activation checkpointing"
        )
    for precision, hours in found.hours.items():
        lines.append(
            f"hours        {hours:.3g} on {found.gpus} {found.gpu} in {precision}, if "
            f"{found.efficiency[precision]:.0%} of the peak is reached"
        )
    return lines


@app.command(epilog="Example: anymask train regions photographs -o shards")
def regions(
    photographs: Annotated[
        list[Path], typer.Argument(metavar="PHOTOS", help="Folders, tars or annotation files of photographs.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where tars go; made if need be.")],
    per_shard: Annotated[int, typer.Option(min=1, help="Photographs per tar.")] = 200,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Take this model's surest masks; a name, or a path.")
    ] = None,
) -> None:
    """Find regions of photographs that nobody has labelled, and write them as tars in SA-1B's layout.

    They are few and sure: what stands out by itself, found without a model, or with --model the masks that this model
    is sure of. Tars that are there already are passed over, so an interrupted call can be repeated.
    """
    from rich.console import Console
    from rich.progress import track

    from anymask.data.open import open_images
    from anymask.data.regions.stable import write_regions

    check_folder(output)
    found = open_images(
        sorted(photographs, key=lambda place: Path(place).is_dir())
    )  # tars first, as runs that go on began
    if model is None:
        paths = write_regions(found, output, per_shard=per_shard)
    else:
        from anymask.checkpoints import load_model
        from anymask.training.sources import OwnMasks

        paths = write_regions(found, output, find=OwnMasks(load_model(model)), name="own", per_shard=per_shard)
    total = -(-len(found) // per_shard)
    for path in track(paths, "looking", total=total, console=Console(stderr=True), transient=True):
        typer.echo(path)


@app.command(epilog="Example: anymask train text recipes/text.toml -o runs/text")
def text(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file, such as recipes/text.toml.")],
    output: RunFolder = None,
) -> None:
    """Train a model on words, going on from the run's folder if it holds an earlier state.

    The folder gets state.pt, log.jsonl and model.safetensors, which `anymask segment --text --model` takes.
    """
    from anymask.training.objectives.text import read_text_recipe
    from anymask.workflows.train import train_words

    plan = read_text_recipe(recipe)
    with training_progress(plan.run.steps) as report:
        weights = train_words(plan, output or Path("runs") / recipe.stem, progress=report)
    typer.echo(weights)
