"""Annotations as versions: a change set adds versions and moves pointers, and the past stays as it was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, select, update

from anymask.engine.store.counting import PEOPLES_MASKS, count
from anymask.engine.store.database import Conflict, Database
from anymask.engine.store.names import MACHINES, check_text, mended
from anymask.engine.store.tables import annotation_heads, annotation_versions, change_sets, images
from anymask.errors import DataError
from anymask.geometry import rle
from anymask.geometry.rle import RLE

Json: TypeAlias = Mapping[str, object]

_PROVENANCE = ("stage", "author", "origin", "model", "seconds", "clicks", "strokes", "derived_from")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a mask comes from: who made it, in which stage, with which model, and what it took."""

    stage: str
    """"assisted", "semi-automatic", "automatic", "check", "review" or "import"."""
    author: str
    origin: str = "added"
    """"added", "prefilled", "automatic" or "imported": how the object came to the image."""
    model: str | None = None
    """Hash of the model that answered the prompts."""
    seconds: float = 0.0
    clicks: int = 0
    strokes: int = 0
    """Number of strokes of the brush."""
    derived_from: int | None = None
    """Id of the version whose mask this one began as; None takes the annotation's version before, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One object on an image; `id` is its client's, and `parent` that of the object it is a part of."""

    id: str
    rle: RLE
    class_id: int | None = None
    name: str | None = None
    visible: bool = True
    score: float | None = None
    source: str = "click"
    prompts: Json | None = None
    parent: str | None = None
    provenance: Provenance | None = None


def is_peoples(each: Annotation) -> bool:
    """Whether a person drew a mask, or looked at it and left it."""
    return each.provenance is None or each.provenance.author not in MACHINES


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """An annotation as it was at some time; deleted if `annotation` is None."""

    id: int
    image_id: int
    revision: int
    at: float
    client: str
    key: str
    annotation: Annotation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Add an annotation, or give it a new version."""

    annotation: Annotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete an annotation; its versions stay, and a later `Put` brings it back in its old place."""

    id: str


Change: TypeAlias = Put | Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The annotations of an image as of a revision, in the order in which they were first made."""

    revision: int
    annotations: tuple[Annotation, ...]


class Annotations:
    """The annotations of all images, changed by one change set after the other on each image."""

    def __init__(self, database: Database, *, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._clock = clock

    def state(self, image_id: int, revision: int | None = None) -> State:
        """Return an image's annotations, now or as of an earlier revision; raises DataError without such an image."""
        with self._database.reading() as connection:
            current, size = _image(connection, image_id)
            if revision is None or revision >= current:
                rows = connection.execute(_current(image_id))
            else:
                rows = connection.execute(_as_of(image_id, revision))
            found = tuple(_annotation(row, size) for row in rows if not row.deleted)
        return State(revision=current if revision is None else min(revision, current), annotations=found)

    def change(self, image_id: int, base_revision: int, client: str, changes: Sequence[Change]) -> int:
        """Apply changes, all or none, to an image that is at `base_revision`; return its new revision.

        When it returns they are on the disk. A change set that came twice, because its answer was lost, is applied
        once and answered alike.

        Raises:
            Conflict: the image is at another revision.
            DataError: there is no such image, a mask is malformed or of another size, or what shall be deleted is
                not there.
        """
        digest = _digest(changes)

        def work(connection: Connection) -> int:
            at = self._database.now(connection) if self._clock is None else self._clock()
            return change(connection, image_id, base_revision, client, changes, digest=digest, at=at)

        return self._database.write(work)

    def versions(self, image_id: int, key: str | None = None) -> list[Version]:
        """Return every version on an image, or of one annotation of it, oldest first."""
        wanted = _versions().where(annotation_heads.c.image_id == image_id)
        if key is not None:
            wanted = wanted.where(annotation_heads.c.key == key)
        with self._database.reading() as connection:
            _, size = _image(connection, image_id)
            return [version_of(row, size) for row in connection.execute(wanted.order_by(annotation_versions.c.id))]


def append(
    connection: Connection,
    image_id: int,
    client: str,
    changes: Sequence[Change],
    *,
    at: float,
    revision: int | None = None,
) -> int:
    """Apply changes to an image at whatever revision it is, within a transaction; return its new revision.

    Raises Conflict where a `revision` is given, and the image is at another.
    """
    current, _ = _image(connection, image_id, lock=True)
    if revision not in (None, current):
        raise Conflict(f"image {image_id}", revision, current)
    return change(connection, image_id, current, client, changes, digest=_digest(changes), at=at)


