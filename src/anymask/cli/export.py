"""`anymask export`: models as ONNX files, proof that they are right, embeddings as NumPy files, the page as a site."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.weights import Device, Model, Offline, open_model

if TYPE_CHECKING:
    from anymask.export.verify import Verdict

FAILED = 1

app = typer.Typer(help="Export models to ONNX, verify exported files, and write embeddings or a web site.")


class ExportPart(StrEnum):
    """What can be exported."""

    encoder = "encoder"
    decoder = "decoder"
    image = "image"
    prompt = "prompt"
    meta = "meta"
    all = "all"


@app.command(epilog="Example: anymask export onnx anymask-s -o exported --int8")
def onnx(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name of `anymask models list`, or a path.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where files go; made if need be.")],
    part: Annotated[
        list[ExportPart] | None,
        typer.Option(
            help="encoder; decoder, for many prompts at once; image and prompt, the decoder split in what is run once "
            "per image and per click; meta, with the inputs and outputs of Meta's exported decoder. May be repeated."
        ),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Write each file with 8-bit weights, too.")] = False,
    opset: Annotated[int, typer.Option(min=18, max=20, help="The version of ONNX's operators; 20 is fastest.")] = 20,
    all_masks: Annotated[
        bool, typer.Option("--all-masks", help="Let meta return all four masks, not the best for the number of points.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what model.json says.")] = False,
    offline: Offline = False,
) -> None:
    """Write a model as ONNX files, one per part, and model.json, which says what a program must know of them."""
    from anymask.data.files import check_folder
    from anymask.export.description import require_packages
    from anymask.export.onnx import export_onnx, parts_of
    from anymask.export.parts import PARTS

    require_packages()
    check_folder(output)
    loaded = open_model(model, offline=offline, device="cpu")
    asked = {one.value for one in part or [ExportPart.all]}
    parts = parts_of(loaded) if "all" in asked else tuple(one for one in PARTS if one in asked)
    description = export_onnx(
        loaded,
        output,
        name=Path(model).name if Path(model).exists() else model,
        parts=parts,
        licence=_licence(model),
        opset=opset,
        int8=int8,
        return_single_mask=not all_masks,
        report=lambda name: typer.echo(f"writing {name} …", err=True),
    )
    if as_json:
        typer.echo(description.to_json(), nl=False)
        return
    for file in description.files:
        typer.echo(f"{output / file.file}  {file.bytes / 1e6:,.1f} MB")
    typer.echo(output / "model.json")


def _licence(name: str) -> str | None:
    """Return the licence of a model that has a name; that of a file is its owner's to say."""
    from anymask.checkpoints.hub import CATALOGUE
    from anymask.checkpoints.places import EMBEDDED

    if name in CATALOGUE:
        return CATALOGUE[name].licence
    return "Apache-2.0" if name in EMBEDDED else None


@app.command(epilog="Example: anymask export verify exported")
def verify(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR|FILE…", help="A folder of exports, or files of one.")],
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model; by default, the one that the files name.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Photographs to try, with some prompts each.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other prompts.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of ONNX Runtime.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    offline: Offline = False,
) -> int:
    """Compare exported files in ONNX Runtime with the model in torch, on photographs and random prompts.

    Exit status 1 if a logit differs by over 0.001, over 0.1 % of pixels change, or an int8 file's IoU is under 0.9.
    """
    from anymask.export.description import require_packages
    from anymask.export.verify import find_files, open_exported
    from anymask.export.verify import verify as compare

    require_packages()
    exported = [open_exported(path, threads=threads) for path in find_files(paths)]
    loaded = open_model(model or exported[0].description.name, offline=offline, device="cpu")
    verdicts = list(compare(loaded, exported, rounds=rounds, seed=seed))
    if as_json:
        typer.echo(json.dumps([asdict(verdict) | {"passed": verdict.passed} for verdict in verdicts], indent=1))
    else:
        _print_verdicts(verdicts)
    return 0 if all(verdict.passed for verdict in verdicts) else FAILED


