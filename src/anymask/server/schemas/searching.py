"""Everything on an image, what words say, or what is like examples."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from anymask.server.schemas.wire import LARGEST, ApiModel, Bbox, Label, Rle


class EverythingRequest(ApiModel):
    """How to look for everything: a preset, and what differs from it."""

    preset: str = "fast"
    points_per_side: Annotated[int, Field(ge=1, le=64)] | None = None
    pred_iou_thresh: Annotated[float, Field(ge=0, le=1)] | None = None
    stability_score_thresh: Annotated[float, Field(ge=0, le=1)] | None = None
    box_nms_thresh: Annotated[float, Field(ge=0, le=1)] | None = None
    min_mask_region_area: Annotated[int, Field(ge=0, le=LARGEST)] | None = None


class EverythingRecord(ApiModel):
    """One mask found."""

    rle: Rle
    bbox: Bbox
    area: int
    predicted_iou: float
    stability_score: float
    parent: int | None
    """The place in the list of the smallest mask that holds this one."""


class Everything(ApiModel):
    """All masks found."""

    records: list[EverythingRecord]


class TextRequest(ApiModel):
    """Words for what to look for."""

    phrases: Annotated[list[Label], Field(min_length=1, max_length=20)]
    box_threshold: Annotated[float, Field(ge=0, le=1)] = 0.3


class TextRecord(ApiModel):
    """One object found by words."""

    rle: Rle
    bbox: Bbox
    score: float
    phrase: str


class Texts(ApiModel):
    """All objects found by words."""

    records: list[TextRecord]


class SimilarExample(ApiModel):
    """A mask of a thing to look for, in an image of the project."""

    image: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,14}$", description="the image's id")]
    rle: Rle


class SimilarRequest(ApiModel):
    """Examples of what to look for, and how like one of them a region must be."""

    examples: Annotated[list[SimilarExample], Field(min_length=1, max_length=16)]
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = 0.4


class SimilarRecord(ApiModel):
    """One region that is like an example."""

    rle: Rle
    bbox: Bbox
    predicted_iou: float
    similarity: float
    """1 is the same, 0 no more like it than places of an image are like each other."""


class SimilarRegions(ApiModel):
    """All regions that are like the examples and not annotated yet, the most similar first."""

    records: list[SimilarRecord]
