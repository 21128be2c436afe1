"""Verifiers beside the models, and what they said without a person."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add what verifiers keep; every model that was there is one that answers prompts."""
    op.add_column("models", sa.Column("kind", sa.Text, nullable=False, server_default="model"))
    op.create_table(
        "machine_verdicts",
        sa.Column("id", KEY, nullable=False),
        sa.Column("image_id", KEY, nullable=False),
        sa.Column("version_id", KEY),
        sa.Column("verifier_id", KEY, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("chance", sa.Double, nullable=False),
        sa.Column("audited", sa.Boolean, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("outcome", sa.Text),
        sa.Column("iou", sa.Double),
        sa.Column("places", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_machine_verdicts"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_machine_verdicts_image_id"),
        sa.ForeignKeyConstraint(["version_id"], ["annotation_versions.id"], name="fk_machine_verdicts_version_id"),
        sa.ForeignKeyConstraint(["verifier_id"], ["models.id"], name="fk_machine_verdicts_verifier_id"),
    )
    op.create_index("ix_machine_verdicts_image_id", "machine_verdicts", ["image_id"])
    columns = ["verifier_id", "audited", "verdict", "outcome"]
    op.create_index("ix_machine_verdicts_tally", "machine_verdicts", columns)
