"""The tables of a project's database, the same on SQLite and PostgreSQL.

Nothing is overwritten but pointers and counts, which could be derived again: an annotation's head points to
its newest version, an image counts its change sets. Times are seconds since 1970, UTC.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

KEY = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only where a key is called INTEGER; its integers have 64 bits all the same."""

images = Table(
    "images",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("name", Text, nullable=False),
    Column("location", Text, nullable=False, unique=True),  # relative to the project's folder, or absolute
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("added", Double, nullable=False),
    Column("revision", KEY, nullable=False, default=0),
    Column("num_annotations", Integer, nullable=False, default=0),
)

embeddings = Table(
    "embeddings",
    metadata,
    Column("image_id", KEY, ForeignKey("images.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("key", Text, nullable=False),  # in the embedding cache, which may have dropped it since
)

change_sets = Table(
    "change_sets",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("image_id", KEY, ForeignKey("images.id"), nullable=False),
    Column("base_revision", KEY, nullable=False),
    Column("revision", KEY, nullable=False),
    Column("client", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("digest", Text, nullable=False),  # of the changes: the same request sent twice is known by it
    UniqueConstraint("image_id", "revision"),
)

annotation_heads = Table(
    "annotation_heads",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("image_id", KEY, ForeignKey("images.id"), nullable=False),
    Column("key", Text, nullable=False),  # the client's name for it
    Column("version_id", KEY),  # the newest of annotation_versions
    UniqueConstraint("image_id", "key"),
)

annotation_versions = Table(
    "annotation_versions",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("annotation_id", KEY, ForeignKey("annotation_heads.id"), nullable=False),
    Column("change_set_id", KEY, ForeignKey("change_sets.id"), nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("counts", Text, nullable=False),  # run lengths of the mask, at the image's size; "" when deleted
    Column("class_id", Integer),
    Column("name", Text),
    Column("visible", Boolean, nullable=False),
    Column("score", Double),
    Column("source", Text, nullable=False),
    Column("prompts", Text),  # JSON
    Column("parent", Text),  # another annotation's key
    Index(None, "annotation_id"),
    Index(None, "change_set_id"),
)

class_sets = Table(
    "class_sets",
    metadata,
    Column("revision", KEY, primary_key=True),
    Column("client", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("digest", Text, nullable=False),
    Column("classes", Text, nullable=False),  # JSON: the whole list
)
