"""`anymask similar`: find more like this in other images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from anymask.cli.arguments import check_image, read_prompts
from anymask.cli.terminal import everything_progress
from anymask.cli.weights import Device, Model, Offline, open_model
from anymask.data.files import check_folder
from anymask.errors import ImageError, InputError


def similar(
    example: Annotated[Path, typer.Argument(metavar="EXAMPLE", help="The image with the thing to look for.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Images and folders to look in.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where files go; made if need be.")],
    point: Annotated[
        list[str] | None, typer.Option(metavar="X,Y[,0|1]", help="A click on the thing; several are one prompt.")
    ] = None,
    box: Annotated[list[str] | None, typer.Option(metavar="X0,Y0,X1,Y1", help="A box around it.")] = None,
    mask: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Its mask: black and white.")] = None,
    min_similarity: Annotated[
        float, typer.Option(min=-1, max=1, help="How like it a region must be: 1 is the same, 0 unrelated.")
    ] = 0.4,
    max_results: Annotated[int, typer.Option(min=1, metavar="N", help="Most regions per image.")] = 200,
    model: Model = "anymask-s",
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the records, and no more.")] = False,
    offline: Offline = False,
) -> None:
    """Find what is like one thing in other images.

    Writes similar.json, every image's regions with how similar they are, and an overlay of each image that has any.
    """
    check_folder(output)
    typed = read_prompts(point or [], box or [], mask or [])
    if not typed.is_one:
        raise InputError("several boxes or masks are several things; give one thing to look for")
    check_image(example, model)
    paths = _files(images)

    from anymask.data.files import make_folder, write_image_atomic, write_text_atomic
    from anymask.geometry import rle
    from anymask.inference.answers import read
    from anymask.inference.similar import Similar, SimilarOptions
    from anymask.plots import draw_everything

    options = SimilarOptions(min_similarity=min_similarity, max_results=max_results)
    search = Similar(open_model(model, offline=offline, device=device, runtime="auto"), options)
    found = search.example(example, typed.prompts()[0])
    make_folder(output)
    records: list[dict[str, Any]] = []
    skipped = 0
    with everything_progress(len(paths)) as bar:
        bar.begin(0)
        for number, path in enumerate(paths, start=1):
            try:
                pixels = read(search.model, path)
            except ImageError as error:
                typer.echo(f"anymask: {error}", err=True)
                skipped += 1
                continue
            regions = search.find(pixels, found)
            name = None
            if regions:
                name = f"{number:04}_{path.stem}_similar.jpg"
                write_image_atomic(output / name, draw_everything(pixels, [region.rle for region in regions]))
            listed = [
                {
                    "segmentation": region.rle,
                    "bbox": list(rle.bbox(region.rle)),
                    "similarity": round(region.similarity, 4),
                    "predicted_iou": round(region.predicted_iou, 4),
                    "point_coords": [list(region.point)],
                }
                for region in regions
            ]
            records.append({"file_name": str(path), "overlay": name, "annotations": listed})
            bar.image(number)
    record = {"example": str(example), "model": model, "skipped": skipped, "images": records}
    write_text_atomic(output / "similar.json", json.dumps(record, indent=1) + "\n")
    if as_json:
        typer.echo(json.dumps(record))
        return
    total = sum(len(entry["annotations"]) for entry in records)
    typer.echo(f"similar  {output / 'similar.json'}  ({total} regions in {len(records)} images)")
    if skipped:
        typer.echo(f"skipped  {skipped} images that cannot be read")


def _files(given: list[Path]) -> list[Path]:
    """Return images in their order, folders unfolded; raises InputError for what is not there."""
    from anymask.data.listing import list_images

    paths: list[Path] = []
    for path in given:
        if not path.exists():
            raise InputError(f"there is no image or folder {path}")
        paths += list_images(path) if path.is_dir() else [path]
    if not paths:
        raise InputError(f"no image in {', '.join(map(str, given))}")
    return paths
