"""Which formats there are, and the files of one in a folder or a zip, whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from anymask.data.files import make_folder, write_whole
from anymask.engine.formats.item import File, Item, Writer, project_items
from anymask.engine.formats.outlines import LabelMeWriter, YoloWriter
from anymask.engine.formats.rasters import CutOutWriter, LabelMapWriter, Values
from anymask.engine.formats.tables import CocoWriter, ParquetWriter
from anymask.engine.formats.tars import PairTarWriter, PairWriter
from anymask.engine.store import Class, Project
from anymask.errors import InputError, OutputError

FORMATS = ("sa1b", "coco", "yolo", "labels", "cutouts", "parquet", "webdataset", "labelme")

_CHUNK = 1 << 18
_COMPRESSED = (".png", ".jpg", ".webp", ".parquet", ".tar")
"""Suffixes of files that a zip makes no smaller; most of a tar are images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatOptions:
    """How a format is written; each format uses the settings that concern it. Raises InputError for invalid
    settings.
    """

    with_images: bool = False
    """Whether images lie beside their annotations; those of webdataset always do, cut-outs never need them."""
    polygons: bool = False
    """coco, labelme: polygons where they say all of a mask."""
    tolerance: float = 0.0
    """coco and labelme with polygons, yolo: outlines simpler by so many pixels."""
    values: Values = "instance"
    """labels: what a pixel says, the object's place or its class's."""
    images_per_tar: int | None = None
    """sa1b: tars of so many images, None for loose files; webdataset: 1000 where it is None."""

    def __post_init__(self) -> None:
        """Reject invalid values."""
        if not 0 <= self.tolerance <= 100:
            raise InputError(f"tolerance is {self.tolerance}; it must be 0 to 100 pixels")
        if self.images_per_tar is not None and self.images_per_tar < 1:
            raise InputError(f"images_per_tar is {self.images_per_tar}; give at least 1")


def make_writer(format: str, classes: Sequence[Class], scratch: Path, options: FormatOptions) -> Writer:
    """Return the writer of a format; files in the making are in the folder `scratch`. Raises InputError.

    Raises MissingPackageError where a format's package is missing.
    """
    images = options.with_images
    match format:
        case "sa1b" if options.images_per_tar is None:
            return PairWriter(with_images=images)
        case "sa1b":
            return PairTarWriter(scratch, "{split}/sa_{number:06d}.tar", images_per_tar=options.images_per_tar or 1000)
        case "webdataset":
            return PairTarWriter(scratch, "{split}-{number:06d}.tar", images_per_tar=options.images_per_tar or 1000)
        case "coco":
            return CocoWriter(
                classes, scratch, with_images=images, polygons=options.polygons, tolerance=options.tolerance
            )
        case "parquet":
            return ParquetWriter(classes, scratch, with_images=images)
        case "yolo":
            return YoloWriter(classes, with_images=images, tolerance=options.tolerance)
        case "labelme":
            return LabelMeWriter(classes, with_images=images, polygons=options.polygons, tolerance=options.tolerance)
        case "labels":
            return LabelMapWriter(classes, with_images=images, values=options.values)
        case "cutouts":
            return CutOutWriter(classes)
    raise InputError(f"there is no format {format!r}; there are {', '.join(FORMATS)}")


def write_items(
    format: str, classes: Sequence[Class], items: Iterable[Item], options: FormatOptions, *, scratch: Path
) -> Iterator[File]:
    """Give the files of a format, each when it is finished.

    Those on the disk are made in the folder `scratch`, which is the caller's to delete. Each is there until the second
    after it is asked for, or it was moved away.
    """
    with closing(make_writer(format, classes, scratch, options)) as writer:
        before: Path | None = None
        for name, content in _written(writer, items):
            yield name, content
            if before is not None:
                before.unlink(missing_ok=True)
            before = content if isinstance(content, Path) else None


def _written(writer: Writer, items: Iterable[Item]) -> Iterator[File]:
    for item in items:
        yield from writer.add(item)
    yield from writer.finish()


def put(folder: Path, files: Iterable[File]) -> None:
    """Put files below a folder."""
    for name, content in files:
        path = folder / name
        make_folder(path.parent)
        if isinstance(content, Path):
            shutil.move(content, path)
        else:
            path.write_bytes(content)


def zipped(files: Iterable[File], note: Callable[[Exception], str | None] | None = None) -> Iterator[bytes]:
    """Pack files as they come, into chunks of a zip.

    What fails midway is raised, unless `note` has words for it: they become the zip's last file, INCOMPLETE.txt.
    """
    sink = _Sink()
    now = time.localtime()[:6]
    with zipfile.ZipFile(sink, "w") as archive:  # type: ignore[call-overload]
        try:
            for name, content in files:
                entry = zipfile.ZipInfo(name, now)
                entry.compress_type = zipfile.ZIP_STORED if name.endswith(_COMPRESSED) else zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                with archive.open(entry, "w", force_zip64=isinstance(content, Path)) as packed:
                    for chunk in chunks(content):
                        packed.write(chunk)
                        yield sink.take()
        except Exception as error:
            said = None if note is None else note(error)
            if said is None:
                raise
            archive.writestr("INCOMPLETE.txt", said)
    yield sink.take()


def chunks(content: bytes | Path) -> Iterator[bytes]:
    """Give what is in a file, a part after the other."""
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


class _Sink:
    """A file that a zip can be written to and that gives up what it got: it cannot go back."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken


@contextmanager
def whole_folder(folder: Path, what: str) -> Iterator[Path]:
    """Give an empty folder that takes the place of an empty or missing one at the end; nothing does if anything fails.

    Raises OutputError where the folder holds something already, which `what` needs for itself, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: is not empty; {what} needs a folder of its own")
    make_folder(folder.absolute().parent)
    staging = folder.absolute().parent / f".{folder.name}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    make_folder(staging)
    try:
        yield staging
        if folder.exists():
            folder.rmdir()
        os.replace(staging, folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCounts:
    """The result of an export."""

    images: int
    masks: int
    files: int


def export(
    project: Project,
    where: Path,
    format: str,
    options: FormatOptions | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> ExportCounts:
    """Write all images' annotations, as they are now, in one of `FORMATS`, whole or not at all.

    `where` is an empty or missing folder or, by its suffix, a zip, which takes the place of one that is there.
    `progress` is called with the number of images done and of all. Raises InputError, ImageError and OutputError.
    """
    options = options or FormatOptions()
    classes = project.classes.current().classes
    chosen = project.images.all()
    masks = 0

    def items() -> Iterator[Item]:
        nonlocal masks
        for done, item in enumerate(project_items(project, chosen), start=1):
            masks += len(item.annotations)
            yield item
            if progress is not None:
                progress(done, len(chosen))

    files = 0

    def written(scratch: str) -> Iterator[File]:
        nonlocal files
        for each in write_items(format, classes, items(), options, scratch=Path(scratch)):
            files += 1
            yield each

    if where.suffix.lower() == ".zip":

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file, TemporaryDirectory(dir=temporary.parent) as scratch:
                file.writelines(zipped(written(scratch)))

        write_whole(where, write)
    else:
        with whole_folder(where, "an export") as staging, TemporaryDirectory(dir=staging) as scratch:
            put(staging, written(scratch))
    return ExportCounts(images=len(chosen), masks=masks, files=files)
