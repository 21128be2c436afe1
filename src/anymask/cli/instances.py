"""`anymask instances`: a detector's boxes to masks, over any number of images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.outputs import check_folder
from anymask.cli.terminal import everything_progress
from anymask.cli.weights import Device, open_model
from anymask.errors import InputError

if TYPE_CHECKING:
    from anymask.inference.instances import Detection, ImageId, Instances


def instances(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="An image, or a folder of them.")],
    detections: Annotated[Path, typer.Argument(metavar="DETECTIONS.json", help="A detector's boxes: COCO's results.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.json", help="Where the masks go.")],
    annotations: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file of COCO's layout that says which image an image_id is."),
    ] = None,
    refinements: Annotated[int, typer.Option(min=0, help="How often a mask is fed back with its box.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Images encoded at a time.")] = 4,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="A name of `anymask models list`, or a checkpoint's path.")
    ] = "anymask-s",
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done, as JSON.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never touch the network.")] = False,
) -> None:
    """Turn the boxes of any detector into masks, as COCO's results.

    An image_id is a file's name, with or without its suffix, or the number that its name is, unless --annotations
    says it. Boxes without an area in their image, and those of images that are not there, are left out and counted.
    """
    from anymask.data.files import make_folder, write_whole
    from anymask.inference.instances import Instances, read_detections

    check_folder(output.parent)
    boxes = read_detections(detections)
    files = find_images(images, boxes, annotations)
    missing = sum(len(found) for image_id, found in boxes.items() if image_id not in files)
    loaded = Instances(
        open_model(model, offline=offline, device=device), refinements=refinements, batch_size=batch_size
    )
    make_folder(output.parent)
    written = 0

    def write(temporary: Path) -> None:
        nonlocal written
        with temporary.open("w", encoding="utf-8") as file:
            file.write("[")
            for entry in _entries(loaded, files, boxes):
                file.write((",\n" if written else "\n") + entry)
                written += 1
            file.write("\n]\n")

    write_whole(output, write)
    flat = sum(len(boxes[image_id]) for image_id in files) - written
    if as_json:
        record = {"file": str(output), "images": len(files), "masks": written}
        typer.echo(json.dumps({**record, "boxes_without_area": flat, "boxes_without_image": missing, "model": model}))
        return
    typer.echo(f"masks    {output}  ({written:,} of {len(files):,} images)")
    if flat or missing:
        typer.echo(f"left out {flat:,} boxes without an area in their image, {missing:,} of images that are not there")


def find_images(
    images: Path, boxes: Mapping[ImageId, Sequence[Detection]], annotations: Path | None
) -> dict[ImageId, Path]:
    """Return the file of each image that has boxes and is there; raises InputError where none is."""
    from anymask.data.folder import IMAGE_SUFFIXES

    if not images.exists():
        raise InputError(f"there is no image or folder {images}")
    found: dict[ImageId, Path] = {}
    if annotations is not None:
        from anymask.evaluation.coco_truth import file_name, find_image, read_coco

        folder = images if images.is_dir() else images.parent
        for entry in read_coco(annotations)["images"]:
            path = find_image(folder, file_name(entry))
            if entry.get("id") in boxes and path.is_file():
                found[entry["id"]] = path
    else:
        paths = sorted(images.iterdir()) if images.is_dir() else [images]
        for path in paths:
            number: list[ImageId] = [int(path.stem)] if path.stem.isdecimal() else []
            if path.suffix.lower() in IMAGE_SUFFIXES:
                found |= {name: path for name in (path.name, path.stem, *number) if name in boxes}
    if not found:
        example = next(iter(boxes), None)
        what = "the file has no boxes" if example is None else f"none of its images is in {images}, such as {example!r}"
        raise InputError(f"{what}; image_id must be a file's name or number, or give --annotations")
    return found


def _entries(
    loaded: Instances, files: Mapping[ImageId, Path], boxes: Mapping[ImageId, Sequence[Detection]]
) -> Iterator[str]:
    """Yield each mask as JSON."""
    with everything_progress(len(files)) as bar:
        bar.begin(0)
        made = loaded.segment_many((path, boxes[image_id]) for image_id, path in files.items())
        for done, (image_id, (_, found)) in enumerate(zip(files, made, strict=True), start=1):
            for instance in found:
                yield json.dumps(instance.to_coco(image_id), separators=(",", ":"))
            bar.image(done)
