"""Quality: the paper's check, agreement between people, honeypots, and a review stage.

The check takes a sample of images, lets people correct every mask, and reports how many pairs agree by 90 % and 75 %
(SAM, sec. 5: 94 % and 97 %).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anymask.engine.imports import FoundImage, import_found, placed
from anymask.engine.pictures import chance
from anymask.engine.stages import ASSISTED, PEOPLES
from anymask.engine.stages.annotator import Drawn
from anymask.engine.stages.assisted import SECOND, Simulation, Tally
from anymask.engine.store import (
    MACHINES,
    Annotation,
    Change,
    Conflict,
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
    retry,
)
from anymask.engine.store.reviews import VERDICTS
from anymask.errors import DataError, InputError
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
    """Mean IoU of those pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewReport:
    """What reviewers said of the masks that they saw."""

    accepted: int
    fixed: int
    rejected: int
    reasons: Mapping[str, int]
    """Why masks were rejected, the most frequent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A reviewer's verdict on one annotation; a `fix` brings it as it should be, with what that took as its
    provenance.
    """

    key: str
    verdict: str
    fixed: Annotation | None = None
    reason: str | None = None


def open_check(project: Project, count: int, *, seed: int = 0) -> int:
    """Draw images that have masks, at random, and queue them for the check; returns how many are new."""
    chosen = [image for image in project.images.all() if image.num_annotations]
    order = np.random.default_rng(seed).permutation(len(chosen))[:count]
    return project.jobs.add(CHECK, [NewJob(image_id=chosen[i].id) for i in order])


def open_review(project: Project, images: Sequence[StoredImage] | None = None, *, limit: int | None = None) -> int:
    """Queue images for review, those first whose masks the models are least sure of; returns how many are new.

    With a `limit` only so many of them.
    """
    chosen = project.images.all() if images is None else images
    new = []
    for image in chosen:
        scores = [each.score for each in project.annotations.state(image.id).annotations if each.score is not None]
        if image.num_annotations:
            new.append(NewJob(image_id=image.id, rank=float(np.mean(scores)) if scores else 1.0))
    new.sort(key=lambda job: job.rank)
    return project.jobs.add(REVIEW, new[:limit])


def least_confident_first(annotations: Sequence[Annotation]) -> list[Annotation]:
    """Return annotations in the order in which they should be looked at; those that no model scored come last."""
    return sorted(annotations, key=lambda each: np.inf if each.score is None else each.score)


def judge(
    project: Project,
    lease: Lease,
    judgements: Sequence[Judgement],
    *,
    outcome: Outcome | None = None,
    revision: int | None = None,
    added: Sequence[Annotation] = (),
) -> bool:
    """Finish an image whose every annotation was judged: note the verdicts and apply them, all in one transaction.

    A rejected annotation goes, a fixed one gets a new version, `added` ones are new; `outcome` says what it took, and
    what came of it is counted here. Reported twice, it counts once: False the second time. The verdicts are on the
    annotations as of `revision`, by default the present one.

    Raises:
        InputError: an annotation is not there, is judged twice or not at all, or one of that id is there already; a fix
            brings no mask; a rejection has no reason.
        DataError: a mask is malformed or of another size.
        Conflict: an annotation has changed since the revision.
        LeaseLost: another has the image.
    """
    if project.jobs.is_finished(lease):
        return False
    versions = project.annotations.versions(lease.image_id)
    seen = {each.key: each for each in versions if revision is None or each.revision <= revision}
    verdicts = _verdicts(lease, judgements, seen)
    newest = {each.key: each for each in versions}
    changed = [newest[each.key] for each in judgements if newest[each.key].id != seen[each.key].id]
    if changed:
        raise Conflict(f"image {lease.image_id}", revision or 0, max(each.revision for each in changed))
    changes = _changes(lease, judgements, seen)
    for new in added:
        if new.id in newest:
            raise InputError(f"image {lease.image_id} has an annotation {new.id} already")
        changes.append(Put(annotation=replace(new, provenance=_provenance(new, lease, "added"))))
    counts = Counter(each.verdict for each in judgements)
    drawn = [change.annotation.provenance for change in changes if isinstance(change, Put)]
    done = replace(
        outcome or Outcome(),
        confirmed=counts["accept"],
        fixed=counts["fix"],
        rejected=counts["reject"],
        added=len(added),
        by_hand=sum(known is not None and known.strokes > 0 for known in drawn),
    )
    return retry(lambda: project.jobs.finish(lease, done, changes, verdicts))