def change(
    connection: Connection,
    image_id: int,
    base_revision: int,
    client: str,
    changes: Sequence[Change],
    *,
    digest: str,
    at: float,
) -> int:
    """Apply changes within a transaction, as `Annotations.change` does in one of its own."""
    current, size = _image(connection, image_id, lock=True)
    if current != base_revision:
        if current == base_revision + 1 and _was_sent(connection, image_id, current, client, digest):
            return current
        raise Conflict(f"image {image_id}", base_revision, current)
    for each in changes:
        if isinstance(each, Put):
            _check(each.annotation)
    puts = {each.annotation.id: rle.checked(each.annotation.rle, size) for each in changes if isinstance(each, Put)}
    row = {
        "image_id": image_id,
        "base_revision": base_revision,
        "revision": base_revision + 1,
        "client": client,
        "at": at,
        "digest": digest,
    }
    change_set = connection.execute(insert(change_sets).values(row).returning(change_sets.c.id)).scalar_one()
    last = _last_of_each(changes)
    grown = _apply(connection, image_id, change_set, last, puts)
    count(
        connection, PEOPLES_MASKS, sum(isinstance(each, Put) and is_peoples(each.annotation) for each in last.values())
    )
    counted = {"revision": base_revision + 1, "num_annotations": images.c.num_annotations + grown}
    connection.execute(update(images).where(images.c.id == image_id).values(counted))
    return base_revision + 1


def _check(new: Annotation) -> None:
    """Refuse what could not be sent to a page, whoever writes it: requests, an import, a stage. Raises DataError."""
    texts = {"id": new.id, "name": new.name, "source": new.source, "parent": new.parent}
    if new.provenance is not None:
        texts |= {"author": new.provenance.author, "stage": new.provenance.stage, "model": new.provenance.model}
    for what, text in texts.items():
        check_text(text, f"an annotation's {what}")
    if new.score is not None and not math.isfinite(new.score):
        raise DataError(f"annotation {new.id} has the score {new.score}; it must be a finite number")


def _apply(
    connection: Connection, image_id: int, change_set: int, changes: Mapping[str, Change], puts: Mapping[str, RLE]
) -> int:
    """Write a version for each change and point to it; return by how many annotations the image has grown."""
    present = {row.key: row for row in connection.execute(_heads(image_id, list(changes)))}
    for key, change in changes.items():
        if isinstance(change, Delete) and key not in puts and (key not in present or present[key].deleted):
            raise DataError(f"annotation {key} cannot be deleted: image {image_id} has none of that id")
    ids = {key: row.id for key, row in present.items()}
    missing = [{"image_id": image_id, "key": key} for key in changes if key not in ids]
    if missing:
        made = insert(annotation_heads).returning(
            annotation_heads.c.key, annotation_heads.c.id, sort_by_parameter_order=True
        )
        ids |= {row.key: row.id for row in connection.execute(made, missing)}
    versions = [
        {"annotation_id": ids[key], "change_set_id": change_set, **_version(change, puts, _before(present.get(key)))}
        for key, change in changes.items()
    ]
    if versions:
        made = insert(annotation_versions).returning(
            annotation_versions.c.annotation_id, annotation_versions.c.id, sort_by_parameter_order=True
        )
        moved = [{"of": row.annotation_id, "to": row.id} for row in connection.execute(made, versions)]
        pointed = (
            update(annotation_heads).where(annotation_heads.c.id == bindparam("of")).values(version_id=bindparam("to"))
        )
        connection.execute(pointed, moved)
    before = sum(not row.deleted for row in present.values())
    return sum(isinstance(change, Put) for change in changes.values()) - before


def _before(row: Row[Any] | None) -> int | None:
    """Return the version that an annotation has, None where it is new or deleted."""
    return None if row is None or row.deleted else row.version_id


def _version(change: Change, puts: Mapping[str, RLE], before: int | None) -> dict[str, object]:
    match change:
        case Put(annotation=new):
            prompts = None if new.prompts is None else json.dumps(new.prompts, separators=(",", ":"), allow_nan=False)
            return {
                "deleted": False,
                "counts": puts[new.id]["counts"],
                "class_id": new.class_id,
                "name": new.name,
                "visible": new.visible,
                "score": new.score,
                "source": new.source,
                "prompts": prompts,
                "parent": new.parent,
                **_provenance_row(new.provenance, before),
            }
        case Delete():
            nothing = dict.fromkeys(("class_id", "name", "score", "prompts", "parent", *_PROVENANCE))
            return {"deleted": True, "counts": "", "visible": False, "source": "", **nothing}


