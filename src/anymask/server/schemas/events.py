"""Events, sent to pages that listen."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anymask.server.schemas.images import Image
from anymask.server.schemas.wire import ApiModel, Revision


class HelloEvent(ApiModel):
    """The first of every stream: whatever was known before may be out of date, and should be asked for again.

    A page of another project or model than these has to be loaded again: the server was restarted meanwhile.
    """

    type: Literal["hello"] = "hello"
    project_id: str
    model_hash: str


class ImageEvent(ApiModel):
    """An image is new, or its state has changed."""

    type: Literal["image"] = "image"
    image: Image


class ProgressEvent(ApiModel):
    """How far an image's encoding is, 0 to 1."""

    type: Literal["progress"] = "progress"
    id: str
    fraction: float


class AnnotationsEvent(ApiModel):
    """Someone changed an image's annotations."""

    type: Literal["annotations"] = "annotations"
    id: str
    revision: Revision
    client: str


class ClassesEvent(ApiModel):
    """Someone changed the classes."""

    type: Literal["classes"] = "classes"
    revision: Revision
    client: str


class WorkEvent(ApiModel):
    """Somebody took, finished or skipped an image of a queue."""

    type: Literal["work"] = "work"


Event = Annotated[
    HelloEvent | ImageEvent | ProgressEvent | AnnotationsEvent | ClassesEvent | WorkEvent,
    Field(discriminator="type"),
]
