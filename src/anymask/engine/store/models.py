"""The history of a project's models: what each was trained on, its scores, and which one is the project's.

Verifiers have a history of their own, kept alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, insert, select

from anymask.engine.store.counting import PEOPLES_MASKS, total
from anymask.engine.store.database import Database
from anymask.engine.store.tables import models, promotions
from anymask.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A model that the project had, has, or refused."""

    id: int
    at: float
    hash: str
    path: str
    """Relative to the project's folder, absolute, or the name of a published model."""
    parent: int | None
    trigger: str
    num_masks: int
    """Number of masks that the model was trained on."""
    scores: Mapping[str, float]
    verdict: str
    """"promoted", or why it was not."""
    peoples_masks: int = 0
    """Masks that people had left in the project by then, all their versions."""


class Models:
    """Every model of a kind, and which is the project's."""

    def __init__(self, database: Database, kind: str = "model") -> None:
        self._database, self.kind = database, kind

    def all(self) -> list[StoredModel]:
        """Return every model, oldest first."""
        with self._database.reading() as connection:
            mine = select(models).where(models.c.kind == self.kind).order_by(models.c.id)
            return [_stored(row) for row in connection.execute(mine)]

    def current(self) -> StoredModel | None:
        """Return the project's model; None before there is one."""
        newest = self._promoted(models).order_by(promotions.c.id.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(newest).one_or_none()
        return None if row is None else _stored(row)

    def add(
        self,
        *,
        hash: str,
        path: str,
        parent: int | None,
        trigger: str,
        num_masks: int,
        scores: Mapping[str, float],
        verdict: str,
        promote: bool,
    ) -> StoredModel:
        """Note a model and, with `promote`, make it the project's; one of the same hash is noted once."""
        with self._database.writing() as connection:
            at = self._database.now(connection)
            row = connection.execute(select(models).where(models.c.hash == hash)).one_or_none()
            if row is None:
                values = {
                    "kind": self.kind,
                    "at": at,
                    "hash": hash,
                    "path": path,
                    "parent": parent,
                    "trigger": trigger,
                    "num_masks": num_masks,
                    "scores": json.dumps(dict(scores)),
                    "verdict": verdict,
                    "peoples_masks": total(connection, PEOPLES_MASKS),
                }
                row = connection.execute(insert(models).values(values).returning(models)).one()
            if promote:
                connection.execute(insert(promotions).values(at=at, model_id=row.id, reason=trigger))
        return _stored(row)

    def roll_back(self, model_id: int | None = None) -> StoredModel:
        """Make an earlier model the project's again: the one given, or the one before the present.

        Raises DataError where there is no such model, or where it never was the project's.
        """
        with self._database.writing() as connection:
            had = list(connection.scalars(self._promoted(models.c.id).order_by(promotions.c.id.desc())))
            wanted = next((each for each in had if each != had[0]), None) if model_id is None else model_id
            if wanted is None:
                raise DataError(f"there is no earlier {self.kind} of this project to go back to")
            if wanted not in had:
                raise DataError(f"{self.kind} {wanted} never was the project's; those that were: {sorted(set(had))}")
            at = self._database.now(connection)
            connection.execute(insert(promotions).values(at=at, model_id=wanted, reason="roll-back"))
            return _stored(connection.execute(select(models).where(models.c.id == wanted)).one())

    def promotions(self) -> list[tuple[float, int, str]]:
        """Return (time, model, reason) of every change of the project's model, oldest first."""
        columns = (promotions.c.at, promotions.c.model_id, promotions.c.reason)
        with self._database.reading() as connection:
            rows = connection.execute(self._promoted(*columns).order_by(promotions.c.id))
            return [(row.at, row.model_id, row.reason) for row in rows]

    def _promoted(self, *columns: Any) -> Select[Any]:
        """Select of every promotion of the kind."""
        joined = models.join(promotions, promotions.c.model_id == models.c.id)
        return select(*columns).select_from(joined).where(models.c.kind == self.kind)


def _stored(row: Row[Any]) -> StoredModel:
    values = {
        name: getattr(row, name)
        for name in ("id", "at", "hash", "path", "parent", "trigger", "num_masks", "peoples_masks")
    }
    return StoredModel(**values, scores=json.loads(row.scores), verdict=row.verdict)
