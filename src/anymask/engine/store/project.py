"""A project: a folder with a database, uploaded images, and what can be made again from them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import URL

from anymask.data.files import make_folder, write_text_atomic
from anymask.engine import DATABASE, PLACE, is_project
from anymask.engine.store.annotations import Annotations
from anymask.engine.store.classes import Classes
from anymask.engine.store.database import Database, checked_url, sqlite_url
from anymask.engine.store.images import Images
from anymask.engine.store.jobs import Jobs
from anymask.engine.store.models import Models
from anymask.engine.store.outcomes import Outcomes
from anymask.engine.store.reviews import Reviews
from anymask.engine.store.settings import SettingsHistory
from anymask.engine.store.verdicts import MachineVerdicts
from anymask.errors import DataError, OutputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """An open project: its folder, and what its database holds."""

    folder: Path
    database: Database
    images: Images
    annotations: Annotations
    classes: Classes
    settings: SettingsHistory
    jobs: Jobs
    outcomes: Outcomes
    models: Models
    verifiers: Models
    """Of masks; they read the embeddings of one model each."""
    completeness: Models
    """Verifiers of whole images."""
    reviews: Reviews
    verdicts: MachineVerdicts

    @property
    def name(self) -> str:
        """What to call it."""
        return self.folder.name

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


def init_project(folder: str | Path, *, url: str | URL | None = None) -> Path:
    """Make a project, in an empty or missing folder, with its database at `url` or in the folder; return the folder.

    Raises InputError for an invalid URL, OutputError where the folder holds a project or something else.
    """
    target = None if url is None else checked_url(url)
    folder = make_folder(folder).absolute()
    if is_project(folder):
        raise OutputError(f"{folder}: is a project already")
    if any(folder.iterdir()):
        raise OutputError(f"{folder}: is not empty; a project needs a folder of its own")
    with open_project(folder, url=target):
        place = None if target is None else target.render_as_string(hide_password=False)
        # The URL may have a password in it.
        write_text_atomic(folder / PLACE, json.dumps({"database": place}) + "\n", mode=0o600)
    return folder


@contextmanager
def open_project(
    folder: str | Path,
    *,
    url: str | URL | None = None,
    clock: Callable[[], float] | None = None,
    exclusive: bool = True,
    create: bool = True,
) -> Iterator[Project]:
    """Open the project in a folder, made if need be unless `create` is False.

    Its database is at `url`, or where the project was made with it, or in the folder. Only one process may have it open
    `exclusive`ly, as a server does; workers share it. Times are the database's unless there is a `clock`.

    Raises:
        DataError: it is of a newer version, there is none, or another process has it open.
        OutputError: the folder cannot be made or written to.
    """
    folder = Path(folder).absolute()
    if not create and not is_project(folder):
        raise DataError(f"{folder}: holds no project; `anymask engine init` makes one")
    make_folder(folder)
    with _locked(folder) if exclusive else nullcontext():
        database = Database(url or _place(folder) or sqlite_url(folder / DATABASE))
        try:
            for name in ("images", "cache"):
                make_folder(folder / name)
            yield Project(
                folder=folder,
                database=database,
                images=Images(database, clock=clock),
                annotations=Annotations(database, clock=clock),
                classes=Classes(database, clock=clock),
                settings=SettingsHistory(database),
                jobs=Jobs(database),
                outcomes=Outcomes(database),
                models=Models(database),
                verifiers=Models(database, "verifier"),
                completeness=Models(database, "completeness verifier"),
                reviews=Reviews(database),
                verdicts=MachineVerdicts(database),
            )
        finally:
            database.close()


def _place(folder: Path) -> str | None:
    """Return the URL that a project was made with."""
    path = folder / PLACE
    if not path.exists():
        return None
    try:
        place = json.loads(path.read_text())["database"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: does not say where the project's database is") from error
    return None if place is None else str(place)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"{folder}: another process has this project open; close it, or use that one") from error
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written to ({error.strerror or error})") from error
    try:
        yield
    finally:
        lock.release()
