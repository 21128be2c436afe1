"""The project's classes: one whole list per revision, none ever overwritten."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from anymask.engine.store.database import Conflict, Database
from anymask.engine.store.names import check_text, mended
from anymask.engine.store.tables import class_sets

_COLORS = ("#e4572e", "#2e86ab", "#76b041", "#ffc914", "#8e5ea2", "#17bebb", "#d64933", "#5d737e")
"""Colours given in turn to classes that come without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """A class of objects; `color` as #rrggbb, `key` the one that picks it."""

    id: int
    name: str
    color: str
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSet:
    """The classes as of a revision; 0 before there are any."""

    revision: int
    classes: tuple[Class, ...]


class Classes:
    """The list of classes, replaced as a whole."""

    def __init__(self, database: Database, *, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._given = 0
        self._seen = 0
        """The revision whose ids, and those before it, `_given` has passed."""

    def current(self) -> ClassSet:
        """Return the classes as they are now."""
        with self._database.reading() as connection:
            return _current(connection)[0]

    def replace(self, base_revision: int, client: str, classes: Sequence[Class]) -> int:
        """Replace the classes of `base_revision`; return the new revision, which is on the disk then.

        A list that came twice, because its answer was lost, counts once. Raises Conflict if there is another revision.
        """
        for each in classes:
            check_text(each.name, "a class's name")
        text = json.dumps([dataclasses.asdict(each) for each in classes])
        digest = hashlib.sha256(text.encode()).hexdigest()
        with self._database.writing() as connection:
            current, last = _current(connection)
            if current.revision != base_revision:
                if current.revision == base_revision + 1 and last == (client, digest):
                    return current.revision
                raise Conflict("the list of classes", base_revision, current.revision)
            row = {
                "revision": base_revision + 1,
                "client": client,
                "at": self._database.now(connection) if self._clock is None else self._clock(),
                "digest": digest,
                "classes": text,
            }
            try:
                connection.execute(insert(class_sets).values(row))
            except IntegrityError as error:  # PostgreSQL: another transaction was first
                raise Conflict("the list of classes", base_revision, base_revision + 1) from error
        return base_revision + 1

    def fresh_id(self) -> int:
        """Return an id that no class of any list had, and that was given to nobody since the project was opened."""
        with self._lock, self._database.reading() as connection:
            self._given = max(self._given, _last_id(connection, after=self._seen)) + 1
            self._seen = _current(connection)[0].revision
            return self._given


def ensure_classes(connection: Connection, names: Sequence[str], *, client: str, at: float) -> dict[str, int]:
    """Add the classes of those names that are missing, within a transaction; return the id of each."""
    current, _ = _current(connection)
    ids = {each.name: each.id for each in current.classes}
    for name in names:
        check_text(name, "a class's name")
    missing = [name for name in names if name not in ids]
    if missing:
        first = _last_id(connection) + 1
        made = [
            Class(id=first + place, name=name, color=_COLORS[(first + place) % len(_COLORS)])
            for place, name in enumerate(missing)
        ]
        text = json.dumps([dataclasses.asdict(each) for each in (*current.classes, *made)])
        row = {"revision": current.revision + 1, "client": client, "at": at, "classes": text}
        connection.execute(insert(class_sets).values(digest=hashlib.sha256(text.encode()).hexdigest(), **row))
        ids |= {each.name: each.id for each in made}
    return {name: ids[name] for name in names}


def _last_id(connection: Connection, *, after: int = 0) -> int:
    """Return the largest id that a class ever had, or had after a revision; 0 without any.

    Masks of a class that is gone still have its id, which must not become another class's.
    """
    lists = connection.scalars(select(class_sets.c.classes).where(class_sets.c.revision > after))
    return max((each["id"] for text in lists for each in json.loads(text)), default=0)


def _current(connection: Connection) -> tuple[ClassSet, tuple[str, str] | None]:
    """Return the newest list, and whose it is: (client, digest)."""
    row = connection.execute(select(class_sets).order_by(class_sets.c.revision.desc()).limit(1)).one_or_none()
    if row is None:
        return ClassSet(revision=0, classes=()), None
    known = (Class(**each) for each in json.loads(row.classes))
    classes = tuple(dataclasses.replace(each, name=mended(each.name)) for each in known)  # of before they were checked
    return ClassSet(revision=row.revision, classes=classes), (row.client, row.digest)
