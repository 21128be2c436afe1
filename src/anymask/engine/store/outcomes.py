"""What came of finished jobs, and the statistics that follow: seconds and clicks per mask, masks per image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from anymask.engine.store.database import Database
from anymask.engine.store.tables import images, jobs, outcomes

_COUNTS = ("clicks", "strokes", "masks", "prefilled", "confirmed", "fixed", "rejected", "added", "by_hand")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a job took and gave; the number of masks on the image is counted when it is noted."""

    seconds: float = 0.0
    clicks: int = 0
    strokes: int = 0
    prefilled: int = 0
    """Masks that were there from the model when the person came."""
    confirmed: int = 0
    fixed: int = 0
    rejected: int = 0
    added: int = 0
    """Masks that the person, or in the automatic stage the model, put there."""
    by_hand: int = 0
    """Number of masks that the brush touched."""
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Sums over finished jobs, and what follows from them."""

    images: int
    seconds: float
    clicks: int
    strokes: int
    masks: int
    """On the images when their jobs were done."""
    prefilled: int
    confirmed: int
    fixed: int
    rejected: int
    added: int
    by_hand: int

    @property
    def kept(self) -> int:
        """Masks that were left on the images; the time that rejecting others took counts for these."""
        return self.confirmed + self.fixed + self.added

    def summary(self) -> dict[str, float | int]:
        """Return the numbers that a team looks at."""
        kept = max(self.kept, 1)
        return {
            "images": self.images,
            "masks": self.masks,
            "masks_per_image": round(self.masks / max(self.images, 1), 2),
            "seconds_per_mask": round(self.seconds / kept, 2),
            "clicks_per_mask": round(self.clicks / kept, 2),
            "strokes_per_mask": round(self.strokes / kept, 2),
            "by_hand": round(self.by_hand / kept, 3),
            "seconds_per_added_mask": round(self.seconds / max(self.added, 1), 2),
            **{name: getattr(self, name) for name in ("prefilled", "confirmed", "fixed", "rejected", "added")},
        }


class Outcomes:
    """What came of finished jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def statistics(self, kind: str, *, since: float | None = None, worker: str | None = None) -> Statistics:
        """Sum over the finished jobs of a kind, all or those since a time, everybody's or one person's."""
        sums = (func.coalesce(func.sum(outcomes.c[name]), 0).label(name) for name in ("seconds", *_COUNTS))
        wanted = _finished(kind).with_only_columns(func.count().label("images"), *sums)
        if since is not None:
            wanted = wanted.where(outcomes.c.at >= since)
        if worker is not None:
            wanted = wanted.where(outcomes.c.worker == worker)
        with self._database.reading() as connection:
            row = connection.execute(wanted).one()
        counts = {name: int(getattr(row, name)) for name in ("images", *_COUNTS)}
        return Statistics(seconds=float(row.seconds), **counts)

    def seconds_of(self, job_ids: Sequence[int]) -> float:
        """Return what finished jobs took in all."""
        wanted = select(func.coalesce(func.sum(outcomes.c.seconds), 0.0)).where(outcomes.c.job_id.in_(job_ids))
        with self._database.reading() as connection:
            return float(connection.scalar(wanted) or 0.0)

    def people(self, kind: str) -> dict[str, Statistics]:
        """Return each person's statistics."""
        with self._database.reading() as connection:
            names = list(connection.scalars(_finished(kind).with_only_columns(outcomes.c.worker).distinct()))
        return {name: self.statistics(kind, worker=name) for name in sorted(names)}

    def history(self, kind: str) -> list[tuple[float, Outcome]]:
        """Return when each job of a kind was finished, in that order, and what came of it."""
        names = [field.name for field in dataclasses.fields(Outcome)]
        with self._database.reading() as connection:
            rows = connection.execute(_finished(kind).order_by(outcomes.c.at, outcomes.c.job_id))
            return [(row.at, _outcome(row, names)) for row in rows]


def insert_outcome(
    connection: Connection, job_id: int, image_id: int, worker: str, outcome: Outcome, *, at: float
) -> None:
    """Note a finished job's outcome within a transaction."""
    masks = select(images.c.num_annotations).where(images.c.id == image_id).scalar_subquery()
    row = {"job_id": job_id, "at": at, "worker": worker, "masks": masks, **dataclasses.asdict(outcome)}
    connection.execute(insert(outcomes).values(row))


def _finished(kind: str) -> Any:
    joined = outcomes.join(jobs, jobs.c.id == outcomes.c.job_id)
    return select(outcomes).select_from(joined).where(jobs.c.kind == kind)


def _outcome(row: Row[Any], names: list[str]) -> Outcome:
    return Outcome(**{name: getattr(row, name) for name in names})
