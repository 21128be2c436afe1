"""Making a release: images one after the other into every format at once, then the card and the checksums."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from PIL import Image

from anymask.data.files import make_folder
from anymask.data.images import read_header
from anymask.engine import pairs
from anymask.engine.pictures import HELD_OUT, image_bytes, read_picture, split_of
from anymask.engine.release.blurring import FindPrivate, blur, blurrer
from anymask.engine.release.card import write_card
from anymask.engine.release.measures import Measures
from anymask.engine.release.writers import CocoFile, Item, PairTars, ParquetFile, Writer
from anymask.engine.store import Annotation, EngineSettings, Project, StoredImage
from anymask.errors import DataError, InputError, OutputError
from anymask.geometry import rle

FORMATS = ("sa1b", "coco", "webdataset", "parquet")
CHECKSUMS = "SHA256SUMS"
_QUALITY = 92


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePlan:
    """What is released and how; raises InputError for a format that is none."""

    formats: tuple[str, ...] = ("sa1b", "coco", "parquet")
    short_side: int | None = None
    """Larger images are made this small, as SA-1B's, of 1500 pixels; None leaves all as they are."""
    blur: str = "auto"
    """auto, opencv, none, or a detector's .onnx (`blurrer`)."""
    images_a_tar: int = 1000

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise InputError(f"there is no format {unknown[0] if unknown else ''!r}; there are {', '.join(FORMATS)}")
        if self.short_side is not None and self.short_side < 1:
            raise InputError(f"short_side is {self.short_side}; give at least 1 pixel")
        if self.images_a_tar < 1:
            raise InputError(f"images_a_tar is {self.images_a_tar}; give at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What was made."""

    folder: Path
    images: int
    masks: int
    files: int
    summary: Mapping[str, Any]


def release(
    project: Project,
    folder: Path,
    plan: ReleasePlan | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Released:
    """Release every image that has masks into an empty or missing folder, whole or not at all.

    Splits are the project's: "val" is what no model was trained on. Raises OutputError where the folder holds
    something, or DataError where the project has no mask.
    """
    plan = plan or ReleasePlan()
    if folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder}: is not empty; a release needs a folder of its own")
    find, said = blurrer(plan.blur)
    make_folder(folder.parent)
    staging = folder.absolute().parent / f".{folder.name}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    make_folder(staging)
    try:
        measures = _write(project, staging, plan, find, progress)
        write_card(staging, project.name, measures, plan.formats, said)
        files = _checksums(staging)
        if folder.exists():
            folder.rmdir()
        os.replace(staging, folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    summary = measures.summary()
    return Released(folder=folder, images=summary["images"], masks=summary["masks"], files=files, summary=summary)


def _write(
    project: Project,
    folder: Path,
    plan: ReleasePlan,
    find: FindPrivate | None,
    progress: Callable[[int, int], None] | None,
) -> Measures:
    chosen = [image for image in project.images.all() if image.num_annotations]
    if not chosen:
        raise DataError(f"{project.folder}: there is nothing to release, no image has a mask")
    measures = Measures()
    with ExitStack() as stack:
        writers = _writers(project, folder, plan)
        for writer in writers:
            stack.callback(writer.close)  # also where an image cannot be read, or its tar would stay open
        for done, item in enumerate(_items(project, chosen, plan, find), start=1):
            measures.add(item.records, item.origins, item.size)
            for writer in writers:
                writer.add(item)
            if progress is not None:
                progress(done, len(chosen))
    return measures


def _writers(project: Project, folder: Path, plan: ReleasePlan) -> list[Writer]:
    tars = {"sa1b": "{split}/sa_{number:06d}.tar", "webdataset": "{split}-{number:06d}.tar"}
    made: list[Writer] = [
        PairTars(folder / name, pattern, plan.images_a_tar) for name, pattern in tars.items() if name in plan.formats
    ]
    if "coco" in plan.formats:
        made.append(CocoFile(folder / "coco", project.classes.current().classes, with_images=not made))
    if "parquet" in plan.formats:
        made.append(ParquetFile(folder / "parquet"))
    return made


def _items(project: Project, chosen: list[StoredImage], plan: ReleasePlan, find: FindPrivate | None) -> Iterator[Item]:
    settings = project.settings.current()
    classes = {each.id for each in project.classes.current().classes}
    for image in chosen:
        annotations = project.annotations.state(image.id).annotations
        encoded, suffix, size = _encoded(project, image, plan, find)
        records = pairs.records(annotations, image.size)
        if size != image.size:
            records = [_resized(record, image.size, size) for record in records]
        kept = [index for index, record in enumerate(records) if record["area"]]
        yield Item(
            image=image,
            split=_split(image, settings),
            stem=f"sa_{image.id:09d}",
            suffix=suffix,
            encoded=encoded,
            size=size,
            records=[records[index] for index in kept],
            origins=[_origin(annotations[index]) for index in kept],
            class_ids=[known if (known := annotations[index].class_id) in classes else None for index in kept],
        )


def _split(image: StoredImage, settings: EngineSettings) -> str:
    return "val" if split_of(image, settings) == HELD_OUT else "train"


def _origin(each: Annotation) -> str:
    return "unknown" if each.provenance is None else each.provenance.origin


def _encoded(
    project: Project, image: StoredImage, plan: ReleasePlan, find: FindPrivate | None
) -> tuple[bytes, str, tuple[int, int]]:
    """Return the image's file, its suffix and (height, width); as it is where nothing has to be done to it."""
    encoded = image_bytes(project, image)
    header = read_header(encoded)
    suffix = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}.get(header.format)
    short = min(image.size)
    shrinks = plan.short_side is not None and short > plan.short_side
    if suffix and header.is_upright and header.is_simple and not shrinks and find is None:
        return encoded, suffix, image.size
    pixels = read_picture(project, image)
    if shrinks:
        assert plan.short_side is not None
        height, width = (round(side * plan.short_side / short) for side in image.size)
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))
    if find is not None:
        pixels = blur(pixels, find(pixels))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue(), "jpg", (pixels.shape[0], pixels.shape[1])


def _resized(record: dict[str, Any], old: tuple[int, int], new: tuple[int, int]) -> dict[str, Any]:
    """Return a mask at another size, by the nearest pixels."""
    rows = np.minimum(((np.arange(new[0]) + 0.5) * old[0] / new[0]).astype(np.int64), old[0] - 1)
    columns = np.minimum(((np.arange(new[1]) + 0.5) * old[1] / new[1]).astype(np.int64), old[1] - 1)
    mask = rle.encode(rle.decode_grid(record["segmentation"], rows, columns))
    x, y = new[1] / old[1], new[0] / old[0]
    crop = [round(value * scale) for value, scale in zip(record["crop_box"], (x, y, x, y), strict=True)]
    return record | {
        "segmentation": mask,
        "bbox": list(rle.bbox(mask)),
        "area": rle.area(mask),
        "crop_box": crop,
        "point_coords": [[round(px * x, 3), round(py * y, 3)] for px, py in record["point_coords"]],
    }


def _checksums(folder: Path) -> int:
    """Write the SHA-256 of every file, as sha256sum reads it; return how many files there are."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{pairs.sha256(path)}  {PurePosixPath(path.relative_to(folder))}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines))
    return len(files) + 1
