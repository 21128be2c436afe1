"""The people's part of stage 2: they confirm, fix or reject what was prefilled, and add what is missing.

Source: SAM, sec. 4, "semi-automatic". Prefilled masks and those that people add are counted apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from anymask.engine.pool import enqueue
from anymask.engine.stages import FIXABLE_IOU, PREFILL, SEMI_AUTOMATIC
from anymask.engine.stages.annotator import Drawn
from anymask.engine.stages.assisted import Simulation, Tally
from anymask.engine.store import MODEL, Annotation, Change, Delete, Lease, Outcome, Project, Put, StoredImage
from anymask.geometry import masks, rle

RIGHT_IOU = 0.85
"""A prefilled mask that agrees with an object so well is confirmed as it is."""


def open_queue(project: Project, images: Sequence[StoredImage]) -> int:
    """Queue images to be prefilled, and then for people; returns how many are new."""
    return enqueue(project, PREFILL, images)


def open_people_queue(project: Project) -> int:
    """Queue the images that were prefilled, for people; returns how many are new."""
    ready = {job.image_id for job in project.jobs.in_state("done", PREFILL, limit=1 << 30)}
    chosen = [image for image in project.images.all() if image.id in ready]
    return enqueue(project, SEMI_AUTOMATIC, chosen)


class SemiAutomaticSimulation(Simulation):
    """Simulated people who look at what is prefilled first, and then add what is missing."""

    def work(self, lease: Lease) -> Outcome:
        """Confirm, fix or reject each prefilled mask, then draw the objects that have none."""
        image, prepared, objects = self.open(lease)
        tally = Tally(model=self.model)
        state = self.project.annotations.state(image.id)
        missing = np.ones(len(objects), bool)
        prefilled = 0
        for each in state.annotations:
            place = _object_of(each, objects, missing)
            if not awaits(each):
                if place is not None:
                    missing[place] = False
                continue
            prefilled += 1
            change, done = self._judge(lease, each, None if place is None else objects[place], tally)
            if done and place is not None:
                missing[place] = False
            self.put(lease, image, [change])
        self.add(lease, image, prepared, objects[missing], tally)
        tally.seconds += self.annotator.behaviour.scan_seconds
        return tally.outcome(prefilled)

    def _judge(
        self, lease: Lease, each: Annotation, truth: Bool[np.ndarray, "h w"] | None, tally: Tally
    ) -> tuple[Change, bool]:
        """Return the change to a prefilled mask, and whether its object has a mask now."""
        mask = rle.decode(each.rle)
        iou = 0.0 if truth is None else float(masks.pair_iou(mask, truth))
        look = Drawn(mask=mask, iou=iou, predicted_iou=each.score, seconds=self.annotator.behaviour.look_seconds)
        if truth is None or iou < FIXABLE_IOU:
            tally.add(look, "rejected")
            return Delete(id=each.id), False
        drawn = look if iou >= RIGHT_IOU else self.annotator.repair(mask, truth)
        tally.add(drawn, "confirmed" if iou >= RIGHT_IOU else "fixed")
        kept = self.describe(each.id, drawn, lease.kind, lease.worker, origin="prefilled", score=each.score)
        return Put(annotation=replace(kept, prompts=each.prompts)), True


def awaits(each: Annotation) -> bool:
    """Whether a mask is the model's and no person has looked at it."""
    known = each.provenance
    return known is not None and known.origin == "prefilled" and known.author == MODEL


def _object_of(each: Annotation, objects: Bool[np.ndarray, "m h w"], missing: Bool[np.ndarray, " m"]) -> int | None:
    """Return which of the objects that have no mask yet a mask shows, if any."""
    if not missing.any():
        return None
    overlap = rle.pairwise_iou([each.rle], rle.encode_many(objects))[0] * missing
    best = int(overlap.argmax())
    return best if overlap[best] >= FIXABLE_IOU else None
