"""`anymask instances`: a detector's boxes to masks, over any number of images."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.terminal import SOME_FAILED, everything_progress
from anymask.cli.weights import Device, Model, Offline, open_model
from anymask.data.files import check_folder
from anymask.errors import ImageError, InputError, OutputError

if TYPE_CHECKING:
    from anymask.evaluation.result_log import ResultLog
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
    model: Model = "anymask-s",
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done, as JSON.")] = False,
    offline: Offline = False,
) -> int:
    """Turn the boxes of any detector into masks, as COCO's results.

    An image_id is a file's name, with or without its suffix, or the number that its name is, unless --annotations says
    it. Boxes without an area in their image, and those of images that are not there, are left out and counted. Images
    that cannot be read are passed over and named; the exit status is 1 then. An interrupted call is resumed when it is
    repeated.
    """
    from anymask.data.files import make_folder
    from anymask.evaluation.result_log import ResultLog
    from anymask.inference.instances import Instances, read_detections
    from anymask.inference.runtimes import weights_hash

    check_folder(output.parent)
    if output.is_dir():
        raise OutputError(f"{output}: is a folder, the name of a file was expected")
    boxes = read_detections(detections)
    files = find_images(images, boxes, annotations)
    missing = sum(len(found) for image_id, found in boxes.items() if image_id not in files)
    network = open_model(model, offline=offline, device=device, runtime="auto")
    make_folder(output.parent)
    settings = {"model": weights_hash(network), "channels": network.channels, "refinements": refinements}
    result_log = ResultLog(output.with_name(f".{output.stem}-journal.jsonl"), settings)
    loaded = Instances(network, refinements=refinements, batch_size=batch_size)
    keys, failed = _segment(loaded, files, boxes, result_log)
    written = _write(output, result_log, set(keys.values())) if keys else 0
    result_log.path.unlink()
    if not keys:
        raise ImageError(f"none of {len(files)} images can be used; the first: {failed[0]['error']}")
    for failure in failed:
        typer.echo(f"anymask: passed over {failure['error']}", err=True)
    flat = sum(len(boxes[image_id]) for image_id in keys) - written
    if as_json:
        record = {"file": str(output), "images": len(keys), "masks": written, "failed": failed}
        typer.echo(json.dumps({**record, "boxes_without_area": flat, "boxes_without_image": missing, "model": model}))
    else:
        typer.echo(f"masks    {output}  ({written:,} of {len(keys):,} images)")
        if flat or missing:
            typer.echo(
                f"left out {flat:,} boxes without an area in their image, {missing:,} of images that are not there"
            )
        if failed:
            typer.echo(f"skipped  {len(failed):,} images that cannot be read")
    return SOME_FAILED if failed else 0


def find_images(
    images: Path, boxes: Mapping[ImageId, Sequence[Detection]], annotations: Path | None
) -> dict[ImageId, Path]:
    """Return the file of each image that has boxes and is there; raises InputError where none is."""
    from anymask.data.listing import list_images

    if not images.exists():
        raise InputError(f"there is no image or folder {images}")
    found: dict[ImageId, Path] = {}
    if annotations is not None:
        from anymask.data.readers.coco_document import read_document
        from anymask.data.readers.file_names import FileIndex

        entries = read_document(annotations, strict=False).images
        index = FileIndex(images if images.is_dir() else images.parent, [entry.file_name for entry in entries])
        found = {e.id: index.find(e.file_name) for e in entries if e.id in boxes and index.has(e.file_name)}
    else:
        for path in list_images(images) if images.is_dir() else [images]:
            number: list[ImageId] = [int(path.stem)] if path.stem.isdecimal() else []
            found |= {name: path for name in (path.name, path.stem, *number) if name in boxes}
    if not found:
        example = next(iter(boxes), None)
        what = "the file has no boxes" if example is None else f"none of its images is in {images}, such as {example!r}"
        raise InputError(f"{what}; image_id must be a file's name or number, or give --annotations")
    return found


def _segment(
    loaded: Instances,
    files: Mapping[ImageId, Path],
    boxes: Mapping[ImageId, Sequence[Detection]],
    result_log: ResultLog,
) -> tuple[dict[ImageId, str], list[dict[str, str]]]:
    """Leave each image's masks in the result_log; return under which keys, and `file` and `error` of unreadable
    images."""
    from anymask.data.sample import fingerprint

    keys = {i: fingerprint(i, path, [dataclasses.astuple(box) for box in boxes[i]]) for i, path in files.items()}
    kept = {key for key, _ in result_log.read()}
    failed: list[dict[str, str]] = []
    waiting = [image_id for image_id in files if keys[image_id] not in kept]
    with everything_progress(len(files)) as bar:
        bar.begin(len(files) - len(waiting))
        made = 0
        while waiting:
            done = 0
            try:
                for _, found in loaded.segment_many([(files[image_id], boxes[image_id]) for image_id in waiting]):
                    image_id = waiting[done]
                    result_log.append(keys[image_id], [instance.to_coco(image_id) for instance in found])
                    done, made = done + 1, made + 1
                    bar.image(made)
            except ImageError as error:  # of the image after those that were yielded
                failed.append({"file": str(files[waiting[done]]), "error": str(error)})
                del keys[waiting[done]]
                done += 1
                bar.image()
            waiting = waiting[done:]
    return keys, failed


def _write(output: Path, result_log: ResultLog, keys: Set[str]) -> int:
    """Write the masks of some of a result_log's images as COCO's results; return how many there are."""
    from anymask.data.files import write_whole

    written = 0

    def write(temporary: Path) -> None:
        nonlocal written
        with temporary.open("w", encoding="utf-8") as file:
            file.write("[")
            for key, entries in result_log.read():
                for entry in entries if key in keys else []:
                    file.write((",\n" if written else "\n") + json.dumps(entry, separators=(",", ":")))
                    written += 1
            file.write("\n]\n")

    write_whole(output, write)
    return written
