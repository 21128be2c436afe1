"""Annotations and classes, and changes to them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from anymask.engine.store import Annotation as StoredAnnotation
from anymask.engine.store import Class as StoredClass
from anymask.engine.store import Provenance as StoredProvenance
from anymask.engine.store import Put as StoredPut
from anymask.engine.store.names import MAX_CLASSES
from anymask.server.schemas.wire import ApiModel, ClassId, Identifier, Label, Revision, Rle

MAX_CHANGES = 5000
_MAX_PROMPTS = 256 << 10

Source = Literal["click", "box", "brush", "everything", "text", "similar", "import"]


class Provenance(ApiModel):
    """Where a mask of a data engine's project comes from: who made it, in which stage, and what it took."""

    stored_as = StoredProvenance
    stage: Literal["assisted", "semi-automatic", "automatic", "check", "review", "import"]
    author: Label
    """A person's name; "model" as long as nobody has looked at it."""
    origin: Literal["added", "prefilled", "automatic", "imported"] = "added"
    """How the object came to the image."""
    model: Annotated[str, Field(max_length=200)] | None = None
    """Hash of the model that answered the prompts."""
    seconds: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    clicks: Annotated[int, Field(ge=0, le=100_000)] = 0
    strokes: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Number of strokes of the brush."""


class Annotation(ApiModel):
    """One object on an image."""

    stored_as = StoredAnnotation
    id: Identifier
    rle: Rle
    """Run lengths of the mask, at the image's own size."""
    class_id: ClassId | None = None
    name: Label | None = None
    visible: bool = True
    score: float | None = None
    source: Source = "click"
    prompts: dict[str, Any] | None = None
    """What was asked, for the record; any JSON of at most 256 KiB."""
    parent: Identifier | None = None
    """The object that it is a part of."""
    provenance: Provenance | None = None

    @field_validator("prompts")
    @classmethod
    def _small(cls, prompts: dict[str, Any] | None) -> dict[str, Any] | None:
        """JSON proper, which knows no infinity, and not too much of it."""
        if prompts is None:
            return None
        try:
            size = len(json.dumps(prompts, allow_nan=False))
        except RecursionError as error:
            raise ValueError("prompts are nested too deeply") from error
        except TypeError as error:
            raise ValueError("prompts are no JSON") from error
        if size > _MAX_PROMPTS:
            raise ValueError(f"prompts take {size:,} characters; at most {_MAX_PROMPTS:,} are kept")
        return prompts


class Annotations(ApiModel):
    """The annotations of an image as of a revision, in the order in which they were first made."""

    revision: Revision
    annotations: Annotated[list[Annotation], Field(strict=False)]  # the store's is a tuple


class AnnotationsConflict(Annotations):
    """The change was made on an old revision; this is the current state."""

    error: str


class Put(ApiModel):
    """Add an annotation, or replace it by a new version."""

    op: Literal["put"]
    annotation: Annotation

    def stored(self) -> StoredPut:
        """Return it as the store takes it."""
        return StoredPut(annotation=self.annotation.stored())


class Delete(ApiModel):
    """Delete an annotation."""

    op: Literal["delete"]
    id: Identifier


class ChangeSet(ApiModel):
    """Changes that belong together: all are made, or none."""

    base_revision: Revision
    """The image's revision that the client saw."""
    client: Identifier
    changes: Annotated[
        list[Annotated[Put | Delete, Field(discriminator="op")]], Field(min_length=1, max_length=MAX_CHANGES)
    ]


class Revised(ApiModel):
    """The revision after a change, which is on the disk."""

    revision: Revision


class Class(ApiModel):
    """A class of objects."""

    stored_as = StoredClass
    id: ClassId
    name: Label
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    key: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f]+$")] | None = None
    """The key that picks it."""


class Classes(ApiModel):
    """The project's classes as of a revision."""

    revision: Revision
    classes: Annotated[list[Class], Field(strict=False)]


class FreshClass(ApiModel):
    """An id for a new class: no class of the project ever had it, and nobody else is given it."""

    id: ClassId


class ClassesConflict(Classes):
    """The list was made on an old revision; this is the current one."""

    error: str


class NewClasses(ApiModel):
    """A list to take the place of the one of `base_revision`."""

    base_revision: Revision
    client: Identifier
    classes: Annotated[list[Class], Field(max_length=MAX_CLASSES)]

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: list[Class]) -> list[Class]:
        ids = [each.id for each in classes]
        if len(set(ids)) < len(ids):
            raise ValueError("two classes have one id")
        return classes
