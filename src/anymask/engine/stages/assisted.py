"""Stage 1: people draw masks with the model's help, the prominent objects first (SAM, sec. 4, "assisted-manual")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from anymask.engine.pictures import read_picture
from anymask.engine.pool import enqueue, put
from anymask.engine.stages import ASSISTED
from anymask.engine.stages.annotator import Drawn, SimulatedAnnotator, Truth
from anymask.engine.store import (
    Annotation,
    Change,
    EngineSettings,
    Lease,
    LeaseLost,
    Outcome,
    Project,
    Provenance,
    Put,
    StoredImage,
    retry,
)
from anymask.engine.store.names import plain_key
from anymask.errors import AnymaskError
from anymask.evaluation.protocol import PreparedImage
from anymask.evaluation.single_point import ModelSegmenter
from anymask.geometry import rle
from anymask.inference.runtimes import weights_hash

if TYPE_CHECKING:
    from anymask.model import Sam

SECOND = "second"
"""The kind of hidden masks that the second person on an image draws."""

Progress = Callable[[int], None]
"""Called for each image that is done, with the number so far."""


def open_queue(project: Project, images: Sequence[StoredImage] | None = None) -> int:
    """Queue every image of the project, or those given, for people; returns how many are new."""
    settings = project.settings.current()
    chosen = project.images.all() if images is None else images
    return enqueue(project, ASSISTED, chosen, doubly=settings.doubly_assigned)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a person has done on an image so far."""

    model: str
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, drawn: Drawn, kind: str) -> None:
        """Count a mask as confirmed, fixed, rejected, added, or (given up) as nothing."""
        self.seconds += drawn.seconds
        names = [kind] if kind else []
        names += ["by_hand"] if kind and drawn.strokes else []
        for name in names:
            self.counts[name] = self.counts.get(name, 0) + 1
        self.counts["clicks"] = self.counts.get("clicks", 0) + len(drawn.clicks)
        self.counts["strokes"] = self.counts.get("strokes", 0) + drawn.strokes

    def outcome(self, prefilled: int = 0) -> Outcome:
        """Return it as the store keeps it."""
        return Outcome(seconds=self.seconds, model=self.model, prefilled=prefilled, **self.counts)


class Simulation:
    """Simulated people at work in a project: the same queue, leases and change sets as the browser's.

    Time is the annotator's modelled one; the lease is renewed with each mask.
    """

    def __init__(
        self, project: Project, model: Sam, truth: Truth, *, annotator: SimulatedAnnotator | None = None
    ) -> None:
        self.project, self.truth = project, truth
        self.settings: EngineSettings = project.settings.current()
        self.annotator = annotator or SimulatedAnnotator(mask_seconds=self.settings.mask_seconds)
        self.segmenter = ModelSegmenter(model)
        self.model = weights_hash(model)

    def run(
        self,
        worker: str = "simulated",
        *,
        kind: str = ASSISTED,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Work through a queue, or `limit` images of it; return how many were done.

        An image that cannot be used costs a try, and is put in quarantine after the last.
        """
        done = 0
        while limit is None or done < limit:
            lease = retry(
                lambda: self.project.jobs.lease(kind, worker, seconds=self.settings.lease_seconds, tries=None)
            )
            if lease is None:
                break
            try:
                outcome = self.work(lease)
            except AnymaskError as error:
                retry(lambda lease=lease, error=error: self.project.jobs.fail(lease, str(error)))  # type: ignore[misc]
                continue
            try:
                retry(lambda lease=lease, outcome=outcome: self.project.jobs.finish(lease, outcome))  # type: ignore[misc]
            except LeaseLost:
                continue  # what was drawn is on the image; the image is another's to finish
            done += 1
            if progress is not None:
                progress(done)
        return done

    def work(self, lease: Lease) -> Outcome:
        """Annotate the image of a lease, each mask on the disk before the next is begun."""
        image, prepared, objects = self.open(lease)
        tally = Tally(model=self.model)
        self.add(lease, image, prepared, objects, tally)
        return tally.outcome()

    def open(self, lease: Lease) -> tuple[StoredImage, PreparedImage, Bool[np.ndarray, "m h w"]]:
        """Return the image of a lease, encoded, and its true masks. Raises AnymaskError."""
        image = self.project.images.get(lease.image_id)
        assert image is not None  # the jobs' foreign key
        objects = self.truth.masks(image)
        return image, self.segmenter.prepare(read_picture(self.project, image)), objects

    def add(
        self,
        lease: Lease,
        image: StoredImage,
        prepared: PreparedImage,
        objects: Bool[np.ndarray, "m h w"],
        tally: Tally,
    ) -> None:
        """Draw objects, one after the other, until the time for an image is over."""
        limit = self.settings.image_seconds or np.inf
        for number, truth in enumerate(objects):
            if tally.seconds >= limit:
                break
            drawn = self.annotator.draw(prepared, truth)
            kept = drawn.iou >= self.annotator.behaviour.keep_iou
            tally.add(drawn, "added" if kept else "")
            if kept:
                key = plain_key(f"{lease.worker}-{lease.job_id}-{number}")
                annotation = self.describe(key, drawn, lease.kind, lease.worker)
                self.put(lease, image, [Put(annotation=annotation)])

    def put(self, lease: Lease, image: StoredImage, changes: Sequence[Change]) -> None:
        """Put masks on the image, and renew the lease; a second person's masks are kept apart."""
        if lease.copy:
            drawn = [change.annotation.rle for change in changes if isinstance(change, Put)]
            retry(lambda: self.project.reviews.hide(image.id, drawn, kind=SECOND, author=lease.worker))
        else:
            put(self.project, image.id, lease.worker, changes)
        retry(lambda: self.project.jobs.renew(lease, seconds=self.settings.lease_seconds))

    def describe(
        self, key: str, drawn: Drawn, stage: str, author: str, *, origin: str = "added", score: float | None = None
    ) -> Annotation:
        """Return a drawn mask with its provenance."""
        return Annotation(
            id=key,
            rle=rle.encode(drawn.mask),
            score=drawn.predicted_iou if score is None else score,
            source="brush" if drawn.strokes else "click",
            prompts={
                "points": [[x, y] for x, y, _ in drawn.clicks],
                "labels": [label for _, _, label in drawn.clicks],
                "strokes": drawn.strokes,
            },
            provenance=Provenance(
                stage=stage,
                author=author,
                origin=origin,
                model=self.model,
                seconds=round(drawn.seconds, 3),
                clicks=len(drawn.clicks),
                strokes=drawn.strokes,
            ),
        )
