"""`anymask train regions`: masks for photographs that have none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymask.data.files import check_folder


def regions(
    photographs: Annotated[
        list[Path], typer.Argument(metavar="PHOTOS", help="Folders, tars or annotation files of photographs.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where tars go; made if need be.")],
    per_shard: Annotated[int, typer.Option(min=1, help="Photographs to a tar.")] = 200,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Take this model's surest masks; a name, or a path.")
    ] = None,
) -> None:
    """Find regions of photographs that nobody has labelled, and write them as tars in SA-1B's layout.

    They are few and sure: what stands out by itself, found without a model, or with --model the masks that this model
    is sure of. Tars that are there already are passed over, so an interrupted call can be repeated.
    """
    from rich.console import Console
    from rich.progress import track

    from anymask.data.open import open_images
    from anymask.data.region_shards import write_regions

    check_folder(output)
    found = open_images(
        sorted(photographs, key=lambda place: Path(place).is_dir())
    )  # tars first, as runs that go on began
    if model is None:
        paths = write_regions(found, output, per_shard=per_shard)
    else:
        from anymask.checkpoints import load_model
        from anymask.training.own_masks import OwnMasks

        paths = write_regions(found, output, find=OwnMasks(load_model(model)), name="own", per_shard=per_shard)
    total = -(-len(found) // per_shard)
    for path in track(paths, "looking", total=total, console=Console(stderr=True), transient=True):
        typer.echo(path)
