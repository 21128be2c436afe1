"""Quality: the paper's check, agreement between people, honeypots, and a review stage.

The check takes a sample of images, lets people correct every mask, and tells how many pairs agree by 90 % and 75 %
(SAM, sec. 5: 94 % and 97 %).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anymask.engine.stages import ASSISTED
from anymask.engine.stages.annotator import Drawn
from anymask.engine.stages.assisted import SECOND, Simulation, Tally
from anymask.engine.stages.queue import put
from anymask.engine.store import (
    Annotation,
    Change,
    Delete,
    Lease,
    NewJob,
    Outcome,
    Project,
    Provenance,
    Put,
    Review,
    StoredImage,
    Version,
    patiently,
)
from anymask.errors import InputError
from anymask.geometry import rle
from anymask.geometry.rle import RLE

CHECK = "check"
REVIEW = "review"
HONEYPOT = "honeypot"
_SAME_IOU = 0.5
"""Two people mean the same object where their masks overlap by this at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """How good the masks of a sample are; shares from 0 to 1."""

    pairs: int
    over_90: float
    over_75: float
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two people agree on the same images."""

    images: int
    matched: float
    """Share of all their objects that both have."""
    mean_iou: float
    """Of those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A reviewer's word on one annotation; a `fix` brings the right mask."""

    key: str
    verdict: str
    mask: RLE | None = None
    reason: str | None = None


def open_check(project: Project, count: int, *, seed: int = 0) -> int:
    """Draw images that have masks, at random, and queue them for the check; returns how many are new."""
    chosen = [image for image in project.images.all() if image.num_annotations]
    order = np.random.default_rng(seed).permutation(len(chosen))[:count]
    return project.jobs.add(CHECK, [NewJob(image_id=chosen[i].id) for i in order])


def open_review(project: Project, images: Sequence[StoredImage] | None = None) -> int:
    """Queue images for review, those first whose masks the models are least sure of; returns how many are new."""
    chosen = project.images.all() if images is None else images
    new = []
    for image in chosen:
        scores = [each.score for each in project.annotations.state(image.id).annotations if each.score is not None]
        if image.num_annotations:
            new.append(NewJob(image_id=image.id, rank=float(np.mean(scores)) if scores else 1.0))
    return project.jobs.add(REVIEW, new)


def least_confident_first(annotations: Sequence[Annotation]) -> list[Annotation]:
    """Return annotations in the order in which they should be looked at; those that no model scored come last."""
    return sorted(annotations, key=lambda each: np.inf if each.score is None else each.score)


def judge(project: Project, lease: Lease, judgements: Sequence[Judgement]) -> None:
    """Note verdicts on an image's annotations and apply them: a rejected mask goes, a fixed one gets a new version.

    Raises InputError for a fix without a mask, a rejection without a reason, and an annotation that is not there.
    """
    newest = _newest(project, lease.image_id)
    verdicts: list[Review] = []
    changes: list[Change] = []
    for each in judgements:
        version = newest.get(each.key)
        if version is None or version.annotation is None:
            raise InputError(f"image {lease.image_id} has no annotation {each.key}")
        iou = None
        if each.verdict == "fix":
            if each.mask is None:
                raise InputError(f"annotation {each.key}: a fix needs the right mask")
            iou = float(rle.pairwise_iou([version.annotation.rle], [each.mask])[0, 0])
            changes.append(Put(annotation=_fixed(version.annotation, each.mask, lease)))
        elif each.verdict == "reject":
            changes.append(Delete(id=each.key))
        else:
            iou = 1.0
        verdicts.append(
            Review(
                version_id=version.id,
                kind=lease.kind,
                author=lease.worker,
                verdict=each.verdict,
                iou=iou,
                reason=each.reason,
            )
        )
    patiently(lambda: project.reviews.add(verdicts))
    if changes:
        put(project, lease.image_id, lease.worker, changes)


def _newest(project: Project, image_id: int) -> dict[str, Version]:
    return {version.key: version for version in project.annotations.versions(image_id)}


def _fixed(before: Annotation, mask: RLE, lease: Lease) -> Annotation:
    known = before.provenance
    origin = "added" if known is None else known.origin
    return replace(
        before, rle=mask, source="brush", provenance=Provenance(stage=lease.kind, author=lease.worker, origin=origin)
    )