def _provenance_row(known: Provenance | None, before: int | None) -> dict[str, object]:
    if known is None:
        return {**dict.fromkeys(_PROVENANCE), "derived_from": before}
    row: dict[str, object] = {name: getattr(known, name) for name in _PROVENANCE}
    return row | {"derived_from": before if known.derived_from is None else known.derived_from}


def _last_of_each(changes: Sequence[Change]) -> dict[str, Change]:
    """Return what each annotation comes to; what is put and deleted in one change set was never there."""
    last: dict[str, Change] = {}
    for change in changes:
        last[change.annotation.id if isinstance(change, Put) else change.id] = change
    return last


def _digest(changes: Sequence[Change]) -> str:
    text = json.dumps([[type(change).__name__, dataclasses.asdict(change)] for change in changes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _image(connection: Connection, image_id: int, *, lock: bool = False) -> tuple[int, tuple[int, int]]:
    """Return an image's revision and (height, width); with `lock` no other transaction changes it meanwhile."""
    wanted = select(images.c.revision, images.c.height, images.c.width).where(images.c.id == image_id)
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    if row is None:
        raise DataError(f"there is no image {image_id} in this project")
    return row.revision, (row.height, row.width)


def _was_sent(connection: Connection, image_id: int, revision: int, client: str, digest: str) -> bool:
    last = select(change_sets).where(change_sets.c.image_id == image_id, change_sets.c.revision == revision)
    row = connection.execute(last).one()
    return bool(row.client == client and row.digest == digest)


def _heads(image_id: int, keys: Sequence[str]) -> Select[Any]:
    """Those of the keys that the image has, deleted or not."""
    joined = annotation_heads.join(annotation_versions, annotation_versions.c.id == annotation_heads.c.version_id)
    columns = (
        annotation_heads.c.key,
        annotation_heads.c.id,
        annotation_heads.c.version_id,
        annotation_versions.c.deleted,
    )
    wanted = select(*columns).select_from(joined)
    return wanted.where(annotation_heads.c.image_id == image_id, annotation_heads.c.key.in_(keys))


def _current(image_id: int) -> Select[Any]:
    joined = annotation_heads.join(annotation_versions, annotation_versions.c.id == annotation_heads.c.version_id)
    wanted = select(annotation_heads.c.key, annotation_versions).select_from(joined)
    return wanted.where(annotation_heads.c.image_id == image_id).order_by(annotation_heads.c.id)


def _as_of(image_id: int, revision: int) -> Select[Any]:
    """The newest versions among those of change sets up to the revision."""
    newest = (
        select(func.max(annotation_versions.c.id).label("id"))
        .join(change_sets, change_sets.c.id == annotation_versions.c.change_set_id)
        .where(change_sets.c.image_id == image_id, change_sets.c.revision <= revision)
        .group_by(annotation_versions.c.annotation_id)
        .subquery()
    )
    joined = annotation_versions.join(newest, newest.c.id == annotation_versions.c.id).join(
        annotation_heads, annotation_heads.c.id == annotation_versions.c.annotation_id
    )
    return select(annotation_heads.c.key, annotation_versions).select_from(joined).order_by(annotation_heads.c.id)


def _annotation(row: Row[Any], size: tuple[int, int]) -> Annotation:
    return Annotation(
        id=row.key,
        rle={"size": list(size), "counts": row.counts},
        class_id=row.class_id,
        name=row.name,
        visible=row.visible,
        score=None if row.score is None or not math.isfinite(row.score) else row.score,  # of before it was checked
        source=row.source,
        prompts=None if row.prompts is None else json.loads(mended(row.prompts)),
        parent=row.parent,
        provenance=_provenance(row),
    )


def _provenance(row: Row[Any]) -> Provenance | None:
    return None if row.stage is None else Provenance(**{name: getattr(row, name) for name in _PROVENANCE})


def _versions() -> Select[Any]:
    joined = annotation_versions.join(
        annotation_heads, annotation_heads.c.id == annotation_versions.c.annotation_id
    ).join(change_sets, change_sets.c.id == annotation_versions.c.change_set_id)
    more = (annotation_heads.c.key, annotation_heads.c.image_id, change_sets.c.revision, change_sets.c.at)
    return select(annotation_versions, *more, change_sets.c.client).select_from(joined)


def version_of(row: Row[Any], size: tuple[int, int]) -> Version:
    """Return a row of versions, with its annotation's key and its change set, on an image of `size`."""
    return Version(
        id=row.id,
        image_id=row.image_id,
        revision=row.revision,
        at=row.at,
        client=row.client,
        key=row.key,
        annotation=None if row.deleted else _annotation(row, size),
    )
