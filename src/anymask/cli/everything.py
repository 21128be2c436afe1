"""`anymask everything`: masks of all there is in an image, or in each image of a folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymask.cli.arguments import check_image
from anymask.cli.terminal import SOME_FAILED, everything_progress
from anymask.cli.weights import Device, Model, Offline, Runtime, Threads, open_model
from anymask.data.files import check_folder
from anymask.errors import DataError, InputError
from anymask.workflows.folder_jobs import COCO_FILE, ResultFormat, list_jobs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anymask.inference import AutomaticOptions
    from anymask.workflows.folder_run import FolderResult, FolderRun

_OUTPUT = "Results"
_MASKS = "Which masks"
_TILES = "Large images"


class Preset(StrEnum):
    """Options that have a name."""

    fast = "fast"
    balanced = "balanced"
    paper = "paper"


class Nms(StrEnum):
    """What overlap is measured on."""

    box = "box"
    mask = "mask"


class OnTop(StrEnum):
    """Which mask a label map shows where several overlap."""

    small = "small"
    confident = "confident"


def _option(help: str, metavar: str | None = None, panel: str = _MASKS) -> Any:
    return typer.Option(help=help, metavar=metavar, rich_help_panel=panel, show_default=False)


def everything(
    source: Annotated[Path, typer.Argument(metavar="IMAGE|FOLDER", help="A photograph, or a folder of them.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", rich_help_panel=_OUTPUT, help="Made if need be.")
    ],
    formats: Annotated[
        list[ResultFormat] | None,
        typer.Option(
            "--format", rich_help_panel=_OUTPUT, help="What to write; repeatable. The JSONs (sa1b) always are."
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", rich_help_panel=_OUTPUT, help="Look into folders within the folder too.")
    ] = False,
    tree: Annotated[
        bool, typer.Option("--tree", rich_help_panel=_OUTPUT, help="Add each mask's level and parent to the JSON.")
    ] = False,
    on_top: Annotated[
        OnTop, typer.Option(rich_help_panel=_OUTPUT, help="Which of overlapping masks a label map shows.")
    ] = OnTop.small,
    cover: Annotated[
        bool,
        typer.Option("--cover", rich_help_panel=_OUTPUT, help="Leave no gap in label maps: nearest mask's number."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=_OUTPUT, help="Start over where DIR holds results already.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel=_OUTPUT, help="Print a summary as JSON, and nothing else.")
    ] = False,
    preset: Annotated[
        Preset, typer.Option(rich_help_panel=_MASKS, help="The preset that the options below change.")
    ] = Preset.balanced,
    points_per_side: Annotated[int | None, _option("Points a side of the grid.", "N")] = None,
    points_per_batch: Annotated[int | None, _option("Points that the decoder is asked about at a time.", "N")] = None,
    pred_iou_thresh: Annotated[float | None, _option("The least predicted IoU.", "X")] = None,
    stability_score_thresh: Annotated[float | None, _option("The least stability.", "X")] = None,
    stability_score_offset: Annotated[float | None, _option("The stability's cuts lie this far apart.", "X")] = None,
    box_nms_thresh: Annotated[float | None, _option("The IoU above which a mask repeats another.", "X")] = None,
    crop_n_layers: Annotated[int | None, _option("Layers of crops; layer i has 2^i x 2^i.", "N")] = None,
    crop_nms_thresh: Annotated[float | None, _option("The same for masks of different crops.", "X")] = None,
    crop_overlap_ratio: Annotated[float | None, _option("The crops' overlap, of the short side.", "X")] = None,
    crop_n_points_downscale_factor: Annotated[int | None, _option("Fewer points per layer, by this.", "N")] = None,
    point_grids: Annotated[
        Path | None, _option("Points for each layer: JSON, a list of lists of [x, y] from 0 to 1.", "FILE")
    ] = None,
    min_mask_region_area: Annotated[int | None, _option("Remove islands and holes of fewer pixels.", "N")] = None,
    nms: Annotated[Nms | None, _option("Compare boxes or masks.")] = None,
    adaptive: Annotated[
        bool | None,
        typer.Option(
            "--adaptive/--no-adaptive", rich_help_panel=_MASKS, help="Skip points that masks explain already."
        ),
    ] = None,
    max_area_fraction: Annotated[float | None, _option("Drop masks of this share of the image.", "X")] = None,
    memory_limit: Annotated[int | None, _option("Bytes to hold besides image and model.", "BYTES")] = None,
    tile: Annotated[int | None, _option("Go tile by tile of N pixels per side.", "N", _TILES)] = None,
    overlap: Annotated[
        int | None, _option("How far tiles overlap; a quarter of them if left out.", "N", _TILES)
    ] = None,
    model: Model = "anymask-s",
    device: Device = "auto",
    runtime: Runtime = "auto",
    threads: Threads = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Images encoded at a time: 4 on a GPU, else 1.")
    ] = None,
    offline: Offline = False,
) -> int:
    """Segment everything, without prompts.

    Writes <stem>.json for each image, in SA-1B's layout and where the image lies in its folder; if asked for
    annotations.coco.json of all, <stem>_labels.png and <stem>_overlay.jpg. An interrupted call is resumed when it is
    repeated. Images that cannot be read are passed over and named; the exit status is 1 then.
    """
    given = {
        "points_per_side": points_per_side,
        "points_per_batch": points_per_batch,
        "pred_iou_thresh": pred_iou_thresh,
        "stability_score_thresh": stability_score_thresh,
        "stability_score_offset": stability_score_offset,
        "box_nms_thresh": box_nms_thresh,
        "crop_n_layers": crop_n_layers,
        "crop_nms_thresh": crop_nms_thresh,
        "crop_overlap_ratio": crop_overlap_ratio,
        "crop_n_points_downscale_factor": crop_n_points_downscale_factor,
        "point_grids": point_grids,
        "min_mask_region_area": min_mask_region_area,
        "nms": None if nms is None else nms.value,
        "adaptive": adaptive,
        "max_area_fraction": max_area_fraction,
        "memory_limit": memory_limit,
    }
    jobs = list_jobs(source, output, recursive=recursive)
    check_folder(output)
    if not source.is_dir():
        check_image(source, model)

    from anymask.workflows.folder_run import FolderRun, tiling

    run = FolderRun(
        jobs=jobs,
        output=output,
        is_folder=source.is_dir(),
        formats=tuple(formats or ()),
        tree=tree,
        on_top=on_top.value,
        cover=cover,
        overwrite=overwrite,
        tiling=tiling(tile, overlap),
    )
    options = _options(preset.value, given)
    network = open_model(model, offline=offline, device=device, runtime=runtime, threads=threads)
    with everything_progress(len(run.jobs)) as bar:
        result = run.run(network, options, name=model, batch_size=batch_size, progress=bar.folder)
    for failure in result.failed:
        typer.echo(f"anymask: passed over {failure['error']}", err=True)
    if as_json:
        typer.echo(json.dumps({"output": str(output), "model": model, **asdict(result)}))
    else:
        _report(run, result)
    return SOME_FAILED if result.failed else 0


def _options(preset: str, given: Mapping[str, Any]) -> AutomaticOptions:
    """Return a preset's options with those replaced that were given (not None). Raises InputError."""
    from anymask.inference import AutomaticOptions

    replaced = {name: value for name, value in given.items() if value is not None}
    if "point_grids" in replaced:
        if "points_per_side" in replaced:
            raise InputError("--points-per-side and --point-grids both say where the points are: give one of them")
        replaced |= {"point_grids": _read_grids(replaced["point_grids"]), "points_per_side": None}
    return AutomaticOptions.preset(preset, **replaced)


def _read_grids(path: Path) -> list[Any]:
    from anymask.data.json_files import read_json

    try:
        grids = read_json(path)
    except DataError as error:
        raise InputError(f"--point-grids {path}: cannot be read as JSON ({error})") from error
    if not isinstance(grids, list):
        raise InputError(f"--point-grids {path}: a list of grids was expected, each a list of [x, y] from 0 to 1")
    return grids


def _report(run: FolderRun, result: FolderResult) -> None:
    """Print where the files of a lone image or the data set are, and what was done."""
    if len(run.jobs) == 1:
        kinds = dict.fromkeys(kind for kind in (ResultFormat.sa1b, *run.formats) if kind is not ResultFormat.coco)
        for kind in kinds:
            typer.echo(f"{kind:8} {run.jobs[0].path(run.output, kind)}")
    if ResultFormat.coco in run.formats:
        typer.echo(f"{ResultFormat.coco:8} {run.output / COCO_FILE}")
    parts = [f"{result.made} images", f"{result.masks} masks", f"{result.seconds:.1f} s"]
    if result.found:
        parts.append(f"{result.found} were done before")
    if result.failed:
        parts.append(f"{len(result.failed)} could not be read")
    typer.echo(f"{run.output}: {', '.join(parts)}")
