"""Jobs: an image to be worked on, leased to one worker at a time, finished once.

A lease is a token that stays valid after it expires, until another worker takes the job: a late result still counts as
long as nobody else has begun. Time is the database's, so that workers' clocks do not matter. A worker that
dies, or that fails, costs the job a try; after the last it is put in quarantine with the reason, and the queue goes on.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from anymask.engine.store.annotations import Change, append
from anymask.engine.store.counting import fold, job_counts
from anymask.engine.store.database import Database
from anymask.engine.store.outcomes import Outcome, insert_outcome
from anymask.engine.store.reviews import Review, insert_hidden, insert_reviews
from anymask.engine.store.tables import jobs
from anymask.engine.store.verdicts import MachineVerdict, insert_verdicts, settle_audits
from anymask.errors import DataError
from anymask.geometry.rle import RLE

TRIES = 3
_TOGETHER = 500


class LeaseLost(DataError):
    """The job was given to another worker, or is over: what was made of it is not taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be added; there is one of a kind, an image and a copy."""

    image_id: int
    rank: float = 0.0
    """Place in the queue: lower comes first."""
    copy: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A job that is this worker's for now."""

    job_id: int
    kind: str
    image_id: int
    worker: str
    token: str
    attempt: int
    copy: int = 0
    """Above 0 where somebody else has the same image, to see whether they agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A job as it stands."""

    id: int
    kind: str
    image_id: int
    state: str
    attempts: int
    worker: str | None
    reason: str | None


