"""`anymask evaluate instances`: AP of the masks of a detector's boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.evaluate_options import (
    AsJson,
    Images,
    Model,
    Offline,
    Output,
    open_named,
    set_journal,
    set_progress,
)
from anymask.cli.weights import Device
from anymask.data.files import check_folder

if TYPE_CHECKING:
    from anymask.evaluation.instances import InstanceResult
    from anymask.model import Sam


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
    from anymask.evaluation import coco_report

    if output is not None:
        check_folder(output)
    loaded, label = open_named(model, offline=offline, device=device)
    result = segment_all(
        loaded, label, annotations, detections, images, refinements=refinements, limit=limit, output=output
    )
    if output is not None:
        coco_report.write_instances([result], output)
    if as_json:
        typer.echo(json.dumps(coco_report.instances_to_dict([result])))
    else:
        typer.echo(coco_report.instances_to_markdown([result]), nl=False)


def segment_all(
    model: Sam,
    label: str,
    annotations: Path,
    detections: Path,
    images: Path | None,
    *,
    refinements: int = 1,
    limit: int | None = None,
    output: Path | None = None,
) -> InstanceResult:
    """Evaluate a model on a detector's boxes; with an `output` folder, a journal lets a stopped run go on."""
    from anymask.data.signatures import signature
    from anymask.evaluation.coco_truth import CocoTruth
    from anymask.evaluation.instances import evaluate_instances
    from anymask.inference.answers import channels_of
    from anymask.inference.instances import Instances, read_detections

    boxes = read_detections(detections)
    truths = CocoTruth.open(annotations, images, channels=channels_of(model))
    files = {"images": truths.signature(), "boxes": signature(detections)}
    settings = {"protocol": "instances", "model": label, "refinements": refinements, **files}
    journal = set_journal(output, label, annotations.stem, "instances", settings)
    segment = Instances(model, refinements=refinements).segment
    with set_progress(min(len(truths), limit or len(truths))) as progress:
        return evaluate_instances(
            segment, annotations.stem, truths, boxes, max_images=limit, progress=progress, journal=journal
        )
