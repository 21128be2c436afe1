"""`anymask evaluate all`: every protocol that the data allow, on one or more models, as one page to look at."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from anymask.cli.evaluate.options import AsJson, Data, Images, MaxImages, MaxMasks, Plain, Seed, name_models
from anymask.cli.terminal import parts_progress
from anymask.cli.weights import Device, Offline, Zoom, open_model
from anymask.data.files import check_folder


def everything(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the report goes.")],
    model: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A model; may be repeated.")] = None,
    images: Images = None,
    max_images: MaxImages = None,
    max_masks: MaxMasks = None,
    seed: Seed = 0,
    proposal_images: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Images per data set for proposals, which take long on a CPU; 0 leaves them out."
        ),
    ] = 2,
    points_per_side: Annotated[int, typer.Option(min=1, help="Points of the proposals' grid along a side.")] = 64,
    boxes: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="DATA.json DETECTIONS.json", help="Annotations and a detector's boxes, for instances."),
    ] = None,
    edges: Annotated[Path | None, typer.Option(metavar="DIR", help="BSDS500's own data/, for edges.")] = None,
    num_cases: Annotated[int, typer.Option(min=0, help="How many of the best, middling and worst masks to show.")] = 6,
    plain: Plain = False,
    zoom: Zoom = None,
    device: Device = "auto",
    as_json: AsJson = False,
    offline: Offline = False,
) -> None:
    """Measure models on all protocols and write index.html, report.json and report.md, with plots and examples.

    What was measured is kept in the folder's journal/, from which a stopped run resumes.
    """
    from anymask.evaluation import all_report
    from anymask.evaluation.single_point import SinglePointConfig
    from anymask.inference import PLAIN, Refinement
    from anymask.workflows.evaluate_all import AllConfig, evaluate_all

    check_folder(output)
    config = AllConfig(
        single_point=SinglePointConfig(max_images=max_images, max_masks=max_masks, seed=seed),
        refinement=PLAIN if plain else Refinement(zoom=zoom),
        proposal_images=proposal_images,
        points_per_side=points_per_side,
        boxes=boxes,
        edges=edges,
        num_examples=num_cases,
    )
    models = {
        name: partial(open_model, path, offline=offline, device=device, runtime="auto")
        for name, path in name_models(model).items()
    }
    with parts_progress() as progress:
        done = evaluate_all(
            data, output, models, config, images=images, progress=lambda part, at, of: progress(part, "", at, of)
        )
    if done.no_plots is not None:
        typer.echo(f"no plots: {done.no_plots}", err=True)
    typer.echo(json.dumps(all_report.to_dict(done.report)) if as_json else f"report   {done.page}")
