"""Which files are images, those of a folder, and names for what is made of them: one rule for all."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from PIL import Image

_LOG = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".heic", ".heif", ".hif"),
        *(".bmp", ".gif", ".tif", ".tiff", ".jp2", ".j2k", ".jpx", ".jpf", ".jpc"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".psd", ".qoi", ".sgi"),
    )
)
"""Suffixes of the formats that `anymask.data.images.read_image` reads, in lower case."""

_HEIF = frozenset((".heic", ".heif", ".hif"))
_UNREADABLE = frozenset(
    (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw", ".jxl", ".jxr", ".exr", ".hdr", ".dcm")
)
"""Pictures of other formats, which are named when a folder's are passed over."""


def is_hidden(path: PurePath) -> bool:
    """Whether a file, or a folder on the relative path to it, is hidden: macOS leaves `._x.jpg` beside `x.jpg`."""
    return any(part.startswith(".") and part not in (".", "..") for part in path.parts)


def is_image_name(path: PurePath) -> bool:
    """Whether a file's name is that of an image which can be read; hidden files' are not."""
    return path.suffix.lower() in readable_suffixes() and not path.name.startswith(".")


def readable_suffixes() -> frozenset[str]:
    """Return `IMAGE_SUFFIXES`, without those of HEIF where its plug-in (pillow-heif) is not registered."""
    return IMAGE_SUFFIXES if "HEIF" in Image.OPEN else IMAGE_SUFFIXES - _HEIF


def list_images(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Return the images of a folder, or of those below it too, by path; hidden files and folders are passed over.

    Suffixes count in any case. Pictures of formats that cannot be read are counted in the log.
    """
    found: list[Path] = []
    passed_over: Counter[str] = Counter()
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        if is_hidden(path.relative_to(folder)) or not path.is_file():
            continue
        if is_image_name(path):
            found.append(path)
        elif path.suffix.lower() in _UNREADABLE | _HEIF:
            passed_over[path.suffix.lower()] += 1
    if passed_over:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(passed_over.items()))
        _LOG.warning("%s: passed over pictures of formats that are not read: %s; save them as JPEG", folder, kinds)
    return found


def unique_names(choices: Sequence[Sequence[str]], reserved: Sequence[str] = ()) -> list[str]:
    """Return a name for each of several things, no two of them alike: the first of its own choices that is free.

    A choice is free if nothing else has come to it, so that two that share one both go on to their next, which may
    clash with a name that was free before. What clashes to the last is numbered. Names that differ in their case alone
    count as alike, as on some disks.
    """
    place = [0] * len(choices)
    while True:
        names = [choice[at] for choice, at in zip(choices, place, strict=True)]
        taken = Counter(name.casefold() for name in (*names, *set(reserved)))
        behind = [
            number
            for number, name in enumerate(names)
            if taken[name.casefold()] > 1 and place[number] + 1 < len(choices[number])
        ]
        if not behind:
            break
        for number in behind:
            place[number] += 1
    seen = {name.casefold() for name in reserved}
    for number, name in enumerate(names):
        unique, count = name, 1
        while unique.casefold() in seen:
            count += 1
            unique = f"{name}-{count}"
        seen.add(unique.casefold())
        names[number] = unique
    return names
