"""`anymask evaluate instances`: AP of the masks of a detector's boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from anymask.cli.evaluate.options import (
    AsJson,
    Images,
    Model,
    Offline,
    Output,
    open_named,
)
from anymask.cli.terminal import parts_progress
from anymask.cli.weights import Device
from anymask.data.files import check_folder


def instances(
    annotations: Annotated[Path, typer.Argument(metavar="DATA.json", help="Annotations of COCO's or LVIS' layout.")],
    detections: Annotated[Path, typer.Argument(metavar="DETECTIONS.json", help="A detector's boxes: COCO's results.")],
    model: Model = "anymask-s",
    images: Images = None,
    refinements: Annotated[int, typer.Option(min=0, help="How often a mask is fed back with its box.")] = 1,
    output: Output = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Take the first N images only.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
    offline: Offline = False,
) -> None:
    """Measure the masks of a detector's boxes: AP, by IoU, by size, and on LVIS by frequency."""
    from anymask.evaluation.coco import report as coco_report
    from anymask.workflows.evaluate_all import segment_all

    if output is not None:
        check_folder(output)
    loaded, label = open_named(model, offline=offline, device=device)
    with parts_progress() as told:
        result = segment_all(
            loaded,
            label,
            annotations,
            detections,
            images,
            refinements=refinements,
            limit=limit,
            output=output,
            progress=lambda name, done, total: told(name, "", done, total),
        )
    if output is not None:
        coco_report.write_instances([result], output)
    if as_json:
        typer.echo(json.dumps(coco_report.instances_to_dict([result])))
    else:
        typer.echo(coco_report.instances_to_markdown([result]), nl=False)
