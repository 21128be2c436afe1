"""What came of finished jobs, and the statistics that follow: seconds and clicks per mask, masks per image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select

from anymask.engine.store.counting import WIDTHS, add_outcome, fold
from anymask.engine.store.database import Database
from anymask.engine.store.tables import OUTCOME_COUNTS, images, jobs, outcome_sums, outcomes

_MINUTE = WIDTHS[0]


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
        with self._database.reading() as connection:
            if since is None:
                rows = [_summed(connection, kind, _by_worker(worker))]
            elif worker is None:
                # Whole minutes are summed already; the one that the time falls into is not whole.
                whole = -int(-since // _MINUTE)
                by_time = (outcome_sums.c.width == _MINUTE) & (outcome_sums.c.stretch >= whole)
                first = (outcomes.c.at >= since) & (outcomes.c.at < whole * _MINUTE)
                rows = [_summed(connection, kind, by_time), _counted(connection, kind, first)]
            else:
                rows = [_counted(connection, kind, (outcomes.c.at >= since) & (outcomes.c.worker == worker))]
        counts = {name: sum(int(getattr(row, name)) for row in rows) for name in ("images", *OUTCOME_COUNTS)}
        return Statistics(seconds=sum(float(row.seconds) for row in rows), **counts)

    def people(self, kind: str) -> dict[str, Statistics]:
        """Return everybody's own statistics."""
        mine = (outcome_sums.c.kind == kind, outcome_sums.c.width == 0)
        sums = (func.sum(outcome_sums.c[name]).label(name) for name in ("images", "seconds", *OUTCOME_COUNTS))
        wanted = select(outcome_sums.c.worker, *sums).where(*mine).group_by(outcome_sums.c.worker)
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(outcome_sums.c.worker)).all()
        return {
            row.worker: Statistics(
                seconds=float(row.seconds), **{name: int(getattr(row, name)) for name in ("images", *OUTCOME_COUNTS)}
            )
            for row in rows
        }

    def seconds_of(self, job_ids: Sequence[int]) -> float:
        """Return what finished jobs took in all."""
        wanted = select(func.coalesce(func.sum(outcomes.c.seconds), 0.0)).where(outcomes.c.job_id.in_(job_ids))
        with self._database.reading() as connection:
            return float(connection.scalar(wanted) or 0.0)

    def history(self, kind: str) -> list[tuple[float, Outcome]]:
        """Return when each job of a kind was finished, in that order, and what came of it."""
        names = [field.name for field in dataclasses.fields(Outcome)]
        with self._database.reading() as connection:
            rows = connection.execute(_finished(kind).order_by(outcomes.c.at, outcomes.c.job_id))
            return [(row.at, _outcome(row, names)) for row in rows]


def insert_outcome(
    connection: Connection, job_id: int, kind: str, image_id: int, worker: str, outcome: Outcome, *, at: float
) -> None:
    """Note a finished job's outcome within a transaction, and add it to the sums."""
    masks = connection.execute(select(images.c.num_annotations).where(images.c.id == image_id)).scalar_one()
    row = {"job_id": job_id, "at": at, "worker": worker, "masks": masks, **dataclasses.asdict(outcome)}
    connection.execute(insert(outcomes).values(row))
    add_outcome(connection, kind, worker, row, at=at)
    fold(connection, job_id)


def _by_worker(worker: str | None) -> ColumnElement[bool]:
    """Of all time: everybody's sums, or one person's."""
    all_time = outcome_sums.c.width == 0
    return all_time if worker is None else all_time & (outcome_sums.c.worker == worker)


def _summed(connection: Connection, kind: str, which: ColumnElement[bool]) -> Row[Any]:
    sums = (
        func.coalesce(func.sum(outcome_sums.c[name]), 0).label(name) for name in ("images", "seconds", *OUTCOME_COUNTS)
    )
    return connection.execute(select(*sums).where(outcome_sums.c.kind == kind, which)).one()


def _counted(connection: Connection, kind: str, which: ColumnElement[bool]) -> Row[Any]:
    """Sum over jobs that were finished in a short time: looked up by it, and only then by their kind."""
    sums = (func.coalesce(func.sum(outcomes.c[name]), 0).label(name) for name in ("seconds", *OUTCOME_COUNTS))
    joined = outcomes.join(jobs, jobs.c.id == outcomes.c.job_id)
    seen = func.coalesce(jobs.c.kind, "") == kind  # the queue's index would lead through all jobs of the kind
    return connection.execute(select(func.count().label("images"), *sums).select_from(joined).where(which, seen)).one()


def _finished(kind: str) -> Any:
    joined = outcomes.join(jobs, jobs.c.id == outcomes.c.job_id)
    return select(outcomes).select_from(joined).where(jobs.c.kind == kind)


def _outcome(row: Row[Any], names: list[str]) -> Outcome:
    return Outcome(**{name: getattr(row, name) for name in names})
