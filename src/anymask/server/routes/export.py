"""Exports of annotations: one file, or a zip that is sent while it is made."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from anymask.engine import formats
from anymask.engine.store import StoredImage
from anymask.errors import AnymaskError
from anymask.server import schemas
from anymask.server.context import AtContext, Context
from anymask.server.errors import ApiError

logger = logging.getLogger("anymask.server")
router = APIRouter()

Format = Literal["coco", "sa1b", "yolo", "labels", "cutouts", "parquet", "webdataset", "labelme"]
_MEDIA = {
    "json": "application/json",
    "png": "image/png",
    "tar": "application/x-tar",
    "parquet": "application/vnd.apache.parquet",
}
"""Media types, by suffix, of files that are sent alone where there is only one."""
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_ANY_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            **{media: _BINARY for media in (*_MEDIA.values(), "application/zip")},
            "application/json": {"schema": {"type": "object"}},
        }
    }
}


@router.get("/export", response_class=Response, responses={**_ANY_FILE, 404: {"model": schemas.Error}})
def export(
    context: AtContext,
    format: Annotated[Format, Query()],
    ids: Annotated[
        str, Query(pattern=r"^([1-9][0-9]{0,14}(,[1-9][0-9]{0,14})*)?$", description="of images; none: all of them")
    ] = "",
    polygons: Annotated[bool, Query(description="coco, labelme: polygons where they say all of a mask")] = False,
    tolerance: Annotated[
        float, Query(ge=0, le=100, description="coco, labelme, yolo: outlines simpler by so many pixels")
    ] = 0,
    values: Annotated[Literal["instance", "class"], Query(description="labels: what a pixel says")] = "instance",
) -> Response:
    """Send annotations in a format of choice; a zip if they take more than one file."""
    images = _chosen(context, ids)
    project = context.project
    scratch = TemporaryDirectory(dir=project.cache)
    files = formats.write_items(
        format,
        project.classes.current().classes,
        formats.project_items(project, images, read_pixels=context.pixels),
        formats.FormatOptions(polygons=polygons, tolerance=tolerance, values=values),
        scratch=Path(scratch.name),
    )
    try:
        head = list(islice(files, 2))  # what fails at once is still an error, no answer that breaks off
    except BaseException:
        scratch.cleanup()
        raise
    name = f"{project.name}-{format}"
    suffix = head[0][0].rpartition(".")[2] if len(head) == 1 else ""
    if suffix in _MEDIA:
        ((_, content),) = head
        length = content.stat().st_size if isinstance(content, Path) else len(content)
        headers = _attached(f"{name}.{suffix}") | {"Content-Length": str(length)}
        return StreamingResponse(_sent(formats.chunks(content), scratch), media_type=_MEDIA[suffix], headers=headers)
    packed = formats.zipped(chain(head, files), note=_broken_off)
    headers = _attached(f"{name}.zip")
    return StreamingResponse(_sent(packed, scratch), media_type="application/zip", headers=headers)


def _sent(parts: Iterator[bytes], scratch: TemporaryDirectory[str]) -> Iterator[bytes]:
    """Give parts of an answer, and delete the folder of what they are made of."""
    with scratch:
        yield from parts


def _broken_off(error: Exception) -> str | None:
    """Return the note in a zip that could not be completed: it is too late for an error status."""
    if not isinstance(error, AnymaskError):
        return None
    logger.error("an export ended early: %s", error)
    return f"This export ended early: {error}\n"


def _chosen(context: Context, ids: str) -> list[StoredImage]:
    """Return the images of the ids, all without any; raises ApiError (404)."""
    images = context.project.images.all()
    if not ids:
        return images
    known = {str(image.id): image for image in images}
    missing = [id for id in ids.split(",") if id not in known]
    if missing:
        raise ApiError(404, f"there is no image {missing[0]} in this project")
    return [known[id] for id in dict.fromkeys(ids.split(","))]


def _attached(name: str) -> dict[str, str]:
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in name)
    return {"Content-Disposition": f'attachment; filename="{plain}"'}
