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
    text,
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
    Column("split", Text),  # "train" or "held-out"; none is decided by the hash of the location
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
    Column("stage", Text),  # from here on: provenance, none where nothing is known of it
    Column("author", Text),
    Column("origin", Text),  # "added", "prefilled", "automatic" or "imported"
    Column("model", Text),  # hash of the model that answered the prompts
    Column("seconds", Double),
    Column("clicks", Integer),
    Column("strokes", Integer),
    Column("derived_from", KEY),  # the version whose mask this one began as
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

settings = Table(
    "settings",
    metadata,
    Column("revision", KEY, primary_key=True),
    Column("at", Double, nullable=False),
    Column("values", Text, nullable=False),  # JSON: all of them
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("image_id", KEY, ForeignKey("images.id"), nullable=False),
    Column("copy", Integer, nullable=False),  # 0, or more where an image is given to several people
    Column("rank", Double, nullable=False),  # lower comes first
    Column("state", Text, nullable=False),  # open, leased, done, skipped, quarantined
    Column("attempts", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("worker", Text),
    Column("token", Text),  # of the lease; another lease, another token
    Column("expires", Double),
    Column("reason", Text),  # of the last failure, of a skip, of the quarantine
    UniqueConstraint("kind", "image_id", "copy"),
    Index("ix_jobs_queue", "kind", "state", "rank", "id"),
    Index("ix_jobs_image_id", "image_id"),
    Index("ix_jobs_second", "kind", "image_id", sqlite_where=text("copy > 0"), postgresql_where=text("copy > 0")),
)

OUTCOME_COUNTS = ("clicks", "strokes", "masks", "prefilled", "confirmed", "fixed", "rejected", "added", "by_hand")
"""What is counted of a finished job."""

outcomes = Table(
    "outcomes",
    metadata,
    Column("job_id", KEY, ForeignKey("jobs.id"), primary_key=True),  # so that no job has two
    Column("at", Double, nullable=False),
    Column("worker", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("clicks", Integer, nullable=False),
    Column("strokes", Integer, nullable=False),
    Column("masks", Integer, nullable=False),  # on the image when it was done
    Column("prefilled", Integer, nullable=False),
    Column("confirmed", Integer, nullable=False),
    Column("fixed", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    Column("added", Integer, nullable=False),
    Column("by_hand", Integer, nullable=False),  # masks that the brush touched
    Column("model", Text),
    Index(None, "at"),
)

tallies = Table(
    "tallies",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("kind", Text, nullable=False),  # of jobs; "" of the project as a whole
    Column("name", Text, nullable=False),  # a state of jobs; "images", "masks", "people's masks"
    Column("number", KEY, nullable=False),
)
"""How many there are: the sum of all rows of a name. Who changes something adds a row in the same transaction, so that
none waits for another; now and then they are folded to one.
"""

outcome_sums = Table(
    "outcome_sums",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("kind", Text, nullable=False),  # of the jobs
    Column("width", Integer, nullable=False),  # seconds of the stretch of time; 0 of all time, by worker
    Column("stretch", KEY, nullable=False),  # the time divided by the width
    Column("worker", Text, nullable=False),  # "" where it is by time
    Column("images", KEY, nullable=False),
    Column("seconds", Double, nullable=False),
    *(Column(name, KEY, nullable=False) for name in OUTCOME_COUNTS),
    Index("ix_outcome_sums_stretch", "kind", "width", "stretch"),
)
"""Sums over finished jobs, added to and folded like `tallies`."""

models = Table(
    "models",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("kind", Text, nullable=False, server_default="model"),  # or one of the verifiers that read its embeddings
    Column("at", Double, nullable=False),
    Column("hash", Text, nullable=False, unique=True),
    Column("path", Text, nullable=False),  # relative to the project's folder, a name, or absolute
    Column("parent", KEY, ForeignKey("models.id")),
    Column("trigger", Text, nullable=False),
    Column("num_masks", Integer, nullable=False),  # it was trained on
    Column("scores", Text, nullable=False),  # JSON, on the held-out images
    Column("verdict", Text, nullable=False),
    Column("peoples_masks", Integer, nullable=False, server_default="0"),  # in the project by then, all versions
)

promotions = Table(
    "promotions",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("at", Double, nullable=False),
    Column("model_id", KEY, ForeignKey("models.id"), nullable=False),
    Column("reason", Text, nullable=False),
)

truths = Table(
    "truths",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("image_id", KEY, ForeignKey("images.id"), nullable=False),
    Column("counts", Text, nullable=False),
    Column("kind", Text, nullable=False),  # "honeypot", or "second" for another person's masks of the same image
    Column("author", Text, nullable=False),
    Column("at", Double, nullable=False),
    Index(None, "image_id"),
)
"""Masks that no annotator is shown, to compare theirs with."""

reviews = Table(
    "reviews",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("version_id", KEY, ForeignKey("annotation_versions.id"), nullable=False),
    Column("kind", Text, nullable=False),  # "check" or "review"
    Column("author", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("verdict", Text, nullable=False),  # accept, fix, reject
    Column("iou", Double),  # of the mask with what it was corrected to
    Column("reason", Text),
    UniqueConstraint("version_id", "kind", "author"),
    Index(None, "kind", "verdict"),
)

machine_verdicts = Table(
    "machine_verdicts",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("image_id", KEY, ForeignKey("images.id"), nullable=False),
    Column("version_id", KEY, ForeignKey("annotation_versions.id")),  # none where the image as a whole was judged
    Column("verifier_id", KEY, ForeignKey("models.id"), nullable=False),
    Column("verdict", Text, nullable=False),  # accept, reject; "complete" of an image
    Column("chance", Double, nullable=False),  # that the verdict is right, as the verifier has it
    Column("audited", Boolean, nullable=False),  # held back, so that a person says the same or not
    Column("at", Double, nullable=False),
    Column("outcome", Text),  # of an audit: accept, fix, reject, as a person did; "undone" where it was taken back
    Column("iou", Double),  # of an audited mask with what it was made into
    Column("places", Text),  # JSON: boxes (x0, y0, x1, y1) where an image seems to lack a mask
    Index(None, "image_id"),
    Index("ix_machine_verdicts_tally", "verifier_id", "audited", "verdict", "outcome"),
)
"""What verifiers said without a person."""
