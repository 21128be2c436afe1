"""`anymask edges`: the edges of the objects that the model sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from anymask.cli.arguments import check_image
from anymask.cli.weights import Device, Model, Offline, open_model
from anymask.data.files import check_folder
from anymask.errors import OutputError


def edges(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A photograph: JPEG, PNG, TIFF, WebP, …")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.png", help="Where the edges go, in grey.")],
    points_per_side: Annotated[int, typer.Option(min=1, help="Points of the grid along either side.")] = 16,
    thick: Annotated[bool, typer.Option("--thick", help="Do not thin the edges to their crests.")] = False,
    model: Model = "anymask-s",
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written, as JSON.")] = False,
    offline: Offline = False,
) -> None:
    """Draw the edges in an image: black where there is none, white where the model is surest of one."""
    if output.suffix.lower() not in (".png", ".tif", ".tiff", ".webp", ".jpg", ".jpeg"):
        raise OutputError(f"{output}: {output.suffix or 'no suffix'} names no image format; .png would")
    check_folder(output.parent)
    check_image(image, model)

    from anymask.data.files import make_folder, write_image_atomic
    from anymask.inference.edges import EdgeOptions, Edges, to_grey

    options = EdgeOptions(points_per_side=points_per_side, thin=not thick)
    network = open_model(model, offline=offline, device=device, runtime="auto")
    strength = Edges(network, options).detect(image)
    make_folder(output.parent)
    write_image_atomic(output, to_grey(strength))
    if as_json:
        height, width = strength.shape
        record = {"file": str(output), "width": width, "height": height, "edge_pixels": int((strength > 0).sum())}
        typer.echo(json.dumps({**record, "model": model}))
    else:
        typer.echo(f"edges    {output}")
