"""Settings, jobs and what came of them, provenance, models, honeypots, reviews."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add what the data engine keeps; what was there stays as it was."""
    op.add_column("images", sa.Column("split", sa.Text))
    for name, kind in (
        ("stage", sa.Text),
        ("author", sa.Text),
        ("origin", sa.Text),
        ("model", sa.Text),
        ("seconds", sa.Double),
        ("clicks", sa.Integer),
        ("strokes", sa.Integer),
        ("derived_from", KEY),
    ):
        op.add_column("annotation_versions", sa.Column(name, kind))
    op.create_table(
        "settings",
        sa.Column("revision", KEY, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("values", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_settings"),
    )
    _work()
    _models()
    _quality()


def _work() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", KEY, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("image_id", KEY, nullable=False),
        sa.Column("copy", sa.Integer, nullable=False),
        sa.Column("rank", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("worker", sa.Text),
        sa.Column("token", sa.Text),
        sa.Column("expires", sa.Double),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_jobs_image_id"),
        sa.UniqueConstraint("kind", "image_id", "copy", name="uq_jobs_kind_image_id_copy"),
    )
    op.create_index("ix_jobs_queue", "jobs", ["kind", "state", "rank", "id"])
    op.create_index("ix_jobs_image_id", "jobs", ["image_id"])
    counts = ("clicks", "strokes", "masks", "prefilled", "confirmed", "fixed", "rejected", "added", "by_hand")
    op.create_table(
        "outcomes",
        sa.Column("job_id", KEY, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in counts),
        sa.Column("model", sa.Text),
        sa.PrimaryKeyConstraint("job_id", name="pk_outcomes"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_outcomes_job_id"),
    )


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("parent", KEY),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("num_masks", sa.Integer, nullable=False),
        sa.Column("scores", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.ForeignKeyConstraint(["parent"], ["models.id"], name="fk_models_parent"),
        sa.UniqueConstraint("hash", name="uq_models_hash"),
    )
    op.create_table(
        "promotions",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("model_id", KEY, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_promotions"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_promotions_model_id"),
    )


def _quality() -> None:
    op.create_table(
        "truths",
        sa.Column("id", KEY, nullable=False),
        sa.Column("image_id", KEY, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_truths"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_truths_image_id"),
    )
    op.create_index("ix_truths_image_id", "truths", ["image_id"])
    op.create_table(
        "reviews",
        sa.Column("id", KEY, nullable=False),
        sa.Column("version_id", KEY, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("iou", sa.Double),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_reviews"),
        sa.ForeignKeyConstraint(["version_id"], ["annotation_versions.id"], name="fk_reviews_version_id"),
        sa.UniqueConstraint("version_id", "kind", "author", name="uq_reviews_version_id_kind_author"),
    )
