"""`anymask engine export` and `honeypot`: masks out of a project, and masks that nobody in it is shown."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from anymask.cli.engine.stages import AsJson, ProjectFolder, need_packages


class DataFormat(StrEnum):
    """What masks can be written as, in an export or a release; a test compares it with `engine.formats.FORMATS`."""

    sa1b = "sa1b"
    coco = "coco"
    yolo = "yolo"
    labels = "labels"
    cutouts = "cutouts"
    parquet = "parquet"
    webdataset = "webdataset"
    labelme = "labelme"


class Values(StrEnum):
    """What a label map's pixel says."""

    instance = "instance"
    class_ = "class"


class PeoplesStage(StrEnum):
    """Stages in which people draw."""

    assisted = "assisted"
    semi_automatic = "semi-automatic"


def export(
    project: ProjectFolder,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="WHERE", help="An empty or missing folder, or a file named *.zip.")
    ],
    format: Annotated[DataFormat, typer.Option(help="What is written.")] = DataFormat.coco,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="The images too; webdataset always has them, cut-outs never.")
    ] = False,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="coco, labelme: polygons where they say all of a mask.")
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(metavar="PIXELS", min=0, max=100, help="yolo, and polygons: outlines simpler by this much."),
    ] = 0.0,
    values: Annotated[Values, typer.Option(help="labels: what a pixel says.")] = Values.instance,
    as_json: AsJson = False,
) -> None:
    """Write the project's masks as they are in one format, whole or not at all; `release` makes a data set of them."""
    need_packages()
    from anymask.engine import formats
    from anymask.engine.store import open_project

    options = formats.FormatOptions(
        with_images=with_images,
        polygons=polygons,
        tolerance=tolerance,
        values="class" if values is Values.class_ else "instance",
    )
    with open_project(project, exclusive=False, create=False) as opened:
        done = formats.export(opened, output, format.value, options)
    if as_json:
        typer.echo(json.dumps({"export": str(output), **dataclasses.asdict(done)}))
    else:
        typer.echo(f"export   {output}: {done.images} images, {done.masks} masks, {done.files} files")


def honeypot(
    project: ProjectFolder,
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="Images with masks: whatever `anymask evaluate` and `finetune` take."),
    ],
    images: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder of a COCO file's images; near the file by default.")
    ] = None,
    stage: Annotated[
        PeoplesStage, typer.Option(help="The stage in whose queue people are given them.")
    ] = PeoplesStage.assisted,
    as_json: AsJson = False,
) -> None:
    """Put images whose masks are known among those that people work on, to see how well each of them draws.

    Images that are not in the project are imported by reference; their masks are kept where nobody sees them. `anymask
    engine check` and the dashboard show what people have reached.
    """
    need_packages()
    from anymask.engine.imports import read_data
    from anymask.engine.quality import add_honeypots
    from anymask.engine.store import open_project

    with open_project(project, exclusive=False, create=False) as opened:
        done = add_honeypots(opened, read_data(data, images=images), source=data, kind=stage.value)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(done)))
        return
    typer.echo(f"new      {done.images} images with {done.masks} masks that nobody is shown")
    if done.known:
        typer.echo(f"known    {done.known} images, honeypots already")
    if done.shown:
        typer.echo(f"left out {done.shown} images: masks of theirs are in the project, where people see them")
