"""What reviewers say of versions, and masks that are known to be right: honeypots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from anymask.engine.store.database import Database
from anymask.engine.store.tables import images, reviews, truths
from anymask.errors import InputError
from anymask.geometry import rle
from anymask.geometry.rle import RLE

VERDICTS = ("accept", "fix", "reject")


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
        """Refuse a verdict that is none, and a rejection without a reason."""
        if self.verdict not in VERDICTS:
            raise InputError(f"verdict is {self.verdict!r}; it must be one of {', '.join(VERDICTS)}")
        if self.verdict == "reject" and not self.reason:
            raise InputError("a rejected mask needs a reason")


class Reviews:
    """Verdicts and honeypots."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, new: Sequence[Review]) -> None:
        """Note verdicts; who says the same of the same version twice has said it once."""
        names = ("version_id", "kind", "author", "verdict", "iou", "reason")

        def work(connection: Connection) -> None:
            at = self._database.now(connection)
            rows = [{name: getattr(each, name) for name in names} | {"at": at} for each in new]
            dialect = postgresql if self._database.skips_locked else sqlite
            if rows:
                connection.execute(dialect.insert(reviews).on_conflict_do_nothing(), rows)

        self._database.write(work)

    def ious(self, kind: str) -> list[float]:
        """Return the IoU of every mask of a kind of review with its correction."""
        wanted = select(reviews.c.iou).where(reviews.c.kind == kind, reviews.c.iou.is_not(None))
        with self._database.reading() as connection:
            return [float(value) for value in connection.scalars(wanted.order_by(reviews.c.id))]

    def verdicts(self, kind: str) -> dict[str, int]:
        """Return how often each verdict was given."""
        wanted = select(reviews.c.verdict, func.count()).where(reviews.c.kind == kind).group_by(reviews.c.verdict)
        with self._database.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(wanted)}

    def add_truths(self, image_id: int, masks: Sequence[RLE], author: str) -> None:
        """Keep masks that are known to be right on an image, and that nobody is shown. Raises DataError."""
        with self._database.writing() as connection:
            size = connection.execute(select(images.c.height, images.c.width).where(images.c.id == image_id)).one()
            at = self._database.now(connection)
            counts = [rle.checked(mask, (size.height, size.width))["counts"] for mask in masks]
            rows: list[dict[str, Any]] = [
                {"image_id": image_id, "counts": each, "author": author, "at": at} for each in counts
            ]
            if rows:
                connection.execute(insert(truths), rows)

    def truths(self) -> dict[int, list[RLE]]:
        """Return the honeypots' masks by image."""
        joined = truths.join(images, images.c.id == truths.c.image_id)
        wanted = select(truths.c.image_id, truths.c.counts, images.c.height, images.c.width).select_from(joined)
        found: dict[int, list[RLE]] = {}
        with self._database.reading() as connection:
            for row in connection.execute(wanted.order_by(truths.c.id)):
                found.setdefault(row.image_id, []).append({"size": [row.height, row.width], "counts": row.counts})
        return found
