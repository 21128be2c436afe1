"""What reviewers say of versions, and masks that annotators are not shown but compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, case, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from anymask.engine.store.database import Database
from anymask.engine.store.tables import annotation_heads, annotation_versions, images, reviews, truths
from anymask.errors import InputError
from anymask.geometry import rle
from anymask.geometry.rle import RLE

VERDICTS = ("accept", "fix", "reject")
_TOGETHER = 500
"""Images that are asked for in one statement."""
_NAMES = ("version_id", "kind", "author", "verdict", "iou", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A verdict on one version of a mask; `iou` is that of the mask with what it was corrected to."""

    version_id: int
    kind: str
    """"check" for the sample of the paper's quality check, "review" for the review stage."""
    author: str
    verdict: str
    iou: float | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        """Reject an unknown verdict, and a rejection without a reason."""
        if self.verdict not in VERDICTS:
            raise InputError(f"verdict is {self.verdict!r}; it must be one of {', '.join(VERDICTS)}")
        if self.verdict == "reject" and not self.reason:
            raise InputError("a rejected mask needs a reason")


class Reviews:
    """Verdicts and hidden masks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, new: Sequence[Review]) -> None:
        """Note verdicts; the same verdict on the same version counts once."""

        def work(connection: Connection) -> None:
            insert_reviews(connection, new, at=self._database.now(connection))

        self._database.write(work)

    def tally(self, kind: str) -> dict[tuple[str, str | None], int]:
        """Return how many verdicts of a kind there are, by verdict and reason, the most frequent first."""
        number = func.count().label("number")
        wanted = select(reviews.c.verdict, reviews.c.reason, number).where(reviews.c.kind == kind)
        ordered = wanted.group_by(reviews.c.verdict, reviews.c.reason).order_by(number.desc(), reviews.c.reason)
        with self._database.reading() as connection:
            return {(row.verdict, row.reason): int(row.number) for row in connection.execute(ordered)}

    def of(self, kind: str) -> list[tuple[int, Review]]:
        """Return every verdict of a kind, with its image, in their order."""
        versions = annotation_versions
        joined = reviews.join(versions, versions.c.id == reviews.c.version_id).join(
            annotation_heads, annotation_heads.c.id == versions.c.annotation_id
        )
        wanted = select(reviews, annotation_heads.c.image_id).select_from(joined).where(reviews.c.kind == kind)
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(reviews.c.id))
            return [(row.image_id, Review(**{name: getattr(row, name) for name in _NAMES})) for row in rows]

    def hide(self, image_id: int, masks: Sequence[RLE], *, kind: str, author: str) -> None:
        """Keep masks of an image that no annotator is shown. Raises DataError."""

        def work(connection: Connection) -> None:
            insert_hidden(connection, image_id, masks, kind=kind, author=author, at=self._database.now(connection))

        self._database.write(work)

    def pairs(self, kind: str, levels: Sequence[float]) -> tuple[int, list[int]]:
        """Return how many masks were compared in verdicts of a kind, and how many IoUs are above each of the levels."""
        above = (func.coalesce(func.sum(case((reviews.c.iou > level, 1), else_=0)), 0) for level in levels)
        with self._database.reading() as connection:
            row = connection.execute(select(func.count(reviews.c.iou), *above).where(reviews.c.kind == kind)).one()
        return int(row[0]), [int(number) for number in row[1:]]

    def hidden(
        self, kind: str, image_ids: Sequence[int] | None = None, *, latest: int | None = None
    ) -> dict[tuple[int, str], list[RLE]]:
        """Return the hidden masks of a kind by image and author: of all images, of some, or of the `latest`."""
        if latest is not None:
            newest = select(truths.c.image_id).where(truths.c.kind == kind).group_by(truths.c.image_id)
            with self._database.reading() as connection:
                image_ids = list(connection.scalars(newest.order_by(truths.c.image_id.desc()).limit(latest)))
        joined = truths.join(images, images.c.id == truths.c.image_id)
        columns = (truths.c.image_id, truths.c.author, truths.c.counts, images.c.height, images.c.width)
        wanted = select(*columns).select_from(joined).where(truths.c.kind == kind).order_by(truths.c.id)
        found: dict[tuple[int, str], list[RLE]] = {}
        with self._database.reading() as connection:
            for part in _parts(image_ids):
                for row in connection.execute(wanted if part is None else wanted.where(truths.c.image_id.in_(part))):
                    mask: RLE = {"size": [row.height, row.width], "counts": row.counts}
                    found.setdefault((row.image_id, row.author), []).append(mask)
        return found


def _parts(image_ids: Sequence[int] | None) -> list[Sequence[int] | None]:
    """Share images out among statements; None is all of them."""
    if image_ids is None:
        return [None]
    return [image_ids[start : start + _TOGETHER] for start in range(0, len(image_ids), _TOGETHER)]


def insert_hidden(
    connection: Connection, image_id: int, masks: Sequence[RLE], *, kind: str, author: str, at: float
) -> None:
    """Keep masks that no annotator is shown, within a transaction. Raises DataError."""
    size = connection.execute(select(images.c.height, images.c.width).where(images.c.id == image_id)).one()
    fixed = {"image_id": image_id, "kind": kind, "author": author, "at": at}
    rows = [{"counts": rle.checked(mask, (size.height, size.width))["counts"], **fixed} for mask in masks]
    if rows:
        connection.execute(insert(truths), rows)


def insert_reviews(connection: Connection, new: Sequence[Review], *, at: float) -> None:
    """Note verdicts within a transaction; one that is there already stays as it is."""
    rows = [{name: getattr(each, name) for name in _NAMES} | {"at": at} for each in new]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    if rows:
        connection.execute(dialect.insert(reviews).on_conflict_do_nothing(), rows)