def _print_verdicts(verdicts: list[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("file", "MB", "masks", "largest difference", "pixels changed", "IoU loss", ""):
        table.add_column(title, justify="left" if title in ("file", "") else "right")
    for verdict in verdicts:
        table.add_row(
            verdict.file,
            f"{verdict.megabytes:.1f}",
            f"{verdict.masks}",
            f"{verdict.largest:.1e}",
            f"{verdict.pixels:.3%}",
            f"{1 - verdict.iou:.4f}",
            "as the model" if verdict.passed else "DIFFERS",
        )
    Console().print(table)


@app.command("x-anylabeling", epilog="Example: anymask export x-anylabeling anymask-s -o labeling")
def x_anylabeling(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name of `anymask models list`, or a path.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where files go; made if need be.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the tool's list of models calls it; by default, as MODEL.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the files' paths as a JSON list.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
) -> None:
    """Write a model for X-AnyLabeling or AnyLabeling: two ONNX files, and a YAML file for "Load Custom Model"."""
    from anymask.data.files import check_folder
    from anymask.export.description import require_packages
    from anymask.export.x_anylabeling import export_x_anylabeling

    require_packages()
    check_folder(output)
    paths = export_x_anylabeling(
        open_model(model, offline=offline, device="cpu"),
        output,
        name=name or (Path(model).stem if Path(model).exists() else model),
        display_name=name,
        report=lambda file: typer.echo(f"writing {file} …", err=True),
    )
    if as_json:
        typer.echo(json.dumps([str(path) for path in paths]))
        return
    for path in paths:
        typer.echo(path)


@app.command(epilog="Example: anymask export embedding coffee.jpg -o coffee.npy")
def embedding(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A photograph: JPEG, PNG, TIFF, WebP, …")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.npy", help="Where the embedding goes.")],
    model: Model = "anymask-s",
    device: Device = "auto",
    offline: Offline = False,
) -> None:
    """Encode an image, and write its embedding: float32, (1, channels, height, width), as Meta's demo page reads it.

    What more some models have of an image goes beside it: FILE_hq.npy of SAM-HQ, FILE_skip2.npy and FILE_skip4.npy of
    models with skips. `Predictor.set_embedding` takes the file's path.
    """
    from anymask.inference import Predictor
    from anymask.inference.embeddings import check_npy_name, write_npy

    check_npy_name(output)
    predictor = Predictor(open_model(model, offline=offline, device=device))
    predictor.set_image(image)
    for path in write_npy(output, predictor.image.embedding):
        typer.echo(path)


@app.command(epilog="Example: anymask export web site --int8")
def web(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the site goes: an empty folder, or a new one.")],
    model: Model = "anymask-s",
    int8: Annotated[
        bool, typer.Option("--int8", help="8-bit weights: a smaller download, masks a little off.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what models/model.json says.")] = False,
    offline: Offline = False,
) -> None:
    """Write the browser tool as a static site that segments without a server of ours: the encoder runs in the page,
    too.

    README.txt in the folder says how to serve it.
    """
    from anymask.data.files import check_folder
    from anymask.export.description import require_packages
    from anymask.export.web import check_site, export_web, packaged_page

    require_packages()
    packaged_page()
    check_folder(folder)
    check_site(folder)
    description = export_web(
        open_model(model, offline=offline, device="cpu"),
        folder,
        name=Path(model).name if Path(model).exists() else model,
        licence=_licence(model),
        int8=int8,
        report=lambda name: typer.echo(f"writing {name} …", err=True),
    )
    if as_json:
        typer.echo(description.to_json(), nl=False)
        return
    downloaded = sum(file.bytes for file in description.files)
    typer.echo(f"{folder}  the model is {downloaded / 1e6:,.1f} MB; try it by")
    typer.echo(f"python -m http.server --bind 127.0.0.1 --directory {shlex.quote(str(folder))}")
