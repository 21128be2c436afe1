"""What the stages share: filling a queue, putting masks on an image that others work on too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anymask.engine.pictures import chance
from anymask.engine.store import Change, Conflict, NewJob, Project, StoredImage, retry


def enqueue(project: Project, kind: str, images: Iterable[StoredImage], *, doubly: float = 0.0) -> int:
    """Add a job for each image that has none of the kind, a `doubly` share of them twice; returns how many were new."""
    new: list[NewJob] = []
    for image in images:
        new.append(NewJob(image_id=image.id, rank=float(image.id)))
        if chance(image.location, "doubly") < doubly:
            new.append(NewJob(image_id=image.id, rank=float(image.id), copy=1))
    return project.jobs.add(kind, new)


def put(project: Project, image_id: int, client: str, changes: Sequence[Change]) -> int:
    """Apply changes that hold on any revision, such as new masks, also where another was faster; return the revision.

    When it returns they are on the disk. The database may be away for a while.
    """
    base = retry(lambda: project.annotations.state(image_id).revision)
    while True:
        try:
            return retry(lambda base=base: project.annotations.change(image_id, base, client, changes))  # type: ignore[misc]
        except Conflict as conflict:
            base = conflict.revision
