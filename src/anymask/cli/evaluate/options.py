"""Options that the verbs of `anymask evaluate` share, and what they stand for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymask.cli.terminal import everything_progress
from anymask.cli.weights import open_model
from anymask.errors import InputError

if TYPE_CHECKING:
    from anymask.inference.runtimes import AnyModel

Data = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA...",
        help="Tars or folders of SA-1B's layout, JSON files (COCO, LVIS, LabelMe), folders of images and masks.",
    ),
]
Images = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where the images of JSON files lie; by default near them.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Where results go; a stopped run is resumed there."),
]
MaxImages = Annotated[int | None, typer.Option(min=1, metavar="N", help="Draw N images per data set; by default all.")]
MaxMasks = Annotated[int | None, typer.Option(min=1, metavar="N", help="Draw N masks per image; by default all.")]
Seed = Annotated[int, typer.Option(help="Which part of the data is drawn.")]
Plain = Annotated[
    bool,
    typer.Option("--plain", help="Measure the network's first answers as they are, as published figures do."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of a table.")]


def open_named(name: str, *, offline: bool, device: str) -> tuple[AnyModel, str]:
    """Load a model, and return it with a name that no other weights have."""
    from anymask.workflows.evaluate_all import labelled

    model = open_model(name, offline=offline, device=device, runtime="auto")
    return model, labelled(short_name(name), model)


def short_name(name: str) -> str:
    """Return what tables call a model: its name, or its file's without the suffix; raises InputError."""
    path = Path(name)
    label = path.name.removesuffix(".safetensors").removesuffix(".pth").removesuffix(".pt")
    if not label:
        raise InputError(f"{name!r} names no model; see anymask models list")
    return label


def name_models(given: Sequence[str] | None) -> dict[str, str]:
    """Return models, or anymask-s, by what tables call them; raises InputError for two that are called the same."""
    names = {short_name(name): name for name in given or ["anymask-s"]}
    if len(names) < len(given or names):
        raise InputError(f"two of the models are called the same in a table: {', '.join(given or [])}")
    return names


@contextmanager
def set_progress(total: int) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far the images of several data sets are, as one bar; those of an earlier run pass at once."""
    with everything_progress(total) as bar:
        told = 0
        bar.begin(0)

        def progress(name: str, done: int, count: int) -> None:
            nonlocal told
            told += 1
            bar.image(told)

        yield progress


def tell(stem: str, values: Mapping[str, Any], text: str, *, output: Path | None, as_json: bool) -> None:
    """Write a result as <stem>.json and <stem>.md, where there is a folder for it, and print it as one of the two."""
    from anymask.evaluation.report import write_report

    if output is not None:
        write_report(output, stem, values, text)
    typer.echo(json.dumps(values) if as_json else text, nl=as_json)
