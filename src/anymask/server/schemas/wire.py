"""What all that goes over the wire has in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from anymask.engine.store.names import KEY, MAX_NAME

_MAX_FIELDS = 64
"""The most fields of an object; one with more is refused before each unknown field becomes an error."""
LARGEST = 2**53 - 1
"""The largest whole number that JavaScript knows exactly."""

Revision = Annotated[int, Field(ge=0, le=LARGEST)]
Identifier = Annotated[str, Field(pattern=f"^{KEY}$", description="made by the client, such as a UUID")]
ClassId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Label = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00-\x1f\x7f]+$")]
Bbox = Annotated[list[int], Field(min_length=4, max_length=4, description="x, y, width, height in pixels")]


class ApiModel(BaseModel):
    """No unknown fields, no numbers as text, no infinity.

    `model_validate` takes the store's dataclasses as they are, by the names of their fields; `stored` is the way back.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, from_attributes=True)
    stored_as: ClassVar[Callable[..., Any]]
    """The dataclass of the store, or what makes one of the fields' names and values."""

    def stored(self) -> Any:
        """Return it as `stored_as` has it, with all models in it; the store checks what only it can know."""
        return type(self).stored_as(
            **{name: value.stored() if isinstance(value, ApiModel) else value for name, value in self}
        )

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > _MAX_FIELDS:
            raise ValueError(f"has {len(value):,} fields; {cls.__name__} has {len(cls.model_fields)}")
        return value


class Error(BaseModel):
    """One clear sentence: what was wrong, with what, what would be right."""

    error: str


class Rle(ApiModel):
    """A mask as COCO's compressed run lengths."""

    stored_as = dict
    size: Annotated[list[Annotated[int, Field(ge=1, le=2**20)]], Field(min_length=2, max_length=2)]
    """Height and width."""
    counts: Annotated[str, Field(max_length=8 << 20, pattern=r"^[0-o]*$")]