class Jobs:
    """The queues of all stages."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, kind: str, new: Iterable[NewJob]) -> int:
        """Add jobs; those that are there already stay as they are. Returns how many were new."""
        rows = [{"image_id": job.image_id, "rank": job.rank, "copy": job.copy} for job in new]

        def work(connection: Connection) -> int:
            fixed = {"kind": kind, "state": "open", "attempts": 0, "created": self._database.now(connection)}
            dialect = postgresql if self._database.skips_locked else sqlite
            added = 0
            for start in range(0, len(rows), _TOGETHER):
                some = [row | fixed for row in rows[start : start + _TOGETHER]]
                added += len(
                    connection.execute(
                        dialect.insert(jobs).values(some).on_conflict_do_nothing().returning(jobs.c.id)
                    ).all()
                )
            fold(connection)
            return added

        return self._database.write(work)

    def lease(self, kind: str, worker: str, *, seconds: float, tries: int | None = TRIES) -> Lease | None:
        """Take the first open job, or one whose lease has expired; None where there is none now.

        A job that was let go `tries` times is put in quarantine instead; None never does that: people may take a break.
        Of an image's copies nobody gets two.
        """
        return self._database.write(lambda connection: self._lease(connection, kind, worker, seconds, tries))

    def _lease(self, connection: Connection, kind: str, worker: str, seconds: float, tries: int | None) -> Lease | None:
        now = self._database.now(connection)
        self._sweep(connection, kind, now, tries)
        others = jobs.alias()
        mine = exists().where(
            others.c.kind == kind,
            others.c.image_id == jobs.c.image_id,
            others.c.id != jobs.c.id,
            others.c.worker == worker,
        )
        first = (
            select(jobs.c.id)
            .where(jobs.c.kind == kind, jobs.c.state == "open", ~mine)
            .order_by(jobs.c.rank, jobs.c.id)
            .limit(1)
        )
        if self._database.skips_locked:
            first = first.with_for_update(skip_locked=True)
        taken = {
            "state": "leased",
            "worker": worker,
            "token": uuid.uuid4().hex,
            "expires": now + seconds,
            "attempts": jobs.c.attempts + 1,
        }
        chosen = connection.scalar(first)
        if chosen is None:
            return None
        row = connection.execute(update(jobs).where(jobs.c.id == chosen).values(taken).returning(jobs)).one()
        return Lease(
            job_id=row.id,
            kind=kind,
            image_id=row.image_id,
            worker=worker,
            token=row.token,
            attempt=row.attempts,
            copy=row.copy,
        )

    def _sweep(self, connection: Connection, kind: str, now: float, tries: int | None) -> None:
        """Reopen the jobs whose leases have expired, and quarantine those that were let go too often."""
        expired = select(jobs.c.id).where(jobs.c.kind == kind, jobs.c.state == "leased", jobs.c.expires < now)
        if self._database.skips_locked:
            expired = expired.with_for_update(skip_locked=True)
        ids = list(connection.scalars(expired))
        if not ids:
            return
        if tries is not None:
            said = func.coalesce(jobs.c.reason, "its worker died or hung each time")
            aside = update(jobs).where(jobs.c.id.in_(ids), jobs.c.attempts >= tries)
            connection.execute(aside.values(state="quarantined", reason=said))
        connection.execute(update(jobs).where(jobs.c.id.in_(ids), jobs.c.state == "leased").values(state="open"))

    def renew(self, lease: Lease, *, seconds: float) -> bool:
        """Extend a lease, also one that has expired but that nobody took over; False if it is lost."""

        def work(connection: Connection) -> bool:
            until = self._database.now(connection) + seconds
            kept = update(jobs).where(_held(lease)).values(state="leased", expires=until)
            return connection.execute(kept).rowcount == 1

        return self._database.write(work)

    def finish(
        self,
        lease: Lease,
        outcome: Outcome,
        changes: Sequence[Change] = (),
        reviews: Sequence[Review] = (),
        *,
        hidden: tuple[str, Sequence[RLE]] | None = None,
        verdicts: Sequence[MachineVerdict] = (),
        by_person: bool = True,
        revision: int | None = None,
    ) -> bool:
        """Note a job's outcome and reviews and apply its changes to the image, all in one; reported twice, it counts
        once.

        `hidden` is a kind of masks that no annotator is shown, and those that the job gave; `verdicts` are a
        verifier's. Where no person ends the job it settles no audit. With a `revision` the changes hold on it alone.

        False if it had been finished under this lease before. Raises LeaseLost if another has the job, or has
        finished it, and Conflict where the image is at another revision; nothing is written then.
        """

        def work(connection: Connection) -> bool:
            done = connection.execute(update(jobs).where(_held(lease)).values(state="done", expires=None, reason=None))
            if done.rowcount != 1:
                row = connection.execute(select(jobs).where(jobs.c.id == lease.job_id)).one()
                if row.token == lease.token and row.state == "done":
                    return False
                raise LeaseLost(f"job {lease.job_id} on image {lease.image_id} is {row.worker}'s now, and {row.state}")
            at = self._database.now(connection)
            insert_reviews(connection, reviews, at=at)
            if changes:
                append(connection, lease.image_id, lease.worker, changes, at=at, revision=revision)
            if hidden is not None:
                insert_hidden(connection, lease.image_id, hidden[1], kind=hidden[0], author=lease.worker, at=at)
            insert_outcome(connection, lease.job_id, lease.kind, lease.image_id, lease.worker, outcome, at=at)
            insert_verdicts(connection, verdicts, at=at)
            if by_person and not lease.copy:
                settle_audits(connection, lease.image_id, added=outcome.added)
            return True

        return self._database.write(work)

    def is_finished(self, lease: Lease) -> bool:
        """Whether a job was finished under this very lease."""
        state = select(jobs.c.state).where(jobs.c.id == lease.job_id, jobs.c.token == lease.token)
        with self._database.reading() as connection:
            return connection.scalar(state) == "done"

    def fail(self, lease: Lease, reason: str, *, tries: int = TRIES) -> str:
        """Give a job back with the reason why it cannot be done; the last try's puts it in quarantine.

        Returns the state that it has now.
        """

        def work(connection: Connection) -> str:
            state = "quarantined" if lease.attempt >= tries else "open"
            given = update(jobs).where(_held(lease)).values(state=state, expires=None, reason=reason)
            if connection.execute(given).rowcount != 1:
                state = str(connection.scalar(select(jobs.c.state).where(jobs.c.id == lease.job_id)))
            return state

        return self._database.write(work)

    def skip(self, lease: Lease, reason: str) -> None:
        """Take an image out of the queue for a reason that a person gives. Raises LeaseLost."""
        self._end(lease, {"state": "skipped", "reason": reason})

    def give_back(self, lease: Lease) -> None:
        """Return a job untouched; this costs it no try. Raises LeaseLost."""
        self._end(lease, {"state": "open", "attempts": jobs.c.attempts - 1, "worker": None, "token": None})

    def _end(self, lease: Lease, values: dict[str, Any]) -> None:
        def work(connection: Connection) -> None:
            if connection.execute(update(jobs).where(_held(lease)).values(expires=None, **values)).rowcount != 1:
                raise LeaseLost(f"job {lease.job_id} on image {lease.image_id} is another's now, or over")

        self._database.write(work)

    def abandon(self, worker: str) -> int:
        """Let a dead worker's leases expire now; returns how many it had."""

        def work(connection: Connection) -> int:
            past = self._database.now(connection) - 1
            held = update(jobs).where(jobs.c.worker == worker, jobs.c.state == "leased").values(expires=past)
            return connection.execute(held).rowcount

        return self._database.write(work)

    def reopen(self, kind: str) -> int:
        """Give the jobs in quarantine, and those skipped, another chance; returns how many there were."""
        aside = update(jobs).where(jobs.c.kind == kind, jobs.c.state.in_(("quarantined", "skipped")))
        with self._database.writing() as connection:
            return connection.execute(aside.values(state="open", attempts=0, reason=None)).rowcount

    def counts(self, kind: str | None = None) -> dict[str, dict[str, int]]:
        """Return how many jobs of each kind, or of one, are in each state."""
        with self._database.reading() as connection:
            return job_counts(connection, kind)

    def second_opinions(self, kind: str, *, latest: int | None = None) -> list[tuple[int, str]]:
        """Return the image and the worker of each further copy that is done, of images whose first copy is done too.

        Of all, or of the `latest` images.
        """
        first = jobs.alias()
        both = exists().where(
            first.c.kind == kind, first.c.image_id == jobs.c.image_id, first.c.copy == 0, first.c.state == "done"
        )
        wanted = select(jobs.c.image_id, jobs.c.worker).where(
            jobs.c.kind == kind, jobs.c.copy > 0, jobs.c.state == "done", both
        )
        with self._database.reading() as connection:
            ordered = wanted.order_by(jobs.c.image_id.desc()).limit(latest)
            return sorted((row.image_id, row.worker) for row in connection.execute(ordered))

    def is_over(self, kind: str) -> bool:
        """Whether no job of a kind is open or leased."""
        left = select(jobs.c.id).where(jobs.c.kind == kind, or_(jobs.c.state == "open", jobs.c.state == "leased"))
        with self._database.reading() as connection:
            return connection.scalar(left.limit(1)) is None

    def in_state(self, state: str, kind: str | None = None, *, limit: int = 1000) -> list[JobState]:
        """Return jobs in a state, such as those in quarantine, by kind and rank."""
        found: list[JobState] = []
        with self._database.reading() as connection:
            # Kind by kind, as the queue's index has them.
            for each in sorted(job_counts(connection)) if kind is None else (kind,):
                mine = select(jobs).where(jobs.c.kind == each, jobs.c.state == state)
                ordered = mine.order_by(jobs.c.rank, jobs.c.id).limit(limit - len(found))
                found += [_state(row) for row in connection.execute(ordered)]
        return found

    def next_images(self, kind: str, count: int) -> list[int]:
        """Return the images at the head of a queue, so that they can be encoded before they are opened."""
        wanted = select(jobs.c.image_id).where(jobs.c.kind == kind, jobs.c.state == "open")
        with self._database.reading() as connection:
            return list(connection.scalars(wanted.order_by(jobs.c.rank, jobs.c.id).limit(count)))

    def of(self, image_id: int) -> list[JobState]:
        """Return the jobs of one image."""
        with self._database.reading() as connection:
            rows = connection.execute(select(jobs).where(jobs.c.image_id == image_id).order_by(jobs.c.id))
            return [_state(row) for row in rows]


def _held(lease: Lease) -> ColumnElement[bool]:
    """Whether a job is still the lease's: nobody else took it, and it is not over."""
    copy = jobs.c.copy > 0 if lease.copy else jobs.c.copy == 0
    return (jobs.c.id == lease.job_id) & (jobs.c.token == lease.token) & copy & jobs.c.state.in_(("leased", "open"))


def _state(row: Row[Any]) -> JobState:
    return JobState(
        id=row.id,
        kind=row.kind,
        image_id=row.image_id,
        state=row.state,
        attempts=row.attempts,
        worker=row.worker,
        reason=row.reason,
    )
