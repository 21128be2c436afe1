"""Annotations to take away: one file, or a zip that is sent while it is made."""

from __future__ import annotations

import logging
import time
import zipfile
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from anymask.engine.store import StoredImage
from anymask.errors import AnymaskError
from anymask.server import exports, schemas
from anymask.server.bench import AtBench, Bench
from anymask.server.refusals import Refused

logger = logging.getLogger("anymask.server")
router = APIRouter()

_MEDIA = {"json": "application/json", "png": "image/png", "txt": "text/plain; charset=utf-8"}
_ANY_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
        }
    }
}


@router.get("/export", response_class=Response, responses={**_ANY_FILE, 404: {"model": schemas.Error}})
def export(
    bench: AtBench,
    format: Annotated[Literal["coco", "sa1b", "yolo", "labels", "cutouts"], Query()],
    ids: Annotated[
        str, Query(pattern=r"^([1-9][0-9]{0,14}(,[1-9][0-9]{0,14})*)?$", description="of images; none: all of them")
    ] = "",
    polygons: Annotated[bool, Query(description="coco: polygons where they say all of a mask")] = False,
    tolerance: Annotated[float, Query(ge=0, le=100, description="coco, yolo: outlines simpler by so many pixels")] = 0,
    values: Annotated[Literal["instance", "class"], Query(description="labels: what a pixel says")] = "instance",
) -> Response:
    """Send annotations in a format of choice; a zip if they take more than one file."""
    images = _chosen(bench, ids)
    classes = bench.project.classes.current().classes
    annotated = _annotated(bench, images)
    match format:
        case "coco":
            files = exports.coco(annotated, classes, bench.project.cache, as_polygons=polygons, tolerance=tolerance)
        case "sa1b":
            files = exports.sa1b(annotated)
        case "yolo":
            files = exports.yolo(annotated, classes, tolerance=tolerance)
        case "labels":
            files = exports.labels(annotated, classes, values=values)
        case "cutouts":
            files = exports.cutouts(annotated, classes)
    head = list(islice(files, 2))
    name = f"{bench.project.name}-{format}"
    if len(head) == 1:
        ((path, content),) = head
        suffix = path.rpartition(".")[2]
        return Response(content, media_type=_MEDIA[suffix], headers=_attached(f"{name}.{suffix}"))
    packed = _zipped(chain(head, files))
    return StreamingResponse(packed, media_type="application/zip", headers=_attached(f"{name}.zip"))


def _chosen(bench: Bench, ids: str) -> list[StoredImage]:
    """Return the images of the ids, all without any; raises Refused (404)."""
    images = bench.project.images.all()
    if not ids:
        return images
    known = {str(image.id): image for image in images}
    missing = [id for id in ids.split(",") if id not in known]
    if missing:
        raise Refused(404, f"there is no image {missing[0]} in this project")
    return [known[id] for id in dict.fromkeys(ids.split(","))]


def _annotated(bench: Bench, images: Sequence[StoredImage]) -> Iterator[exports.Annotated]:
    stems = exports.stems(images)
    for image in images:
        yield exports.Annotated(
            image=image,
            stem=stems[image.id],
            annotations=bench.project.annotations.state(image.id).annotations,
            pixels=lambda image=image: bench.pixels(image),  # type: ignore[misc]
        )


def _attached(name: str) -> dict[str, str]:
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in name)
    return {"Content-Disposition": f'attachment; filename="{plain}"'}


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


def _apart(files: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Number the names that came before, their case aside: an archive may hold two files of one name."""
    seen: set[str] = set()
    for name, content in files:
        stem, dot, suffix = name.rpartition(".")
        unique, count = name, 1
        while unique.casefold() in seen:
            count += 1
            unique = f"{stem}-{count}{dot}{suffix}"
        seen.add(unique.casefold())
        yield unique, content


def _zipped(files: Iterator[tuple[str, bytes]]) -> Iterator[bytes]:
    """Pack files as they come. What fails midway cannot become an error status any more: the zip says it in a file."""
    sink = _Sink()
    now = time.localtime()[:6]
    with zipfile.ZipFile(sink, "w") as archive:  # type: ignore[call-overload]
        try:
            for name, content in _apart(files):
                entry = zipfile.ZipInfo(name, now)
                entry.compress_type = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content)
                yield sink.take()
        except AnymaskError as error:
            logger.error("an export ended early: %s", error)
            archive.writestr("INCOMPLETE.txt", f"This export ended early: {error}\n")
    yield sink.take()