def _verdicts(lease: Lease, judgements: Sequence[Judgement], seen: Mapping[str, Version]) -> list[Review]:
    """Return judgements as verdicts on the versions that were seen; raises InputError and DataError."""
    found: list[Review] = []
    twice = [key for key, times in Counter(each.key for each in judgements).items() if times > 1]
    if twice:
        raise InputError(f"annotation {twice[0]} is judged twice")
    for each in judgements:
        version = seen.get(each.key)
        if version is None or version.annotation is None:
            raise InputError(f"image {lease.image_id} has no annotation {each.key}")
        iou = 1.0 if each.verdict == "accept" else None
        if each.verdict == "fix":
            if each.fixed is None:
                raise InputError(f"annotation {each.key}: a fix needs the right mask")
            before = version.annotation.rle
            after = rle.checked(each.fixed.rle, (before["size"][0], before["size"][1]))
            if not rle.area(after):
                raise InputError(f"annotation {each.key}: a fix needs a mask that shows something; or else reject it")
            iou = float(rle.pairwise_iou([before], [after])[0, 0])
        said = Review(
            version_id=version.id,
            kind=lease.kind,
            author=lease.worker,
            verdict=each.verdict,
            iou=iou,
            reason=each.reason,
        )
        found.append(said)
    waiting = sum(each.annotation is not None for each in seen.values()) - len(found)
    if waiting:
        raise InputError(f"{waiting} of the image's masks still wait for a verdict: accept, fix or reject each")
    return found


def _changes(lease: Lease, judgements: Sequence[Judgement], seen: Mapping[str, Version]) -> list[Change]:
    """Return what judgements that were found good come to."""
    changes: list[Change] = []
    for each in judgements:
        before = seen[each.key].annotation
        if each.verdict == "reject":
            changes.append(Delete(id=each.key))
        elif each.verdict == "fix" and each.fixed is not None and before is not None:
            origin = "added" if before.provenance is None else before.provenance.origin
            known = _provenance(each.fixed, lease, origin)
            changes.append(Put(annotation=replace(each.fixed, id=each.key, parent=before.parent, provenance=known)))
    return changes


def _provenance(drawn: Annotation, lease: Lease, origin: str) -> Provenance:
    """Return what is known of a mask that the lease's person drew; what it took is what was reported."""
    told = drawn.provenance or Provenance(stage=lease.kind, author=lease.worker)
    return replace(told, stage=lease.kind, author=lease.worker, origin=origin, derived_from=None)


def review_report(project: Project, kind: str = REVIEW) -> ReviewReport:
    """Return what reviewers have said so far."""
    tally = project.reviews.tally(kind)
    of = {verdict: sum(number for (said, _), number in tally.items() if said == verdict) for verdict in VERDICTS}
    reasons = {reason: number for (said, reason), number in tally.items() if said == "reject" and reason is not None}
    return ReviewReport(accepted=of["accept"], fixed=of["fix"], rejected=of["reject"], reasons=reasons)


def check_report(project: Project, kind: str = CHECK) -> CheckReport:
    """Return what the check has found so far."""
    pairs, (over_90, over_75) = project.reviews.pairs(kind, (0.9, 0.75))
    rejected = sum(number for (said, _), number in project.reviews.tally(kind).items() if said == "reject")
    return CheckReport(pairs=pairs, over_90=over_90 / max(pairs, 1), over_75=over_75 / max(pairs, 1), rejected=rejected)


