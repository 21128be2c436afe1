"""`anymask evaluate proposals`: the recall of masks made without prompts."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from anymask.cli.evaluate.options import (
    AsJson,
    Data,
    Images,
    MaxImages,
    Model,
    Offline,
    Output,
    Seed,
    open_named,
    set_progress,
)
from anymask.cli.weights import Device
from anymask.data.files import check_folder


def proposals(
    data: Data,
    model: Model = "anymask-s",
    images: Images = None,
    points_per_side: Annotated[int, typer.Option(min=1, help="Points of the grid along either side.")] = 64,
    output: Output = None,
    max_images: MaxImages = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    offline: Offline = False,
) -> None:
    """Measure how many annotated masks the best 10, 100 and 1,000 masks of an image find: AR by size and frequency."""
    from anymask.evaluation.coco import report as coco_report
    from anymask.evaluation.coco.proposals import ProposalConfig
    from anymask.evaluation.sampling import num_drawn, open_truths
    from anymask.inference.answers import channels_of
    from anymask.workflows.evaluate_all import propose_all

    if output is not None:
        check_folder(output)
    loaded, label = open_named(model, offline=offline, device=device)
    truths = open_truths(data, images=images, channels=channels_of(loaded))
    config = ProposalConfig(max_images=max_images, seed=seed)
    with set_progress(num_drawn(truths.values(), max_images)) as progress:
        results = propose_all(loaded, label, truths, config, points_per_side, output, progress)
    if output is not None:
        coco_report.write_proposals(results, output)
    if as_json:
        typer.echo(json.dumps(coco_report.proposals_to_dict(results)))
    else:
        typer.echo(coco_report.proposals_to_markdown(results), nl=False)
