"""`anymask evaluate edges`: the edge protocol on BSDS500."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from anymask.cli.evaluate.options import open_named, tell
from anymask.cli.terminal import everything_progress
from anymask.cli.weights import Device, Model, Offline
from anymask.data.files import check_folder


class EdgeMethod(StrEnum):
    """What finds edges."""

    model = "model"
    sobel = "sobel"
    canny = "canny"
    felzenszwalb = "felzenszwalb"


def edges(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="BSDS500's own data/: images/ and groundTruth/.")],
    method: Annotated[EdgeMethod, typer.Option(help="What finds the edges.")] = EdgeMethod.model,
    model: Model = "anymask-s",
    points_per_side: Annotated[int, typer.Option(min=1, help="Points along either side that a model is asked.")] = 16,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where results go; a stopped run is resumed there."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Take the first N images only.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes that match edges; by default one per core.")
    ] = None,
    device: Device = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print ods, ois, ap and r50 as JSON, with the curve.")
    ] = False,
    offline: Offline = False,
) -> None:
    """Measure edges on BSDS500: ODS, OIS, AP and R50, with the paper's beside them."""
    from anymask.evaluation.edges import protocol as edge_protocol
    from anymask.evaluation.edges.bsds import list_images, require_scipy
    from anymask.workflows.evaluate_all import measure_edges, model_detector

    if output is not None:
        check_folder(output)
    require_scipy()
    name, detect = method.value, None
    if method is EdgeMethod.model:
        name, detect = model_detector(*open_named(model, offline=offline, device=device), points_per_side)
    with everything_progress(len(list_images(folder)[:limit])) as bar:
        told = 0

        def progress(done: int, _: int) -> None:
            nonlocal told
            if not told:
                bar.begin(done - 1)
            told += 1
            bar.image(told)

        result = measure_edges(folder, name, detect, limit=limit, workers=workers, output=output, progress=progress)
    values, text = edge_protocol.to_dict(result), edge_protocol.to_markdown([result])
    tell("edges", values, text, output=output, as_json=as_json)
