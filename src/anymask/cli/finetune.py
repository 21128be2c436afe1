"""`anymask finetune`: a model on one's own pictures, and a report of what it kept."""

from __future__ import annotations

import json
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.terminal import parts_progress, training_progress
from anymask.cli.weights import Device, Model, open_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from anymask.workflows.finetune import FinetuneProgress


class Mode(StrEnum):
    """What learns."""

    decoder = "decoder"
    lora = "lora"
    all = "all"


def finetune(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="A folder of images, or SA-1B's tars: one, or a folder of them.")
    ],
    annotations: Annotated[
        Path | None,
        typer.Argument(metavar="[ANNOTATIONS]", help="A COCO or LVIS .json, or a folder of masks; tars need none."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The model: .safetensors, or .pth for Meta's format.")
    ] = Path("model.safetensors"),
    mode: Annotated[
        Mode | None, typer.Option(help="What learns: the mask decoder, low-rank matrices in the encoder too, or all.")
    ] = None,
    model: Model = "anymask-s",
    steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Steps of training.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, metavar="M", help="As many steps as fit into this; encoding comes first.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA", help="Data from before, replayed and reported on; may be repeated."),
    ] = None,
    hold_out: Annotated[
        str | None, typer.Option(metavar="DATA", help="New data to report on, in place of a share of IMAGES.")
    ] = None,
    report: Annotated[
        list[str] | None, typer.Option(metavar="DATA", help="More data to report on, never learned from.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A TOML file with other settings, as recipes/finetune.toml.")
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(metavar="BANDS:LOW..HIGH", help="What of deep or multi-band pictures is shown: 3,2,1:0..10000."),
    ] = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Teach a model your own kind of picture, and report what it gained and what it kept.

    By default the mask decoder alone learns, on embeddings that are made once. Generated scenes, or the data given by
    --keep, stay part of training, and at the end the weights are mixed with those before as far as held-out images ask
    for. Beside the model come its -retention.md, .json and .png, and the run's -log.jsonl. An interrupted run is
    resumed when it is called again in the same way. DATA is a tar, a folder of tars, a folder with images and masks or
    JSONs, a COCO file, or IMAGES,ANNOTATIONS with a comma between the two.
    """
    from anymask.training.finetuning.finetune import FinetuneConfig
    from anymask.training.strict_toml import read_strictly
    from anymask.workflows import finetune as workflow

    config = FinetuneConfig() if recipe is None else read_strictly(recipe, FinetuneConfig)
    workflow.check_output(output)
    loaded = open_model(model, device=device)
    with ExitStack() as bars:
        done = workflow.finetune(
            images,
            annotations,
            output,
            model=loaded,
            mode=None if mode is None else mode.value,
            steps=steps,
            minutes=minutes,
            keep=keep or (),
            hold_out=hold_out,
            report=report or (),
            config=config,
            channels=channels,
            name=model,
            progress=_shown(bars),
        )
    if done.no_plot is not None:
        typer.echo(f"no plot: {done.no_plot}", err=True)
    if as_json:
        typer.echo(json.dumps(done.to_dict()))
        return
    for line in done.remarks:
        typer.echo(line, err=True)
    for path in (done.model, *done.files):
        typer.echo(path)


def _shown(bars: ExitStack) -> Callable[[FinetuneProgress], None]:
    """Return what shows progress: a bar for each part, made when its first word comes."""
    steps: list[Callable[[int, dict[str, float]], None]] = []
    parts = bars.enter_context(parts_progress())

    def show(told: FinetuneProgress) -> None:
        if told.part != "training":
            parts(told.part, told.name, told.done, told.total)
            return
        if not steps:
            steps.append(bars.enter_context(training_progress(told.total)))
        steps[0](told.done, dict(told.values))

    return show
