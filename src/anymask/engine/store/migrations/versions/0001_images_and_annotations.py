"""Images, versions of annotations, classes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "images",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("added", sa.Double, nullable=False),
        sa.Column("revision", KEY, nullable=False),
        sa.Column("num_annotations", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint("location", name="uq_images_location"),
    )
    op.create_table(
        "embeddings",
        sa.Column("image_id", KEY, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("image_id", "model", name="pk_embeddings"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_embeddings_image_id"),
    )
    op.create_table(
        "change_sets",
        sa.Column("id", KEY, nullable=False),
        sa.Column("image_id", KEY, nullable=False),
        sa.Column("base_revision", KEY, nullable=False),
        sa.Column("revision", KEY, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_change_sets"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_change_sets_image_id"),
        sa.UniqueConstraint("image_id", "revision", name="uq_change_sets_image_id_revision"),
    )
    op.create_table(
        "annotation_heads",
        sa.Column("id", KEY, nullable=False),
        sa.Column("image_id", KEY, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("version_id", KEY),
        sa.PrimaryKeyConstraint("id", name="pk_annotation_heads"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_annotation_heads_image_id"),
        sa.UniqueConstraint("image_id", "key", name="uq_annotation_heads_image_id_key"),
    )
    op.create_table(
        "annotation_versions",
        sa.Column("id", KEY, nullable=False),
        sa.Column("annotation_id", KEY, nullable=False),
        sa.Column("change_set_id", KEY, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
        sa.Column("class_id", sa.Integer),
        sa.Column("name", sa.Text),
        sa.Column("visible", sa.Boolean, nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("prompts", sa.Text),
        sa.Column("parent", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_annotation_versions"),
        sa.ForeignKeyConstraint(
            ["annotation_id"], ["annotation_heads.id"], name="fk_annotation_versions_annotation_id"
        ),
        sa.ForeignKeyConstraint(["change_set_id"], ["change_sets.id"], name="fk_annotation_versions_change_set_id"),
    )
    op.create_index("ix_annotation_versions_annotation_id", "annotation_versions", ["annotation_id"])
    op.create_index("ix_annotation_versions_change_set_id", "annotation_versions", ["change_set_id"])
    op.create_table(
        "class_sets",
        sa.Column("revision", KEY, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("classes", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_class_sets"),
    )
