"""What goes over the wire; the page's types are generated from these."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from anymask.engine.store import Annotation as StoredAnnotation
from anymask.engine.store import Class as StoredClass
from anymask.engine.store import Put as StoredPut
from anymask.engine.store import State
from anymask.geometry.rle import RLE

MAX_CHANGES = 5000
MAX_CLASSES = 1000
_MAX_PROMPTS = 256 << 10
_LARGEST = 2**53 - 1
"""The largest whole number that JavaScript knows exactly."""

Revision = Annotated[int, Field(ge=0, le=_LARGEST)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$", description="made by the client, such as a UUID")]
ClassId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Label = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Bbox = Annotated[list[int], Field(min_length=4, max_length=4, description="x, y, width, height in pixels")]
Source = Literal["click", "box", "brush", "everything", "text", "import"]
ImageState = Literal["new", "waiting", "encoding", "ready", "failed"]


class Wire(BaseModel):
    """No unknown fields, no numbers as text, no infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Error(BaseModel):
    """One clear sentence: what was wrong, with what, what would be right."""

    error: str


class Rle(Wire):
    """A mask as COCO's compressed run lengths."""

    size: Annotated[list[Annotated[int, Field(ge=1, le=2**20)]], Field(min_length=2, max_length=2)]
    """Height and width."""
    counts: Annotated[str, Field(max_length=8 << 20, pattern=r"^[0-o]*$")]

    @classmethod
    def of(cls, rle: RLE) -> Rle:
        """Return it as it goes over the wire."""
        return cls(size=rle["size"], counts=rle["counts"])

    def stored(self) -> RLE:
        """Return its stored form, not yet checked."""
        return {"size": self.size, "counts": self.counts}


class Model(Wire):
    """The model that encodes images, and the sizes that its decoder needs to know."""

    name: str
    hash: str
    """Of config and weights: a decoder kept by the page is good for as long as this is the same."""
    image_size: int
    embedding_size: int
    width: int
    """Channels of an embedding."""
    mask_size: int


class Limits(Wire):
    """What an uploaded image may be at most."""

    bytes: int
    pixels: int


class Info(Wire):
    """What the page has to know first."""

    version: str
    project: str
    model: Model
    text: bool
    """Whether words can be asked for."""
    limits: Limits
    samples: list[str]
    presets: list[str]
    """Names of ways to find everything on an image."""


class Image(Wire):
    """An image of the project and how far its encoding is."""

    id: str
    name: str
    width: int
    height: int
    state: ImageState
    error: str | None = None
    """Why it failed."""
    revision: Revision
    num_annotations: int


class Images(Wire):
    """All images, in the order in which they were added."""

    images: list[Image]


class SampleChoice(Wire):
    """A sample photograph to be added."""

    sample: str


