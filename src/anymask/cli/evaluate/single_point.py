"""`anymask evaluate single-point`: clicks and boxes on any labelled images."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.evaluate.options import (
    AsJson,
    Data,
    Images,
    MaxImages,
    MaxMasks,
    Output,
    Plain,
    Seed,
    open_named,
    set_progress,
)
from anymask.cli.weights import Device, Model, Offline, Zoom
from anymask.data.files import check_folder
from anymask.errors import MissingPackageError

if TYPE_CHECKING:
    from anymask.evaluation.single_point import SinglePointResult


class First(StrEnum):
    """Where the first click is made."""

    centre = "centre"
    random = "random"
    both = "both"


def single_point(
    data: Data,
    model: Model = "anymask-s",
    images: Images = None,
    first: Annotated[
        First, typer.Option(help="The first click: the mask's centre, a random pixel of it, or a table of each.")
    ] = First.centre,
    output: Output = None,
    max_images: MaxImages = None,
    max_masks: MaxMasks = None,
    seed: Seed = 0,
    plain: Plain = False,
    zoom: Zoom = None,
    device: Device = "auto",
    as_json: AsJson = False,
    offline: Offline = False,
) -> None:
    """Measure what a model makes of one click, of more, and of a box: mIoU, oracle, NoC, and how well its scores are
    calibrated.

    Writes single_point.json, .md and plots, and with a random first click single_point_random.json and .md.
    """
    from anymask.data.files import make_folder
    from anymask.data.open import open_sets
    from anymask.evaluation import report
    from anymask.evaluation.result_log import num_drawn
    from anymask.evaluation.single_point import ModelSegmenter, SinglePointConfig, summarise
    from anymask.inference import PLAIN, Refinement
    from anymask.inference.answers import channels_of
    from anymask.workflows.evaluate_all import play_all

    if output is not None:
        check_folder(output)
    loaded, label = open_named(model, offline=offline, device=device)
    sets = open_sets(data, images=images, channels=channels_of(loaded))
    firsts = [First.centre, First.random] if first is First.both else [first]
    segmenter = ModelSegmenter(loaded, refinement=PLAIN if plain else Refinement(zoom=zoom))
    results = {}
    total = len(firsts) * num_drawn(sets.values(), max_images)
    with set_progress(total) as progress:
        for place in firsts:
            config = SinglePointConfig(
                max_images=max_images,
                max_masks=max_masks,
                seed=seed,
                first="centre" if place is First.centre else "random",
            )
            outcomes = play_all(segmenter, label, sets, config, output, progress)
            results[place] = summarise(outcomes, config)
    if output is not None:
        make_folder(output)
        for place, result in results.items():
            stem = "single_point" if place is First.centre else "single_point_random"
            report.write(result, output, stem)
            _plot(result, label.split()[0], output, stem)
    if as_json:
        found = {place.value: report.to_dict(result) for place, result in results.items()}
        typer.echo(json.dumps(found if first is First.both else found[first.value]))
    else:
        typer.echo("\n".join(report.to_markdown(result) for result in results.values()), nl=False)


def _plot(result: SinglePointResult, label: str, folder: Path, stem: str) -> None:
    """Write the plots (IoU by clicks, IoU's histogram, IoU by data set, calibration); says so where there are none."""
    from anymask.data.files import write_bytes_atomic
    from anymask.workflows.evaluation_pictures import evaluation_plots

    try:
        drawn = evaluation_plots({label: result})
    except MissingPackageError as error:
        typer.echo(f"no plots: {error}", err=True)
        return
    for name, png in drawn.items():
        write_bytes_atomic(folder / f"{stem}_{name}.png", png)
