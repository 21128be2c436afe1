"""Making a release: images one after the other into every format at once, then the card and the checksums."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from anymask.data.images import read_image
from anymask.engine.formats import FORMATS, FormatOptions, ImageFile, Item, Writer, make_writer, put, whole_folder
from anymask.engine.formats.item import image_file, jpeg_file
from anymask.engine.formats.pairs import asked_points, crop_box, sha256
from anymask.engine.formats.tables import origin_of
from anymask.engine.pictures import HELD_OUT, read_picture, split_of
from anymask.engine.release.blurring import FindPrivate, blur, blurrer
from anymask.engine.release.measures import Measures, write_card
from anymask.engine.store import Annotation, EngineSettings, Project, StoredImage
from anymask.errors import DataError, InputError
from anymask.geometry import rle

CHECKSUMS = "SHA256SUMS"
_WITH_IMAGES = ("sa1b", "webdataset", "yolo", "labels", "labelme")
"""Formats that bring the images; one of the others does where none of these is released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePlan:
    """What is released and how; raises InputError for an unknown format."""

    formats: tuple[str, ...] = ("sa1b", "coco", "parquet")
    short_side: int | None = None
    """Larger images are made this small, as SA-1B's, of 1500 pixels; None leaves all as they are."""
    blur: str = "auto"
    """auto, opencv, none, or a detector's .onnx (`blurrer`)."""
    images_per_tar: int = 1000

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise InputError(f"there is no format {unknown[0] if unknown else ''!r}; there are {', '.join(FORMATS)}")
        if self.short_side is not None and self.short_side < 1:
            raise InputError(f"short_side is {self.short_side}; give at least 1 pixel")
        if self.images_per_tar < 1:
            raise InputError(f"images_per_tar is {self.images_per_tar}; give at least 1")


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
    with whole_folder(folder, "a release") as staging:
        find, said = blurrer(plan.blur)
        measures = _write(project, staging, plan, find, progress)
        write_card(staging, project.name, measures, plan.formats, said)
        files = _checksums(staging)
    summary = measures.summary()
    return Released(folder=folder, images=summary["images"], masks=summary["masks"], files=files, summary=summary)


def _write(
    project: Project,
    folder: Path,
    plan: ReleasePlan,
    find: FindPrivate | None,
    progress: Callable[[int, int], None] | None,
) -> Measures:
    chosen = project.images.count_annotated()
    if not chosen:
        raise DataError(f"{project.folder}: there is nothing to release, no image has a mask")
    measures = Measures()
    with TemporaryDirectory(dir=folder) as scratch, ExitStack() as stack:
        writers = _writers(project, Path(scratch), plan)
        for writer in writers.values():
            stack.callback(writer.close)  # also where an image cannot be read, or its tar would stay open
        for done, item in enumerate(_items(project, plan, find), start=1):
            measures.add(item.records, [origin_of(each) for each in item.annotations], item.size)
            for name, writer in writers.items():
                put(folder / name, writer.add(item))
            if progress is not None:
                progress(done, chosen)
        for name, writer in writers.items():
            put(folder / name, writer.finish())
    return measures


def _writers(project: Project, scratch: Path, plan: ReleasePlan) -> dict[str, Writer]:
    """Return a writer for each format; the images lie in one of them at least, if there is one that can have them."""
    classes = project.classes.current().classes
    chosen = [name for name in FORMATS if name in plan.formats]
    carriers = [name for name in chosen if name in _WITH_IMAGES] or [name for name in chosen if name != "cutouts"][:1]
    return {
        name: make_writer(
            name,
            classes,
            scratch,
            FormatOptions(with_images=name in carriers, images_per_tar=plan.images_per_tar),
        )
        for name in chosen
    }


def _items(project: Project, plan: ReleasePlan, find: FindPrivate | None) -> Iterator[Item]:
    settings = project.settings.current()
    for image in project.images.annotated():
        file, size = _released(project, image, plan, find)
        annotations = project.annotations.state(image.id).annotations
        if size != image.size:
            annotations = tuple(_resized(each, image.size, size) for each in annotations)
        yield Item(
            image=image,
            annotations=tuple(each for each in annotations if rle.area(each.rle)),
            size=size,
            split=_split(image, settings),
            stem=f"sa_{image.id:09d}",
            read_file=lambda file=file: file,  # type: ignore[misc]
            read_pixels=lambda file=file: read_image(file.content),  # type: ignore[misc]
        )


def _split(image: StoredImage, settings: EngineSettings) -> str:
    return "val" if split_of(image, settings) == HELD_OUT else "train"


def _released(
    project: Project, image: StoredImage, plan: ReleasePlan, find: FindPrivate | None
) -> tuple[ImageFile, tuple[int, int]]:
    """Return the image's file and (height, width); as it is where nothing has to be done to it."""
    short = min(image.size)
    shrinks = plan.short_side is not None and short > plan.short_side
    if not shrinks and find is None:
        return image_file(project, image), image.size
    pixels: UInt8[np.ndarray, "h w 3"] = read_picture(project, image)
    if shrinks:
        assert plan.short_side is not None
        height, width = (round(side * plan.short_side / short) for side in image.size)
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))
    if find is not None:
        pixels = blur(pixels, find(pixels))
    return jpeg_file(pixels), (pixels.shape[0], pixels.shape[1])


def _resized(each: Annotation, old: tuple[int, int], new: tuple[int, int]) -> Annotation:
    """Return a mask at another size, by the nearest pixels, and what it was asked for with in that frame."""
    rows = np.minimum(((np.arange(new[0]) + 0.5) * old[0] / new[0]).astype(np.int64), old[0] - 1)
    columns = np.minimum(((np.arange(new[1]) + 0.5) * old[1] / new[1]).astype(np.int64), old[1] - 1)
    mask = rle.encode(rle.decode_grid(each.rle, rows, columns))
    x, y = new[1] / old[1], new[0] / old[0]
    prompts: dict[str, Any] = dict(each.prompts or {})
    crop = crop_box(each)
    if crop is not None:
        prompts["crop_box"] = [round(value * scale) for value, scale in zip(crop, (x, y, x, y), strict=True)]
    prompts["points"] = [[round(px * x, 3), round(py * y, 3)] for px, py in asked_points(each)]
    return dataclasses.replace(each, rle=mask, prompts=prompts)


def _checksums(folder: Path) -> int:
    """Write the SHA-256 of every file, as sha256sum reads it; return how many files there are."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {PurePosixPath(path.relative_to(folder))}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines))
    return len(files) + 1
