"""Counts and sums that are added to with every change, filled with what is there."""

import sqlalchemy as sa
from alembic import op

from anymask.engine.store.counting import TRIGGERS

revision = "0005"
down_revision = "0004"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
COUNTS = ("clicks", "strokes", "masks", "prefilled", "confirmed", "fixed", "rejected", "added", "by_hand")
WIDTHS = (60, 3600, 86_400)


def upgrade() -> None:
    """Make the tables, fill them, and have the database keep them from here on."""
    op.create_table(
        "tallies",
        sa.Column("id", KEY, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("number", KEY, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tallies"),
    )
    op.create_table(
        "outcome_sums",
        sa.Column("id", KEY, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("stretch", KEY, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("images", KEY, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        *(sa.Column(name, KEY, nullable=False) for name in COUNTS),
        sa.PrimaryKeyConstraint("id", name="pk_outcome_sums"),
    )
    op.create_index("ix_outcome_sums_stretch", "outcome_sums", ["kind", "width", "stretch"])
    second = sa.text("copy > 0")
    op.create_index("ix_jobs_second", "jobs", ["kind", "image_id"], sqlite_where=second, postgresql_where=second)
    op.create_index("ix_outcomes_at", "outcomes", ["at"])
    op.create_index("ix_reviews_kind_verdict", "reviews", ["kind", "verdict"])
    op.add_column("models", sa.Column("peoples_masks", sa.Integer, nullable=False, server_default="0"))
    _fill()
    for statement in TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)


def _fill() -> None:
    op.execute("INSERT INTO tallies (kind, name, number) SELECT kind, state, count(*) FROM jobs GROUP BY kind, state")
    op.execute("INSERT INTO tallies (kind, name, number) SELECT '', 'images', count(*) FROM images")
    op.execute(
        "INSERT INTO tallies (kind, name, number) SELECT '', 'masks', coalesce(sum(num_annotations), 0) FROM images"
    )
    people = (
        "SELECT count(*) FROM annotation_versions v JOIN change_sets c ON c.id = v.change_set_id WHERE NOT v.deleted "
        "AND (v.stage IS NULL OR (v.stage <> 'automatic' AND v.author NOT IN ('model', 'verifier')))"
    )
    op.execute(f"INSERT INTO tallies (kind, name, number) VALUES ('', 'people''s masks', ({people}))")
    op.execute(f"UPDATE models SET peoples_masks = ({people} AND c.at <= models.at)")
    sums = ", ".join(f"sum(o.{name})" for name in COUNTS)
    into = f"INSERT INTO outcome_sums (kind, width, stretch, worker, images, seconds, {', '.join(COUNTS)})"
    joined = "FROM outcomes o JOIN jobs j ON j.id = o.job_id"
    op.execute(
        f"{into} SELECT j.kind, 0, 0, o.worker, count(*), sum(o.seconds), {sums} {joined} GROUP BY j.kind, o.worker"
    )
    for width in WIDTHS:
        # Times are positive: a cast that cuts off is the floor on SQLite, and on PostgreSQL floor says it.
        floor = f"CAST(o.at / {width} AS INTEGER)" if _is_sqlite() else f"CAST(floor(o.at / {width}) AS BIGINT)"
        op.execute(
            f"{into} SELECT j.kind, {width}, {floor}, '', count(*), sum(o.seconds), {sums} {joined} "
            f"GROUP BY j.kind, {floor}"
        )


def _is_sqlite() -> bool:
    return str(op.get_bind().dialect.name) == "sqlite"
