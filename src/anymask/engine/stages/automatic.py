"""Stage 3: the model annotates alone, with SAM's settings for SA-1B (SAM, sec. 4 and app. B, "fully automatic")."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from anymask.engine.pictures import read_picture
from anymask.engine.pool import Work, enqueue
from anymask.engine.stages import AUTOMATIC
from anymask.engine.store import Annotation, Change, Outcome, Project, Provenance, Put, StoredImage
from anymask.geometry import rle
from anymask.inference.automatic.masks import AutomaticMasks, MaskRecord
from anymask.inference.automatic.options import AutomaticOptions
from anymask.inference.loading import load
from anymask.inference.runtimes import weights_hash

SAME_IOU = 0.7
"""A mask that overlaps one which is there already by more than this is the same object."""


def open_queue(project: Project, images: Sequence[StoredImage] | None = None) -> int:
    """Queue every image of the project, or those given; returns how many are new."""
    return enqueue(project, AUTOMATIC, project.images.all() if images is None else images)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBuild:
    """A model, a path or a name, and what it is asked; sent to workers, who load it."""

    model: str
    options: AutomaticOptions
    device: str = "cpu"

    def __call__(self) -> Callable[[UInt8[np.ndarray, "h w 3"]], list[MaskRecord]]:
        """Load the model."""
        return AutomaticMasks(load(self.model, device=self.device), self.options).generate


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticTask:
    """Masks of everything in each image; `model` is a path or a name, `overrides` replace options of the preset."""

    model: str
    device: str = "cpu"
    preset: str = "paper"
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def options(self, project: Project) -> AutomaticOptions:
        """Return the preset with the project's thresholds and the overrides. Raises InputError."""
        settings = project.settings.current()
        own = {"pred_iou_thresh": settings.auto_iou, "stability_score_thresh": settings.auto_stability}
        return AutomaticOptions.preset(self.preset, **{k: v for k, v in own.items() if v} | dict(self.overrides))

    def open(self, project: Project) -> Work:
        """Load the model."""
        model = load(self.model, device=self.device)
        generator = AutomaticMasks(model, self.options(project))
        digest = weights_hash(model)

        def work(image: StoredImage) -> tuple[Outcome, list[Change]]:
            began = time.perf_counter()
            records = generator.generate(read_picture(project, image))
            known = [each.rle for each in project.annotations.state(image.id).annotations]
            fresh = new_records(records, known)
            changes: list[Change] = [Put(annotation=_annotation(i, each, digest)) for i, each in enumerate(fresh)]
            return Outcome(seconds=time.perf_counter() - began, added=len(fresh), model=digest), changes

        return work


def new_records(records: Sequence[MaskRecord], known: Sequence[rle.RLE]) -> list[MaskRecord]:
    """Return the masks that overlap none of the known ones so much that they are the same object."""
    if not known or not records:
        return list(records)
    overlap = rle.pairwise_iou([record.rle for record in records], list(known)).max(axis=1)
    return [record for record, iou in zip(records, overlap, strict=True) if iou <= SAME_IOU]


def _annotation(index: int, record: MaskRecord, digest: str) -> Annotation:
    return Annotation(
        id=f"auto-{index}",
        rle=record.rle,
        score=round(record.predicted_iou, 6),
        source="everything",
        prompts={
            "points": [[round(x, 3), round(y, 3)] for x, y in record.point_coords],
            "stability": round(record.stability_score, 6),
            "crop_box": list(record.crop_box),
        },
        provenance=Provenance(stage=AUTOMATIC, author="model", origin="automatic", model=digest),
    )
