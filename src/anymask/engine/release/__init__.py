"""A project's masks as a data set for others: images and masks in the formats that are wanted, with a card."""

from anymask.engine.formats import FORMATS
from anymask.engine.release.making import Released, ReleasePlan, release

__all__ = ["FORMATS", "ReleasePlan", "Released", "release"]
