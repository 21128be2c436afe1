"""An image and its masks as SA-1B's pair of files, and tars of such pairs, for training and for releases."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from anymask.data.files import write_whole
from anymask.data.sa1b_writer import add_files, annotation, pair_document
from anymask.engine.store import Annotation
from anymask.geometry import points, rle

SUFFIXES = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png", ".webp": "webp"}
"""Of image files that go into a pair as they are."""


def records(annotations: Sequence[Annotation], size: tuple[int, int]) -> list[dict[str, Any]]:
    """Return an image's annotations as SA-1B has them; `size` is (height, width).

    A mask that no model scored counts as sure; its point is the first that it was asked for with, or its centre.
    """
    made = []
    for index, each in enumerate(annotations):
        prompts = each.prompts or {}
        crop = prompts.get("crop_box")
        stability = prompts.get("stability")
        made.append(
            annotation(
                index,
                each.rle,
                bbox=rle.bbox(each.rle),
                area=rle.area(each.rle),
                predicted_iou=1.0 if each.score is None else float(each.score),
                stability_score=float(stability) if isinstance(stability, int | float) else 1.0,
                crop_box=crop if isinstance(crop, list) else (0, 0, size[1], size[0]),
                point_coords=_points(each),
            )
        )
    return made


def _points(each: Annotation) -> list[list[float]]:
    asked = (each.prompts or {}).get("points")
    if isinstance(asked, list) and asked:
        return [asked[0]]
    x, y, width, height = rle.bbox(each.rle)
    found = points.centre(rle.decode_columns(each.rle, x, x + width)[y : y + height]) if width else None
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
