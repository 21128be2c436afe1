"""A run of `anymask everything`: its images, where their files go, what an earlier run has left, and what is made.

An image's masks are made once and kept as its JSON; all other files are made from that, so that a run that was killed
can be resumed, and a format can be asked for later, without asking the model again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from anymask.errors import ImageError, InputError, OutputError

RUN_FILE = "anymask-run.json"
COCO_FILE = "annotations.coco.json"
_IDENTIFYING_BYTES = 1 << 16
_MINE = ("_overlay.jpg", "_labels.png")


class ResultFormat(StrEnum):
    """What can be written besides SA-1B's JSON."""

    sa1b = "sa1b"
    coco = "coco"
    labels = "labels"
    overlay = "overlay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One image: its file, its path below the folder that was given, and what its results are called."""

    image: Path
    file_name: str
    stem: str
    """Path below the output folder, without a suffix."""
    image_id: int
    """A hash of the path and the file: the same in every run, but different where another file has the name."""

    def path(self, folder: Path, kind: ResultFormat) -> Path:
        """Return where the image's file of that kind goes."""
        ending = {ResultFormat.labels: "_labels.png", ResultFormat.overlay: "_overlay.jpg"}.get(kind, ".json")
        return folder / f"{self.stem}{ending}"


def list_jobs(source: Path, output: Path, *, recursive: bool) -> list[Job]:
    """Return the image, or those of a folder by name; raises InputError (or ImageError) where there is none.

    Hidden files, what lies in the output folder, and what an earlier run drew are no images of a folder. Images that
    share a stem keep their suffix in the names of their results, so that none overwrites another's.
    """
    if not source.is_dir():
        if not source.exists():
            raise ImageError(f"{source}: there is no such file or folder")
        return _named([(source, source.name)])

    from anymask.data.listing import list_images

    found = []
    inner = output.resolve() if output.resolve() != source.resolve() else None
    for path in list_images(source, recursive=recursive):
        mine = path.name.endswith(_MINE) or (inner is not None and inner in path.resolve().parents)
        if not mine:
            found.append((path, path.relative_to(source).as_posix()))
    if not found:
        hint = "" if recursive else "; --recursive looks into folders within it too"
        raise InputError(f"{source}: no image in this folder{hint}")
    return _named(found)


def _named(found: Sequence[tuple[Path, str]]) -> list[Job]:
    return [
        Job(image=path, file_name=name, stem=stem, image_id=_image_id(path, name))
        for (path, name), stem in zip(found, _stems([name for _, name in found]), strict=True)
    ]


def _stems(names: Sequence[str]) -> list[str]:
    """Return what the results of images are called: their names without the suffix, as far as those differ."""
    from anymask.data.listing import unique_names

    reserved = [Path(name).with_suffix("").name for name in (RUN_FILE, COCO_FILE)]
    return unique_names([(str(Path(name).with_suffix("")), name) for name in names], reserved)


def _image_id(path: Path, name: str) -> int:
    """Return 48 bits of a hash of an image's name, its file's size and how the file begins."""
    digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=6)
    with suppress(OSError), path.open("rb") as file:  # what cannot be opened is told when it comes to be read
        digest.update(f" {path.stat().st_size} ".encode() + file.read(_IDENTIFYING_BYTES))
    return int.from_bytes(digest.digest())


def check_earlier(folder: Path, jobs: Sequence[Job], settings: Mapping[str, Any]) -> None:
    """Raise OutputError where the folder holds results of other settings, or files that are no run's.

    The model counts by its hash; what it is called does not matter.
    """
    path = folder / RUN_FILE
    if not path.exists():
        foreign = next((file for job in jobs if (file := job.path(folder, ResultFormat.sa1b)).exists()), None)
        if foreign is not None:
            raise OutputError(
                f"{foreign}: is there already, and of no run; give another -o, or --overwrite to replace it"
            )
        return
    try:
        earlier = json.loads(path.read_bytes())
        differing = [key for key in {**earlier, **settings} if earlier.get(key) != settings.get(key) and key != "model"]
    except (ValueError, TypeError, AttributeError) as error:
        raise OutputError(f"{path}: is no record of a run; give another -o, or --overwrite to start over") from error
    if differing:
        changes = ", ".join(f"{key} was {earlier.get(key)} and is {settings.get(key)}" for key in differing)
        raise OutputError(f"{folder}: holds results of other settings: {changes}; give another -o, or --overwrite")


def begin(folder: Path, jobs: Sequence[Job], settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make the folder and write down the settings; what an earlier run left of these images goes first if asked for."""
    from anymask.data.files import make_folder, remove_abandoned, write_text_atomic

    make_folder(folder)
    for place in {job.path(folder, ResultFormat.sa1b).parent for job in jobs}:
        remove_abandoned(place)
    if overwrite:
        # The JSONs first: without them nothing else counts, should this be interrupted.
        for kind in (ResultFormat.sa1b, ResultFormat.labels, ResultFormat.overlay):
            for job in jobs:
                job.path(folder, kind).unlink(missing_ok=True)
    write_text_atomic(folder / RUN_FILE, json.dumps(settings, indent=1) + "\n")


def read_document(path: Path, job: Job) -> dict[str, Any] | None:
    """Return an image's JSON if it is there, whole, and this image's; None otherwise."""
    try:
        document = json.loads(path.read_bytes())
        image = document["image"]
        sound = image["image_id"] == job.image_id and min(image["width"], image["height"]) > 0
        sound &= all("counts" in annotation["segmentation"] for annotation in document["annotations"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return document if sound else None


def missing(folder: Path, job: Job, formats: Sequence[ResultFormat]) -> list[ResultFormat]:
    """Return which of an image's files are not there, or cannot be opened."""
    wanted = [kind for kind in (ResultFormat.labels, ResultFormat.overlay) if kind in formats]
    return [kind for kind in wanted if not _is_image(job.path(folder, kind))]


def _is_image(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return min(image.size) > 0
    except (OSError, Image.DecompressionBombError):
        return False


def write_dataset(folder: Path, jobs: Sequence[Job]) -> tuple[int, int]:
    """Write the COCO file of all images that have a JSON; return the numbers of images and masks."""
    import anymask
    from anymask.data.writers.coco import CocoImage, write_coco

    def images() -> Iterator[CocoImage]:
        for job in jobs:
            document = read_document(job.path(folder, ResultFormat.sa1b), job)
            if document is not None:
                width, height = document["image"]["width"], document["image"]["height"]
                yield CocoImage(
                    id=job.image_id,
                    file_name=job.file_name,
                    width=width,
                    height=height,
                    annotations=document["annotations"],
                )

    info = {"description": "Masks made by anymask everything", "version": anymask.__version__}
    return write_coco(folder / COCO_FILE, images(), info=info)