class Annotation(Wire):
    """One object on an image."""

    id: Identifier
    rle: Rle
    """At the image's own size."""
    class_id: ClassId | None = None
    name: Label | None = None
    visible: bool = True
    score: float | None = None
    source: Source = "click"
    prompts: dict[str, JsonValue] | None = None
    """What was asked, for the record; any JSON of at most 256 KiB."""
    parent: Identifier | None = None
    """The object that it is a part of."""

    @field_validator("prompts")
    @classmethod
    def _small(cls, prompts: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        """JSON proper, which knows no infinity, and not too much of it."""
        try:
            size = len(json.dumps(prompts, allow_nan=False))
        except RecursionError as error:
            raise ValueError("prompts are nested too deeply") from error
        if size > _MAX_PROMPTS:
            raise ValueError(f"prompts take {size:,} characters; at most {_MAX_PROMPTS:,} are kept")
        return prompts

    @classmethod
    def of(cls, stored: StoredAnnotation) -> dict[str, Any]:
        """Return what the store has as it goes over the wire."""
        return {
            "id": stored.id,
            "rle": stored.rle,
            "class_id": stored.class_id,
            "name": stored.name,
            "visible": stored.visible,
            "score": stored.score,
            "source": stored.source,
            "prompts": stored.prompts,
            "parent": stored.parent,
        }

    def stored(self) -> StoredAnnotation:
        """Return it as the store takes it."""
        return StoredAnnotation(
            id=self.id,
            rle=self.rle.stored(),
            class_id=self.class_id,
            name=self.name,
            visible=self.visible,
            score=self.score,
            source=self.source,
            prompts=self.prompts,
            parent=self.parent,
        )


class Annotations(Wire):
    """The annotations of an image as of a revision, in the order in which they were first made."""

    revision: Revision
    annotations: list[Annotation]


class AnnotationsConflict(Annotations):
    """The change was made on an old revision; this is the current state."""

    error: str


def state_of(state: State) -> dict[str, Any]:
    """Return a state as `Annotations` describes it; it comes from the store, and is not checked once more."""
    return {"revision": state.revision, "annotations": [Annotation.of(each) for each in state.annotations]}


class Put(Wire):
    """Add an annotation, or replace it by a new version."""

    op: Literal["put"]
    annotation: Annotation

    def stored(self) -> StoredPut:
        """Return it as the store takes it."""
        return StoredPut(annotation=self.annotation.stored())


class Delete(Wire):
    """Delete an annotation."""

    op: Literal["delete"]
    id: Identifier


class ChangeSet(Wire):
    """Changes that belong together: all are made, or none."""

    base_revision: Revision
    """The image's revision that the client saw."""
    client: Identifier
    changes: Annotated[
        list[Annotated[Put | Delete, Field(discriminator="op")]], Field(min_length=1, max_length=MAX_CHANGES)
    ]


class Revised(Wire):
    """The revision after a change, which is on the disk."""

    revision: Revision


class Class(Wire):
    """A class of objects."""

    id: ClassId
    name: Label
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    key: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f]+$")] | None = None
    """The key that picks it."""

    def stored(self) -> StoredClass:
        """Return it as the store takes it."""
        return StoredClass(id=self.id, name=self.name, color=self.color, key=self.key)

    @classmethod
    def of(cls, stored: StoredClass) -> Class:
        """Return what the store has as it goes over the wire."""
        return cls(id=stored.id, name=stored.name, color=stored.color, key=stored.key)


class Classes(Wire):
    """The project's classes as of a revision."""

    revision: Revision
    classes: list[Class]


class ClassesConflict(Classes):
    """The list was made on an old revision; this is the current one."""

    error: str


class NewClasses(Wire):
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


class EverythingRequest(Wire):
    """How to look for everything: a preset, and what shall differ from it."""

    preset: str = "fast"
    points_per_side: Annotated[int, Field(ge=1, le=64)] | None = None
    pred_iou_thresh: Annotated[float, Field(ge=0, le=1)] | None = None
    stability_score_thresh: Annotated[float, Field(ge=0, le=1)] | None = None
    box_nms_thresh: Annotated[float, Field(ge=0, le=1)] | None = None
    min_mask_region_area: Annotated[int, Field(ge=0, le=_LARGEST)] | None = None


class EverythingRecord(Wire):
    """One mask found."""

    rle: Rle
    bbox: Bbox
    area: int
    predicted_iou: float
    stability_score: float
    parent: int | None
    """The place in the list of the smallest mask that holds this one."""


class Everything(Wire):
    """All masks found."""

    records: list[EverythingRecord]


class TextRequest(Wire):
    """Words for what to look for."""

    phrases: Annotated[list[Label], Field(min_length=1, max_length=20)]
    box_threshold: Annotated[float, Field(ge=0, le=1)] = 0.3


class TextRecord(Wire):
    """One object found by words."""

    rle: Rle
    bbox: Bbox
    score: float
    phrase: str


class Texts(Wire):
    """All objects found by words."""

    records: list[TextRecord]


class HelloEvent(Wire):
    """The first of every stream: whatever was known before may be out of date, and should be asked for again."""

    type: Literal["hello"] = "hello"


class ImageEvent(Wire):
    """An image is new, or its state has changed."""

    type: Literal["image"] = "image"
    image: Image


class ProgressEvent(Wire):
    """How far an image's encoding is, 0 to 1."""

    type: Literal["progress"] = "progress"
    id: str
    fraction: float


class AnnotationsEvent(Wire):
    """Someone changed an image's annotations."""

    type: Literal["annotations"] = "annotations"
    id: str
    revision: Revision
    client: str


class ClassesEvent(Wire):
    """Someone changed the classes."""

    type: Literal["classes"] = "classes"
    revision: Revision
    client: str


Event = Annotated[
    HelloEvent | ImageEvent | ProgressEvent | AnnotationsEvent | ClassesEvent, Field(discriminator="type")
]
