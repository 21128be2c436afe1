"""What verifiers said without a person, which of it was held back for an audit, and what people said of that.

An audited verdict changes nothing: the mask waits among the others, and nothing tells a person that it was judged. What
people make of it is read from its versions when its job ends.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, Connection, case, func, insert, select, update

from anymask.engine.store.database import Database
from anymask.engine.store.names import MACHINES
from anymask.engine.store.tables import annotation_heads, annotation_versions, images, machine_verdicts
from anymask.geometry import rle

COMPLETE, INCOMPLETE, ASK = "complete", "incomplete", "ask"
"""Verdicts that every object of an image has a mask, that one is missing; that only a person can judge a mask."""
UNDONE = "undone"
_Z = 1.959964
"""Of the two-sided 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineVerdict:
    """A verdict that no person gave, on a version of a mask, or on an image where `version_id` is None.

    "accept", "reject" or `ASK` of a mask, `COMPLETE` or `INCOMPLETE` of an image; `chance` is that of its being right,
    and of a mask that has to be asked for, that of the likelier guess.
    """

    image_id: int
    version_id: int | None
    verifier_id: int
    verdict: str
    chance: float
    audited: bool = False
    places: Sequence[tuple[float, float, float, float]] = ()
    """Of an image: boxes (x0, y0, x1, y1) in its pixels where a mask seems to be missing, the likeliest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """How many audited verdicts of a kind people have come by, and with how many they agreed."""

    looked_at: int
    agreed: int
    waiting: int
    """Held back, and not looked at yet."""
    applied: int
    """Verdicts of the kind that were applied without a person."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share that people would agree with (Wilson, 1927)."""
        return wilson(self.agreed, self.looked_at)


class MachineVerdicts:
    """Verdicts of all verifiers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def audit(self, verifier_id: int, verdict: str) -> Audit:
        """Return what people have said of a verifier's audited verdicts of a kind."""
        wanted = (
            select(machine_verdicts.c.audited, machine_verdicts.c.outcome, func.count())
            .where(machine_verdicts.c.verifier_id == verifier_id, machine_verdicts.c.verdict == verdict)
            .group_by(machine_verdicts.c.audited, machine_verdicts.c.outcome)
        )
        with self._database.reading() as connection:
            rows = [(bool(audited), outcome, int(count)) for audited, outcome, count in connection.execute(wanted)]
        said = {outcome: count for audited, outcome, count in rows if audited}
        agreeing = "reject" if verdict == "reject" else "accept"
        return Audit(
            looked_at=sum(count for outcome, count in said.items() if outcome not in (None, UNDONE)),
            agreed=said.get(agreeing, 0),
            waiting=said.get(None, 0),
            applied=sum(count for audited, outcome, count in rows if not audited and outcome != UNDONE),
        )

    def applied(self, verifier_id: int) -> list[tuple[int, int, str]]:
        """Return (image, version, verdict) of what a verifier decided about masks without a person and still holds."""
        return self._held(machine_verdicts.c.verifier_id == verifier_id)

    def held(self, image_id: int) -> list[tuple[int, int, str]]:
        """Return the same of an image, whichever verifier it was."""
        return self._held(machine_verdicts.c.image_id == image_id)

    def _held(self, which: ColumnElement[bool]) -> list[tuple[int, int, str]]:
        table = machine_verdicts
        decided = table.c.verdict.in_(("accept", "reject")) & ~table.c.audited & table.c.outcome.is_(None)
        wanted = select(table).where(which, decided, table.c.version_id.is_not(None))
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(table.c.image_id, table.c.id))
            return [(row.image_id, row.version_id, row.verdict) for row in rows]

    def audits_of(self, image_id: int, verdict: str) -> list[str]:
        """Return what people have said of an image's audited verdicts of a kind."""
        table = machine_verdicts
        wanted = select(table.c.outcome).where(
            table.c.image_id == image_id, table.c.verdict == verdict, table.c.audited, table.c.outcome.is_not(None)
        )
        with self._database.reading() as connection:
            return [str(outcome) for outcome in connection.scalars(wanted.order_by(table.c.id))]

    def worth(self) -> dict[int, float | None]:
        """Return, of each image that a verifier looked at, what a person's look is worth there; None for no look.

        It is the number of masks that the machine would get wrong, as it believes, and one more where an object has
        none. Nobody has to look where every mask was judged and the image is complete; an audit counts as open.
        """
        table = machine_verdicts
        asked = table.c.audited | table.c.verdict.in_((ASK, INCOMPLETE))
        wrong = case((table.c.verdict == INCOMPLETE, table.c.chance), else_=1 - table.c.chance)
        sums = (
            func.sum(case((asked, 1), else_=0)).label("open"),
            func.sum(case((asked, wrong), else_=0.0)).label("worth"),
            func.sum(case((table.c.version_id.is_(None), 1), else_=0)).label("images"),
        )
        wanted = select(table.c.image_id, *sums).where(table.c.outcome.is_(None)).group_by(table.c.image_id)
        with self._database.reading() as connection:
            return {
                row.image_id: float(row.worth) if row.open or not row.images else None
                for row in connection.execute(wanted)
            }

    def missing(self, image_id: int) -> list[tuple[float, float, float, float]]:
        """Return where an image seemed to lack a mask when a verifier last looked at it, the likeliest place first."""
        table = machine_verdicts
        newest = select(table.c.places).where(table.c.image_id == image_id, table.c.version_id.is_(None))
        with self._database.reading() as connection:
            text = connection.scalar(newest.order_by(table.c.id.desc()).limit(1))
        return [] if text is None else [(x0, y0, x1, y1) for x0, y0, x1, y1 in json.loads(text)]

    def forget(self, verifier_id: int) -> None:
        """Note that all verdicts of a verifier that nobody has confirmed were taken back."""
        open_ = update(machine_verdicts).where(
            machine_verdicts.c.verifier_id == verifier_id, machine_verdicts.c.outcome.is_(None)
        )
        with self._database.writing() as connection:
            connection.execute(open_.values(outcome=UNDONE))