def check_report(project: Project, kind: str = CHECK) -> CheckReport:
    """Return what the check has found so far."""
    found = [review for _, review in project.reviews.of(kind)]
    ious = np.array([review.iou for review in found if review.iou is not None])
    share = {least: float((ious > least).mean()) if ious.size else 0.0 for least in (0.9, 0.75)}
    rejected = sum(review.verdict == "reject" for review in found)
    return CheckReport(pairs=ious.size, over_90=share[0.9], over_75=share[0.75], rejected=rejected)


def agreement(project: Project) -> Agreement:
    """Compare the people who were given the same images."""
    matched, objects = [], 0
    hidden = project.reviews.hidden(SECOND)
    for (image_id, _), second in hidden.items():
        first = [
            each.rle
            for each in project.annotations.state(image_id).annotations
            if each.provenance is not None and each.provenance.stage == ASSISTED
        ]
        ious = match(first, second)
        matched += ious
        objects += len(first) + len(second) - len(ious)
    return Agreement(
        images=len({image for image, _ in hidden}),
        matched=len(matched) / max(objects, 1),
        mean_iou=float(np.mean(matched)) if matched else 0.0,
    )


def match(a: Sequence[RLE], b: Sequence[RLE]) -> list[float]:
    """Pair masks one to one, the best overlap first, and return the IoU of each pair of 0.5 and more."""
    overlap = rle.pairwise_iou(list(a), list(b))
    found: list[float] = []
    while overlap.size and overlap.max() >= _SAME_IOU:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        found.append(float(overlap[row, column]))
        overlap[row, :], overlap[:, column] = 0, 0
    return found


def add_honeypot(project: Project, image: StoredImage, masks: Sequence[RLE], *, kind: str = ASSISTED) -> None:
    """Put an image whose masks are known into a stage's queue, where nothing tells it from the others."""
    project.reviews.hide(image.id, masks, kind=HONEYPOT, author="known")
    project.jobs.add(kind, [NewJob(image_id=image.id, rank=float(image.id))])


def honeypot_scores(project: Project) -> Mapping[str, float]:
    """Return, of everybody who came by a honeypot, the mean over its true masks of the best IoU that they reached."""
    found: dict[str, list[float]] = {}
    for (image_id, _), truth in project.reviews.hidden(HONEYPOT).items():
        drawn: dict[str, list[RLE]] = {}
        for each in project.annotations.state(image_id).annotations:
            if each.provenance is not None and each.provenance.author != "model":
                drawn.setdefault(each.provenance.author, []).append(each.rle)
        for author, masks in drawn.items():
            found.setdefault(author, []).extend(rle.pairwise_iou(truth, masks).max(axis=1).tolist())
    return {author: float(np.mean(ious)) for author, ious in sorted(found.items())}


class CheckSimulation(Simulation):
    """A simulated professional who corrects every mask of an image, or rejects what shows no object."""

    def work(self, lease: Lease) -> Outcome:
        """Judge every mask, the least confident first."""
        image = self.project.images.get(lease.image_id)
        assert image is not None
        objects = self.truth.masks(image)
        stored = rle.encode_many(objects)
        tally = Tally(model=self.model)
        judgements = []
        for each in least_confident_first(self.project.annotations.state(image.id).annotations):
            overlap = rle.pairwise_iou([each.rle], stored)[0]
            best = int(overlap.argmax()) if overlap.size else -1
            if best < 0 or overlap[best] < _SAME_IOU:
                judgements.append(Judgement(key=each.id, verdict="reject", reason="shows no object"))
                looked = rle.decode(each.rle)
                seconds = self.annotator.habits.look_seconds
                tally.add(Drawn(mask=looked, iou=0.0, predicted_iou=None, seconds=seconds), "rejected")
                continue
            drawn = self.annotator.repair(rle.decode(each.rle), objects[best])
            tally.add(drawn, "fixed" if drawn.strokes else "confirmed")
            verdict = "fix" if drawn.strokes else "accept"
            mask = rle.encode(drawn.mask) if drawn.strokes else None
            judgements.append(Judgement(key=each.id, verdict=verdict, mask=mask))
        judge(self.project, lease, judgements)
        return tally.outcome()
