"""A project: a folder with a database, uploaded images, and what can be made again from them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import URL

from anymask.data.files import make_folder
from anymask.engine.store.annotations import Annotations
from anymask.engine.store.classes import Classes
from anymask.engine.store.database import Database, sqlite_url
from anymask.engine.store.images import Images
from anymask.errors import DataError, OutputError

DATABASE = "project.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """An open project: its folder, and what its database holds."""

    folder: Path
    images: Images
    annotations: Annotations
    classes: Classes

    @property
    def name(self) -> str:
        """What to call it."""
        return self.folder.name

    @property
    def uploads(self) -> Path:
        """Where uploaded images lie."""
        return self.folder / "images"

    @property
    def cache(self) -> Path:
        """What can be made again: embeddings, thumbnails."""
        return self.folder / "cache"

    def path(self, location: str) -> Path:
        """Return where an image lies; raises DataError for a relative location that leads out of the folder."""
        path = self.folder / location
        if not os.path.isabs(location) and not path.resolve().is_relative_to(self.folder.resolve()):
            raise DataError(f"{location}: leads out of the project's folder {self.folder}")
        return path


@contextmanager
def open_project(
    folder: str | Path, *, url: str | URL | None = None, clock: Callable[[], float] = time.time
) -> Iterator[Project]:
    """Open the project in a folder, made if need be; with `url` its database is elsewhere than in the folder.

    Only one process may have it open.

    Raises:
        DataError: it is of a newer version, or another process has it open.
        OutputError: the folder cannot be made or written to.
    """
    folder = make_folder(folder).absolute()
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"{folder}: another process has this project open; close it, or use that one") from error
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written to ({error.strerror or error})") from error
    try:
        database = Database(url or sqlite_url(folder / DATABASE))
        try:
            for name in ("images", "cache"):
                make_folder(folder / name)
            yield Project(
                folder=folder,
                images=Images(database, clock=clock),
                annotations=Annotations(database, clock=clock),
                classes=Classes(database, clock=clock),
            )
        finally:
            database.close()
    finally:
        lock.release()