def agreement(project: Project, *, latest: int | None = None) -> Agreement:
    """Compare the people who have done the same images, those who drew nothing too; of all images or the `latest`."""
    matched, objects = [], 0
    done = project.jobs.second_opinions(ASSISTED, latest=latest)
    hidden = project.reviews.hidden(SECOND, [image for image, _ in done])
    for image_id, worker in done:
        second = hidden.get((image_id, worker), [])
        first = [
            each.rle
            for each in project.annotations.state(image_id).annotations
            if each.provenance is not None and each.provenance.stage == ASSISTED
        ]
        ious = match(first, second)
        matched += ious
        objects += len(first) + len(second) - len(ious)
    return Agreement(
        images=len({image for image, _ in done}),
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


def add_honeypot(
    project: Project, image: StoredImage, masks: Sequence[RLE], *, kind: str = ASSISTED, rank: float | None = None
) -> None:
    """Put an image whose masks are known into a stage's queue, where nothing tells it from the others.

    Its `rank` there is that of any image by default. Raises DataError where a mask is of another size.
    """
    for mask in masks:
        rle.checked(mask, image.size)
    project.jobs.add(kind, [NewJob(image_id=image.id, rank=float(image.id) if rank is None else rank)])
    project.reviews.hide(image.id, masks, kind=HONEYPOT, author="known")


@dataclass(frozen=True, slots=True, kw_only=True)
class Honeypots:
    """What became of images with known masks."""

    images: int
    """New honeypots."""
    masks: int
    """Masks on the new honeypots."""
    known: int
    """Images that were honeypots already."""
    shown: int
    """Images left out, as masks of theirs are in the project, where people see them."""


def add_honeypots(project: Project, found: Iterable[FoundImage], *, source: str, kind: str = ASSISTED) -> Honeypots:
    """Put images whose masks are known into a stage's queue, in between the others; those that are new are imported.

    Their masks are kept where no annotator sees them. Images without masks are passed over. Raises DataError where the
    source is broken, or has no mask.
    """
    chosen = [placed(project, each) for each in found if each.masks]
    if not chosen:
        raise DataError(f"{source}: no image has a mask; a honeypot is an image whose masks are known")
    last = max((image.id for image in project.images.all()), default=0)
    import_found(project, [replace(each, masks=[]) for each in chosen], source=source)
    stored = project.images.find([each.location for each in chosen])
    had = {image_id for image_id, _ in project.reviews.hidden(HONEYPOT)}
    counts: Counter[str] = Counter()
    for each in chosen:
        image = stored[each.location]
        if image.id in had or image.num_annotations:
            counts["known" if image.id in had else "shown"] += 1
            continue
        rank = chance(image.location, HONEYPOT) * last  # by its id, a new image would come behind all others
        add_honeypot(project, image, [mask.rle for mask in each.masks], kind=kind, rank=rank)
        counts.update(images=1, masks=len(each.masks))
    return Honeypots(images=counts["images"], masks=counts["masks"], known=counts["known"], shown=counts["shown"])


def honeypot_scores(project: Project, *, latest: int | None = None) -> Mapping[str, float]:
    """Return, for everybody who was given a honeypot, the mean over its true masks of the best IoU that they reached.

    Those who did the image and drew nothing have reached 0. Of all honeypots, or of the `latest`.
    """
    found: dict[str, list[float]] = {}
    known = project.reviews.hidden(HONEYPOT, latest=latest)
    hidden = project.reviews.hidden(SECOND, [image_id for image_id, _ in known])
    for (image_id, _), truth in known.items():
        drawn: dict[str, list[RLE]] = {
            job.worker: list(hidden.get((image_id, job.worker), []))
            for job in project.jobs.of(image_id)
            if job.kind in PEOPLES and job.state == "done" and job.worker is not None
        }
        for each in project.annotations.state(image_id).annotations:
            if each.provenance is not None and each.provenance.author not in MACHINES:
                drawn.setdefault(each.provenance.author, []).append(each.rle)
        for author, masks in drawn.items():
            best = rle.pairwise_iou(truth, masks).max(axis=1) if masks else np.zeros(len(truth))
            found.setdefault(author, []).extend(best.tolist())
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
                judgements.append(Judgement(key=each.id, verdict="reject", reason="Shows no object"))
                looked = rle.decode(each.rle)
                seconds = self.annotator.behaviour.look_seconds
                tally.add(Drawn(mask=looked, iou=0.0, predicted_iou=None, seconds=seconds), "rejected")
                continue
            drawn = self.annotator.repair(rle.decode(each.rle), objects[best])
            tally.add(drawn, "fixed" if drawn.strokes else "confirmed")
            if not drawn.strokes:
                judgements.append(Judgement(key=each.id, verdict="accept"))
                continue
            made = self.describe(each.id, drawn, lease.kind, lease.worker)
            fixed = replace(each, rle=made.rle, source=made.source, provenance=made.provenance)
            judgements.append(Judgement(key=each.id, verdict="fix", fixed=fixed))
        outcome = tally.outcome()
        judge(self.project, lease, judgements, outcome=outcome)
        return outcome
