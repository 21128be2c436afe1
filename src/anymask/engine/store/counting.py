"""Counts and sums that are kept as things change, so that a look at a project of a million images is no sum over it.

Rows are only ever added, within the transaction that changes what they count: nobody waits for another's row. Now and
then who writes folds them to one row a name. Jobs and images are counted by triggers, whatever changes them; outcomes
and people's masks where they are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select, text

from anymask.engine.store.tables import OUTCOME_COUNTS, outcome_sums, tallies

PEOPLES_MASKS = "people's masks"
WIDTHS = (60, 3600, 86_400)
"""Seconds of the stretches of time over which outcomes are summed."""
_FOLD_EVERY = 256
"""Of jobs: the one whose number this divides folds."""
_LOCK = 0x616E796D61736C
"""PostgreSQL's advisory lock of who folds."""
_SUMMED = ("images", "seconds", *OUTCOME_COUNTS)

TRIGGERS: Mapping[str, tuple[str, ...]] = {
    "sqlite": (
        "CREATE TRIGGER tally_new_jobs AFTER INSERT ON jobs BEGIN "
        "INSERT INTO tallies (kind, name, number) VALUES (NEW.kind, NEW.state, 1); END",
        "CREATE TRIGGER tally_jobs AFTER UPDATE OF state ON jobs WHEN OLD.state <> NEW.state BEGIN "
        "INSERT INTO tallies (kind, name, number) VALUES (OLD.kind, OLD.state, -1), (NEW.kind, NEW.state, 1); END",
        "CREATE TRIGGER tally_new_images AFTER INSERT ON images BEGIN INSERT INTO tallies (kind, name, number) "
        "VALUES ('', 'images', 1), ('', 'masks', NEW.num_annotations); END",
        "CREATE TRIGGER tally_images AFTER UPDATE OF num_annotations ON images "
        "WHEN OLD.num_annotations <> NEW.num_annotations BEGIN INSERT INTO tallies (kind, name, number) "
        "VALUES ('', 'masks', NEW.num_annotations - OLD.num_annotations); END",
    ),
    "postgresql": (
        "CREATE FUNCTION tally_new_jobs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO tallies (kind, name, number) SELECT kind, state, count(*) FROM fresh GROUP BY kind, state; "
        "RETURN NULL; END $$",
        "CREATE TRIGGER tally_new_jobs AFTER INSERT ON jobs REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT "
        "EXECUTE FUNCTION tally_new_jobs()",
        "CREATE FUNCTION tally_jobs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO tallies (kind, name, number) SELECT kind, state, sum(n) FROM "
        "(SELECT kind, state, -1 AS n FROM stale UNION ALL SELECT kind, state, 1 FROM fresh) AS both_ "
        "GROUP BY kind, state HAVING sum(n) <> 0; RETURN NULL; END $$",
        "CREATE TRIGGER tally_jobs AFTER UPDATE ON jobs REFERENCING OLD TABLE AS stale NEW TABLE AS fresh "
        "FOR EACH STATEMENT EXECUTE FUNCTION tally_jobs()",
        "CREATE FUNCTION tally_new_images() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO tallies (kind, name, number) SELECT '', 'images', count(*) FROM fresh UNION ALL "
        "SELECT '', 'masks', coalesce(sum(num_annotations), 0) FROM fresh; RETURN NULL; END $$",
        "CREATE TRIGGER tally_new_images AFTER INSERT ON images REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT "
        "EXECUTE FUNCTION tally_new_images()",
        "CREATE FUNCTION tally_images() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO tallies (kind, name, number) SELECT '', 'masks', sum(n) FROM "
        "(SELECT -num_annotations AS n FROM stale UNION ALL SELECT num_annotations FROM fresh) AS both_ "
        "HAVING sum(n) <> 0; RETURN NULL; END $$",
        "CREATE TRIGGER tally_images AFTER UPDATE ON images REFERENCING OLD TABLE AS stale NEW TABLE AS fresh "
        "FOR EACH STATEMENT EXECUTE FUNCTION tally_images()",
    ),
}
"""What has the database count jobs and images."""


def job_counts(connection: Connection, kind: str | None = None) -> dict[str, dict[str, int]]:
    """Return how many jobs of each kind, or of one, are in each state."""
    number = func.sum(tallies.c.number).label("number")
    wanted = select(tallies.c.kind, tallies.c.name, number).where(
        tallies.c.kind != "" if kind is None else tallies.c.kind == kind
    )
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute(wanted.group_by(tallies.c.kind, tallies.c.name)):
        if row.number:
            found.setdefault(row.kind, {})[row.name] = int(row.number)
    return found


def total(connection: Connection, name: str) -> int:
    """Return how many "images", "masks" or `PEOPLES_MASKS` a project has; of the last every version counts."""
    wanted = select(func.coalesce(func.sum(tallies.c.number), 0)).where(tallies.c.kind == "", tallies.c.name == name)
    return int(connection.execute(wanted).scalar_one())


def count(connection: Connection, name: str, number: int) -> None:
    """Add to a project's count within a transaction."""
    if number:
        connection.execute(insert(tallies).values(kind="", name=name, number=number))


def add_outcome(connection: Connection, kind: str, worker: str, sums: Mapping[str, Any], *, at: float) -> None:
    """Add a finished job's numbers to all sums within a transaction."""
    own = {name: sums[name] for name in ("seconds", *OUTCOME_COUNTS)} | {"kind": kind, "images": 1}
    by_time = [{**own, "width": width, "stretch": int(at // width), "worker": ""} for width in WIDTHS]
    connection.execute(insert(outcome_sums), [{**own, "width": 0, "stretch": 0, "worker": worker}, *by_time])


def fold(connection: Connection, job_id: int | None = None) -> None:
    """Make one row of all that count the same, within a transaction; with a job, only where it is that one's turn."""
    if job_id is not None and job_id % _FOLD_EVERY:
        return
    if connection.dialect.name == "postgresql" and not connection.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))):
        return  # another is at it
    _fold(connection, tallies, ("kind", "name"), ("number",))
    _fold(connection, outcome_sums, ("kind", "width", "stretch", "worker"), _SUMMED)


def _fold(connection: Connection, table: Table, keys: tuple[str, ...], summed: tuple[str, ...]) -> None:
    last = connection.scalar(select(func.max(table.c.id)))
    if last is None:
        return
    names = ", ".join((*keys, *summed))
    if connection.dialect.name == "postgresql":
        # What others have added meanwhile, and not committed yet, may have lower numbers: what is taken is what goes.
        sums = ", ".join(f"sum({name})" for name in summed)
        connection.execute(
            text(
                f"WITH gone AS (DELETE FROM {table.name} RETURNING {names}) INSERT INTO {table.name} ({names}) "
                f"SELECT {', '.join(keys)}, {sums} FROM gone GROUP BY {', '.join(keys)}"
            )
        )
        return
    columns = [table.c[name] for name in keys]
    folded = select(*columns, *(func.sum(table.c[name]) for name in summed)).group_by(*columns)
    connection.execute(insert(table).from_select([*keys, *summed], folded))
    connection.execute(delete(table).where(table.c.id <= last))
