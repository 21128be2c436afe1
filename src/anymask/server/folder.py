"""Images of a folder, added by reference."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymask.data.images import read_header
from anymask.engine.store.images import NewImage
from anymask.errors import AnymaskError, ImageError
from anymask.server import schemas
from anymask.server.image_files import SUFFIXES

if TYPE_CHECKING:
    from anymask.server.context import Context

logger = logging.getLogger("anymask.server")

_TOGETHER = 200
"""Number of images that are added in one transaction."""


def add_folders(context: Context, folders: Sequence[Path], stop: threading.Event) -> None:
    """Add the images of folders that the project does not have yet, and publish an event for each; ends early when
    stopped.
    """
    try:
        known = context.project.images.locations()
        for folder in folders:
            found: list[NewImage] = []
            for image in _scan(folder.resolve(), known, context.settings.max_pixels):
                if stop.is_set():
                    return
                found.append(image)
                if len(found) == _TOGETHER:
                    _add(context, found)
                    found = []
            _add(context, found)
    except AnymaskError as error:
        logger.error("the folder's images could not be added: %s", error)


def _add(context: Context, found: Sequence[NewImage]) -> None:
    for image in context.project.images.add(found):
        context.events.publish(schemas.ImageEvent(image=context.encoding.describe(image)))


def _scan(folder: Path, known: set[str], max_pixels: int) -> Iterator[NewImage]:
    """Find images in a folder and those below it, by name; what is unreadable or leads out of it is left out."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() not in SUFFIXES or name.startswith(".") or str(path) in known:
                continue
            if not path.resolve().is_relative_to(folder):
                logger.warning("%s: leads out of %s, left out", path, folder)
                continue
            try:
                size = read_header(path, max_pixels=max_pixels).size
                str(path).encode()  # a name that is no text could not be stored
            except (ImageError, UnicodeEncodeError) as error:
                logger.warning("left out: %s", error)
                continue
            yield NewImage(name=path.relative_to(folder).as_posix(), location=str(path), size=size)
