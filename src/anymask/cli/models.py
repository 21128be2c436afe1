"""`anymask models`: what can be named, downloaded and converted."""

from __future__ import annotations

import json
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from anymask.cli.weights import Offline, Threads

app = typer.Typer(help="List, download, convert and tune models.")


class CheckpointFormat(StrEnum):
    """What `convert` can write."""

    native = "native"
    meta = "meta"
    huggingface = "huggingface"


class StoredType(StrEnum):
    """How `convert` stores parameters."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


@app.command(name="list", epilog="Example: anymask models list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Show every model that has a name, and whether it is on this machine."""
    from anymask.checkpoints.hub import CATALOGUE, locate
    from anymask.checkpoints.places import EMBEDDED, embedded_path

    rows = []
    for name in EMBEDDED:
        path = embedded_path(name)
        size = path.stat().st_size if path else None
        rows.append(_row(name, "native", size, path, "Apache-2.0", "The model that comes with the package"))
    rows += [
        _row(entry.name, entry.kind, entry.size, locate(entry), entry.licence, entry.description)
        for entry in CATALOGUE.values()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _print_table(rows)


def _row(
    name: str, kind: str, size: int | None, path: Path | None, licence: str, description: str
) -> dict[str, object]:
    return {
        "name": name,
        "kind": kind,
        "bytes": size,
        "path": None if path is None else str(path),
        "licence": licence,
        "description": description,
    }


def _print_table(rows: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (
        ("name", "left"),
        ("MB", "right"),
        ("here", "left"),
        ("licence", "left"),
        ("what it is", "left"),
    ):
        table.add_column(title, justify="right" if justify == "right" else "left", no_wrap=title == "name")
    for row in rows:
        size = row["bytes"]
        shown = f"{size / 1e6:,.0f}" if isinstance(size, int) else ""
        here = "yes" if row["path"] else ""
        table.add_row(str(row["name"]), shown, here, str(row["licence"]), str(row["description"]))
    Console().print(table)


@app.command(epilog="Example: anymask models download mobile-sam")
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `anymask models list`.")],
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network: only look it up.")] = False,
) -> None:
    """Fetch a model into the cache, check it against its published SHA-256, and print its path.

    An interrupted download is resumed. $ANYMASK_HOME moves the cache.
    """
    from anymask.checkpoints.hub import download as fetch
    from anymask.checkpoints.hub import find_entry
    from anymask.checkpoints.places import embedded_path
    from anymask.cli.terminal import download_progress

    built_in = embedded_path(name)
    if built_in is not None:
        typer.echo(built_in)
        return
    entry = find_entry(name)
    with download_progress() as report:
        path = fetch(entry, progress=report, offline=offline)
    typer.echo(path)


@app.command(epilog="Example: anymask models convert checkpoint.pth -o model.safetensors --dtype float16")
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A model's name, or a checkpoint's path.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="The file, or folder, to write.")],
    form: Annotated[
        CheckpointFormat, typer.Option("--format", help="Ours (native), Meta's .pth, or a Hugging Face folder.")
    ] = CheckpointFormat.native,
    dtype: Annotated[StoredType, typer.Option(help="How parameters are stored.")] = StoredType.float32,
    keep_memory: Annotated[
        bool, typer.Option("--keep-memory", help="Of SAM 2's checkpoints, keep what only videos need as well.")
    ] = False,
    image_size: Annotated[
        int | None, typer.Option(help="Side of the images it was trained on, where the file does not say.")
    ] = None,
    offline: Offline = False,
) -> None:
    """Rewrite a checkpoint in another format; what it answers stays the same, but for the rounding of the type."""
    import torch

    from anymask.checkpoints import read_memory, save_model
    from anymask.cli.weights import open_model

    model = open_model(source, offline=offline, device="cpu", image_size=image_size)
    memory = read_memory(source) if keep_memory else None
    save_model(model, output, form.value, getattr(torch, dtype.value), memory=memory)
    typer.echo(output)


@app.command(epilog="Example: anymask models average checkpoint.pth checkpoint.pth -o model.safetensors")
def average(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Names, or checkpoints' paths; two or more.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="The file to write, in our format.")],
    dtype: Annotated[StoredType, typer.Option(help="How parameters are stored.")] = StoredType.float32,
    offline: Offline = False,
) -> None:
    """Write one model of the mean parameters of several that were trained from the same weights.

    It is as fast as one of them, and often better than each.
    """
    import torch

    from anymask.checkpoints import average_models, save_model
    from anymask.cli.weights import open_model

    mean = average_models([open_model(source, offline=offline, device="cpu") for source in sources])
    save_model(mean, output, "native", getattr(torch, dtype.value))
    typer.echo(output)


@app.command(epilog="Example: anymask models publish checkpoint.pth -o upload --name me/pellets --licence cc-by-4.0")
def publish(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name of `anymask models list`, or a path.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write: new or empty.")],
    name: Annotated[str, typer.Option(metavar="ORG/NAME", help="What the repository will be called.")],
    licence: Annotated[str, typer.Option(metavar="ID", help="The licence of the weights, such as apache-2.0.")],
    description: Annotated[str, typer.Option(metavar="TEXT", help="A sentence on what it is for.")] = "",
    base: Annotated[str | None, typer.Option(metavar="NAME", help="The model that it was tuned from.")] = None,
    data: Annotated[
        str, typer.Option(metavar="TEXT", help="What it was trained on, and under which licence that is.")
    ] = "",
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON file of measured figures, each of which the card has.")
    ] = None,
    dtype: Annotated[StoredType, typer.Option(help="How parameters are stored.")] = StoredType.float32,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
) -> None:
    """Write a folder ready to be uploaded to the Hugging Face Hub: weights, config, card, and a twin for transformers.

    The twin is there where transformers has the model's kind. `hf upload ORG/NAME DIR` uploads it.
    """
    import torch

    from anymask.checkpoints.publish import Card, publish, read_scores
    from anymask.cli.weights import open_model

    card = Card(
        name=name,
        licence=licence,
        description=description,
        base=base,
        data=data,
        scores=None if scores is None else read_scores(scores),
    )
    loaded = open_model(model, offline=offline, device="cpu")
    for path in publish(loaded, output, card, dtype=getattr(torch, dtype.value)):
        typer.echo(path)


@app.command(epilog="Example: anymask models tune anymask-s")
def tune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name of `anymask models list`, or a path.")],
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the seconds as JSON.")] = False,
    offline: Offline = False,
) -> None:
    """Measure which runtime is fastest for a model on this machine's CPU, so that `--runtime auto` takes it.

    Those that are installed are compared: torch, onnxruntime, openvino. The first time, the model is exported into the
    cache, which takes up to minutes and the packages of the extra `export`. The figures hold for one number of threads.
    """
    import torch

    from anymask.cli.terminal import waiting
    from anymask.cli.weights import open_model
    from anymask.inference.runtimes.figures import measure
    from anymask.inference.runtimes.graphs import PARTS, graphs_folder, note_source

    loaded = open_model(model, offline=offline, device="cpu", threads=threads)
    with waiting("loading") as say:
        figures = measure(loaded, threads=torch.get_num_threads(), report=say)
    note_source(model, graphs_folder(loaded))
    if as_json:
        typer.echo(json.dumps(figures))
        return
    typer.echo(f"{'milliseconds':14}{'encoder':>10}{'one click':>12}{'16 clicks':>12}")
    for name, seconds in figures.items():
        encoder, click, batch = (1e3 * seconds.get(part, math.nan) for part in PARTS)
        typer.echo(f"{name:14}{encoder:10.1f}{click:12.1f}{batch:12.1f}")
