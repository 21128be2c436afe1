"""An image and its masks as SA-1B's pair of files, and tars of such pairs, for training and for releases."""

from __future__ import annotations

import hashlib
import math
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from anymask.data.files import write_whole
from anymask.data.writers.sa1b import add_files, annotation, pair_document
from anymask.engine.store import Annotation
from anymask.geometry import points, rle

SUFFIXES = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png", ".webp": "webp"}
"""Suffixes of image files that go into a pair as they are."""


def records(annotations: Sequence[Annotation]) -> list[dict[str, Any]]:
    """Return an image's annotations as SA-1B has them.

    A mask that no model scored counts as sure; its point is the first that it was asked for with, or its centre.
    """
    return [_record(index, each) for index, each in enumerate(annotations)]


def _record(index: int, each: Annotation) -> dict[str, Any]:
    prompts = each.prompts or {}
    stability = [prompts.get("stability")]
    return annotation(
        index,
        each.rle,
        predicted_iou=1.0 if each.score is None else float(each.score),
        stability_score=float(stability[0]) if _are_numbers(stability, 1) else 1.0,
        crop_box=crop_box(each),
        point_coords=asked_points(each)[:1] or _centre(each.rle),
    )


def crop_box(each: Annotation) -> list[float] | None:
    """Return the part of the image that the model saw, (x, y, width, height), None where the prompts do not say."""
    found = (each.prompts or {}).get("crop_box")
    return found if _are_numbers(found, 4) else None


def asked_points(each: Annotation) -> list[list[float]]:
    """Return the points (x, y) that a mask was asked for with; prompts are any JSON, of which other things are none."""
    found = (each.prompts or {}).get("points")
    return found if isinstance(found, list) and all(_are_numbers(point, 2) for point in found) else []


def _are_numbers(values: object, count: int) -> TypeGuard[list[float]]:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    )


def _centre(mask: rle.RLE) -> list[list[float]]:
    x, y, width, _ = rle.bbox(mask)
    found = points.centre(rle.decode_box(mask)) if width else None
    return [] if found is None else [[float(x + found[0]), float(y + found[1])]]


def pair(
    stem: str, suffix: str, encoded: bytes, size: tuple[int, int], image_id: int, made: Sequence[dict[str, Any]]
) -> list[tuple[str, bytes]]:
    """Return the two files of an image: (name, content)."""
    document = pair_document(image_id, size, f"{PurePosixPath(stem).name}.{suffix}", made)
    return [(f"{stem}.{suffix}", encoded), (f"{stem}.json", document)]


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> str:
    """Write files to a tar, whole or not at all, and return its SHA-256; the same files give the same bytes."""

    def write(temporary: Path) -> None:
        with tarfile.open(temporary, "w") as tar:
            add_files(tar, files)

    write_whole(path, write)
    return sha256(path)


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
