"""The server, its model, and the images of the project."""

from __future__ import annotations

from typing import Literal

from anymask.geometry.frames import Fit
from anymask.server.schemas.wire import ApiModel, Revision

ImageState = Literal["new", "waiting", "encoding", "ready", "failed"]


class Model(ApiModel):
    """The model that encodes images, and the sizes that its decoder needs to know."""

    name: str
    hash: str
    """A hash of config and weights: a decoder kept by the page is valid as long as this is the same."""
    image_size: int
    fit: Fit
    """Whether an image is padded to the model's square, or stretched."""
    pads_boxes: bool
    """Whether a prompt with a box ends with a point that is none, as others do."""
    embedding_size: int
    width: int
    """Channels of an embedding."""
    mask_size: int


class Limits(ApiModel):
    """What an uploaded image may be at most."""

    bytes: int
    pixels: int


class Info(ApiModel):
    """What the page has to know first."""

    version: str
    project: str
    """Name of the project."""
    project_id: str
    """Of no other project, whatever the address: image ids begin at 1 in each."""
    model: Model
    text: bool
    """Whether words can be asked for."""
    limits: Limits
    samples: list[str]
    presets: list[str]
    """Names of ways to find everything on an image."""
    person: str | None = None
    """The name of who asks, where each has a token of their own: it is known, and not asked for."""
    engine: bool
    """Whether this is a data engine's project: people get images from queues."""


class Image(ApiModel):
    """An image of the project and how far its encoding is."""

    id: str
    name: str
    width: int
    height: int
    state: ImageState
    error: str | None = None
    """Reason why encoding failed, in a sentence."""
    revision: Revision
    num_annotations: int


class Images(ApiModel):
    """All images, in the order in which they were added."""

    images: list[Image]


class LeastScores(ApiModel):
    """How sure the model was of the masks that it was least sure of."""

    scores: dict[str, float]
    """The lowest predicted IoU of each image's masks, by the image's id; of images that have masks with one."""


class SampleChoice(ApiModel):
    """A sample photograph to be added."""

    sample: str
