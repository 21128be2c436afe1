"""Image files: what is taken in, what a browser is shown, and small ones."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from fastapi import Request
from fastapi.responses import FileResponse, Response
from jaxtyping import UInt8

from anymask.data.files import write_bytes_atomic
from anymask.data.images import Header, read_header, read_image
from anymask.engine import PLACE
from anymask.engine.pictures import image_bytes
from anymask.engine.store import Project, StoredImage
from anymask.errors import ImageError
from anymask.inference.answers import read
from anymask.inference.runtimes import AnyModel
from anymask.server.errors import ApiError

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif", ".jp2", ".ppm")
)
"""Files of a folder that are taken for images."""
THUMBNAIL_SIDE = 256

_JPEG = "image/jpeg"
_SHOWN = {"PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif", "BMP": "image/bmp", "AVIF": "image/avif"}
_NO_LIMIT = 2**62


def local_path(project: Project, image: StoredImage) -> Path:
    """Return where an image lies; one of a store elsewhere is fetched once, and kept. Raises ImageError."""
    if "://" not in image.location:
        path = project.path(image.location)
        if os.path.isabs(image.location) and not (project.folder / PLACE).exists():
            _check_stays(path, image.name)
        return path
    suffix = Path(image.location).suffix.lower()
    path = project.cache / "fetched" / f"{image.id}{suffix if suffix in SUFFIXES else ''}"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        write_bytes_atomic(path, image_bytes(project, image))
    return path


def _check_stays(path: Path, name: str) -> None:
    """Raise ImageError for an image of a folder that became a link out of it since it was added.

    Its name is its path in that folder. A project of `anymask engine init` has images of imports, which may be links.
    """
    place = path.as_posix()
    folder = Path(place.removesuffix(f"/{name}")) if place.endswith(f"/{name}") else path.parent
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ImageError(f"{name}: leads out of its folder by now")


def file_state(project: Project, image: StoredImage) -> str:
    """Return what changes where another file takes an image's place; "" for an image elsewhere, or none there."""
    if "://" in image.location:
        return ""
    try:
        found = project.path(image.location).stat()
    except OSError:
        return ""
    return f"{found.st_size:x}-{found.st_mtime_ns:x}"


def read_pixels(
    project: Project, image: StoredImage, model: AnyModel, *, max_pixels: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image as the model sees it: by its own mapping of channels where it has one. Raises ImageError."""
    path = local_path(project, image)
    if model.channels is None:
        return read_image(path, max_pixels=max_pixels)
    read_header(path, max_pixels=max_pixels)
    return read(model, path)


def check_upload(data: bytes, max_pixels: int) -> tuple[Header, UInt8[np.ndarray, "h w 3"]]:
    """Decode what was uploaded; raises ApiError: 415 not an image, 413 too many pixels, 422 damaged."""
    if not data:
        raise ApiError(422, "the upload is empty: 0 bytes where an image was expected")
    try:
        header = read_header(data, max_pixels=_NO_LIMIT)
    except ImageError as error:
        raise ApiError(415, "the upload is no image; JPEG, PNG, WebP, TIFF and the like are taken") from error
    height, width = header.size
    if height * width > max_pixels:
        raise ApiError(413, f"the image has {width}×{height} pixels; at most {max_pixels:,} are taken, make it smaller")
    try:
        return header, read_image(data, max_pixels=max_pixels)
    except ImageError as error:
        raise ApiError(422, f"the upload cannot be read: {str(error).partition(': ')[2] or error}") from error


def media_type(header: Header) -> str | None:
    """Return the type under which every browser shows the file as `read_image` reads it, None if not all do."""
    if header.format in ("JPEG", "MPO"):  # browsers heed the orientation of a JPEG, not that of every format
        return _JPEG if header.is_simple else None
    return _SHOWN.get(header.format) if header.is_simple and header.is_upright else None


def thumbnail(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Return a small JPEG of an image."""
    height, width = pixels.shape[:2]
    scale = min(1.0, THUMBNAIL_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return as_jpeg(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), quality=82)


def as_jpeg(pixels: UInt8[np.ndarray, "h w 3"], quality: int = 95) -> bytes:
    """Return an image as JPEG, colours at full resolution from quality 90 on."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if quality >= 90:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ImageError(f"{pixels.shape[1]}×{pixels.shape[0]} pixels do not fit into a JPEG")
    return encoded.tobytes()


def write_durably(path: Path, data: bytes) -> None:
    """Write a file whole, and have it on the disk: `write_bytes_atomic` leaves that to the file system."""
    write_bytes_atomic(path, data)
    for target in (path, path.parent):
        handle = os.open(target, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError:  # a folder, where the system does not know how
            if target == path:
                raise
        finally:
            os.close(handle)


def send_file(request: Request, path: Path, kind: str) -> Response:
    """Send a file, or answer that the browser has it already; raises ApiError (404) if it is gone."""
    try:
        status = path.stat()
    except OSError as error:
        raise ApiError(404, f"{path.name} is gone") from error
    tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=kind, headers=headers, stat_result=status)
