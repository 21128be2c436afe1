"""A project's masks as a data set for others: tars in SA-1B's layout, COCO, WebDataset, Parquet, with a card."""

from anymask.engine.release.making import FORMATS, Released, ReleasePlan, release

__all__ = ["FORMATS", "ReleasePlan", "Released", "release"]