def insert_verdicts(connection: Connection, new: Sequence[MachineVerdict], *, at: float) -> None:
    """Note verdicts within a transaction."""
    names = ("image_id", "version_id", "verifier_id", "verdict", "chance", "audited")
    rows = [
        {name: getattr(each, name) for name in names}
        | {"at": at, "places": json.dumps(each.places) if each.places else None}
        for each in new
    ]
    if rows:
        connection.execute(insert(machine_verdicts), rows)


def settle_audits(connection: Connection, image_id: int, *, added: int) -> None:
    """Note within a transaction what a person, who is done with an image, made of what was held back there.

    `added` is how many objects the person found that had no mask.
    """
    waiting = select(machine_verdicts.c.id, machine_verdicts.c.version_id).where(
        machine_verdicts.c.image_id == image_id,
        machine_verdicts.c.audited,
        machine_verdicts.c.outcome.is_(None),
    )
    for row in connection.execute(waiting).all():
        if row.version_id is None:
            said: tuple[str, float | None] | None = ("fix" if added else "accept", None)
        else:
            said = _made_of(connection, row.version_id)
        if said is not None:
            settled = update(machine_verdicts).where(machine_verdicts.c.id == row.id)
            connection.execute(settled.values(outcome=said[0], iou=said[1]))


def _made_of(connection: Connection, version_id: int) -> tuple[str, float | None] | None:
    """Return what a person made of a version of a mask, and their IoU; None where nobody looked at it."""
    versions, newest = annotation_versions, annotation_versions.alias()
    joined = (
        versions.join(annotation_heads, annotation_heads.c.id == versions.c.annotation_id)
        .join(newest, newest.c.id == annotation_heads.c.version_id)
        .join(images, images.c.id == annotation_heads.c.image_id)
    )
    columns = (versions.c.counts, newest.c.counts.label("now"), newest.c.deleted, newest.c.author)
    wanted = select(*columns, images.c.height, images.c.width).select_from(joined).where(versions.c.id == version_id)
    row = connection.execute(wanted).one()
    if row.deleted:
        return "reject", None
    if row.author in MACHINES:
        return None
    size = [row.height, row.width]
    if row.counts == row.now:
        return "accept", 1.0
    iou = rle.pairwise_iou([{"size": size, "counts": row.counts}], [{"size": size, "counts": row.now}])
    return "fix", float(iou[0, 0])


def wilson(agreed: int, number: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson (1927); from 0 to 1 where there is nothing to go by."""
    if not number:
        return 0.0, 1.0
    share, square = agreed / number, _Z**2 / number
    middle, half = share + square / 2, _Z * np.sqrt(share * (1 - share) / number + square / (4 * number))
    return float(max((middle - half) / (1 + square), 0.0)), float(min((middle + half) / (1 + square), 1.0))
