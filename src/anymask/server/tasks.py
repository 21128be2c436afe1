"""A person's image from a queue of the data engine: leased, prepared, and its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from anymask.engine.quality import CHECK, REVIEW, Judgement, judge
from anymask.engine.stages import ASSISTED, SEMI_AUTOMATIC
from anymask.engine.stages.assisted import SECOND
from anymask.engine.stages.semi_automatic import awaits
from anymask.engine.store import Annotation, Conflict, Lease, LeaseLost, Outcome, Project, StoredImage
from anymask.errors import AnymaskError
from anymask.geometry.rle import RLE
from anymask.server.context import Context
from anymask.server.errors import ApiError
from anymask.server.worker import Priority

JUDGED = (REVIEW, CHECK)
"""The kinds of jobs in which every mask gets a verdict."""
_MOST_AHEAD = 4
"""Images that are encoded before they are opened."""


def suggested_stage(project: Project) -> str | None:
    """Return the stage that people should go on with: the second before the first, None where nothing is open."""
    counts = project.jobs.counts()
    return next((kind for kind in (SEMI_AUTOMATIC, ASSISTED) if counts.get(kind, {}).get("open")), None)


def take(context: Context, stage: str | None, worker: str) -> tuple[Lease, StoredImage] | None:
    """Lease the next image for a person and have it, and those that come after it, encoded; None without any.

    A lease that has expired is open to others, and counts as open here.
    """
    project = context.project
    seconds = project.settings.current().lease_seconds
    for kind in (stage,) if stage else (SEMI_AUTOMATIC, ASSISTED):
        lease = project.jobs.lease(kind, worker, seconds=seconds, tries=None)
        if lease is not None:
            image = project.images.get(lease.image_id)
            assert image is not None  # the jobs' foreign key
            with suppress(ApiError):  # too many wait: the page asks again
                context.encoding.request(image, Priority.now)
            prepare(context, kind)
            return lease, image
    return None


def prepare(context: Context, kind: str | None) -> None:
    """Have the images at the head of a queue encoded: one for each who works on it, and one more."""
    if kind is None:
        return
    people = context.project.jobs.counts(kind).get(kind, {}).get("leased", 0)
    for image_id in context.project.jobs.next_images(kind, min(1 + people, _MOST_AHEAD)):
        image = context.project.images.get(image_id)
        if image is not None:
            with suppress(ApiError, AnymaskError):
                context.encoding.request(image, Priority.next)


def checked(project: Project, lease: Lease) -> Lease:
    """Return a lease that came over the wire if job, image, stage and person belong together; raises LeaseLost."""
    for job in project.jobs.of(lease.image_id):
        if job.id == lease.job_id and (job.kind, job.worker) == (lease.kind, lease.worker):
            return lease
    raise LeaseLost(f"image {lease.image_id} is not {lease.worker}'s any more")


def finish(context: Context, lease: Lease, spent: Outcome, *, second: Sequence[RLE] = ()) -> bool:
    """Note that an image is done, and what it took; False if that was noted before.

    What came of the masks is read from their versions. A `second` person's masks are kept apart. Raises LeaseLost, and
    ApiError (422).
    """
    project = context.project
    checked(project, lease)
    if lease.kind in JUDGED:
        raise ApiError(422, f"a {lease.kind} ends with a verdict on each mask, and this had none")
    counts = {"added": len(second)} if lease.copy else judged(project, lease)
    hidden = (SECOND, second) if lease.copy else None
    return project.jobs.finish(lease, replace(spent, model=context.model_hash, **counts), hidden=hidden)


def finish_judged(
    context: Context,
    lease: Lease,
    spent: Outcome,
    judgements: Sequence[Judgement],
    *,
    revision: int,
    added: Sequence[Annotation] = (),
) -> bool:
    """Note a reviewer's verdicts on every mask of an image as of a revision; False if that was noted before.

    Raises LeaseLost; ApiError (422), and (412) where a mask has changed since; InputError, DataError.
    """
    project = context.project
    checked(project, lease)
    if lease.kind not in JUDGED:
        raise ApiError(422, f"masks are judged in {' and '.join(JUDGED)}, not in {lease.kind}")
    spent = replace(spent, model=context.model_hash)
    try:
        return judge(project, lease, judgements, outcome=spent, revision=revision, added=added)
    except Conflict as error:
        raise ApiError(412, f"{error}; some masks were changed by others") from error


def judged(project: Project, lease: Lease) -> dict[str, int]:
    """Count what a person made of an image: prefilled masks confirmed, fixed and rejected, and masks added.

    Raises ApiError (422) where the second stage left prefilled masks that nobody has looked at.
    """
    prefilled: dict[str, Annotation] = {}
    for version in project.annotations.versions(lease.image_id):
        if version.annotation is not None and awaits(version.annotation):
            prefilled[version.key] = version.annotation
    now = {each.id: each for each in project.annotations.state(lease.image_id).annotations}
    mine = [
        each
        for each in now.values()
        if each.provenance is not None and (each.provenance.author, each.provenance.stage) == (lease.worker, lease.kind)
    ]
    waiting = sum(awaits(each) for each in now.values())
    if waiting and lease.kind == SEMI_AUTOMATIC:
        raise ApiError(422, f"{waiting} of the model's masks still wait for a verdict: confirm, fix or reject each")
    looked_at = [each for each in mine if each.id in prefilled]
    fixed = sum(each.rle["counts"] != prefilled[each.id].rle["counts"] for each in looked_at)
    return {
        "prefilled": len(prefilled),
        "confirmed": len(looked_at) - fixed,
        "fixed": fixed,
        "rejected": sum(key not in now for key in prefilled),
        "added": len(mine) - len(looked_at),
        "by_hand": sum(each.provenance is not None and each.provenance.strokes > 0 for each in mine),
    }
