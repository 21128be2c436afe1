"""The data engine's queues for people, and its state for the dashboard; a plain project has neither."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends

from anymask.engine import status as project_status
from anymask.engine.quality import review_report
from anymask.engine.store import MACHINES, Lease, LeaseLost, Outcome
from anymask.server import schemas, tasks
from anymask.server.bodies import JsonRoute
from anymask.server.context import AtContext, Context, Person
from anymask.server.errors import ApiError
from anymask.server.schemas.engine import Queue, Stage

_LOST: dict[int | str, dict[str, Any]] = {409: {"model": schemas.Error, "description": "the image is another's by now"}}

_CHANGED: dict[int | str, dict[str, Any]] = {
    412: {"model": schemas.Error, "description": "masks were changed since the revision that was judged"}
}


def _of_engine(context: AtContext) -> Context:
    if not context.is_engine:
        raise ApiError(404, "this project has no data engine; `anymask engine init` makes one that has")
    return context


Engine = Annotated[Context, Depends(_of_engine)]
router = APIRouter(route_class=JsonRoute, prefix="/engine")


@router.get("/work")
def work(context: Engine) -> schemas.Work:
    """Return what there is to do for people; the images at the queue's head are prepared."""
    found = _work(context)
    tasks.prepare(context, found.suggested)
    return found


@router.post("/next")
def next_image(context: Engine, wanted: schemas.NextRequest, person: Person) -> schemas.Next:
    """Give a person the next image of a queue; it is that person's until somebody else gets it, at the earliest
    after `lease_seconds` without a sign of life. Where people have tokens of their own the name is the token's.
    """
    worker = person or wanted.worker
    if worker in MACHINES:
        raise ApiError(422, f'worker: "{worker}" is not a person\'s name; choose another')
    found = tasks.take(context, wanted.stage, worker)
    if found is None:
        return schemas.Next(task=None, work=_work(context))
    lease, image = found
    task = schemas.Task(
        lease=schemas.Lease(
            job=lease.job_id,
            image=str(lease.image_id),
            stage=lease.kind,  # type: ignore[arg-type]
            worker=lease.worker,
            token=lease.token,
            is_second=lease.copy > 0,
        ),
        image=context.encoding.describe(image),
        statistics=_statistics(context, lease.kind, lease.worker),
    )
    _told(context)
    return schemas.Next(task=task, work=_work(context))


@router.post("/renew")
def renew(context: Engine, lease: schemas.Lease, person: Person) -> schemas.Held:
    """Report that a person is still working on an image."""
    seconds = context.project.settings.current().lease_seconds
    return schemas.Held(held=context.project.jobs.renew(_stored(lease, person), seconds=seconds))


@router.post("/finish", responses=_LOST)
def finish(context: Engine, done: schemas.FinishRequest, person: Person) -> schemas.Finished:
    """Report that an image is done; sent twice, it counts once."""
    with _kept():
        second = [mask.stored() for mask in done.masks]
        counted = tasks.finish(context, _stored(done.lease, person), _spent(done), second=second)
    return _finished(context, done.lease, counted)


@router.post("/judge", responses=_LOST | _CHANGED)
def judge(context: Engine, done: schemas.JudgedRequest, person: Person) -> schemas.Finished:
    """Send a verdict on every mask of an image in a review or a check, and that it is done; sent twice, it counts
    once.
    """
    judgements = [each.stored() for each in done.judgements]
    added = [each.stored() for each in done.added]
    lease = _stored(done.lease, person)
    with _kept():
        counted = tasks.finish_judged(context, lease, _spent(done), judgements, revision=done.revision, added=added)
    revision = context.project.annotations.state(lease.image_id).revision
    context.events.publish(schemas.AnnotationsEvent(id=done.lease.image, revision=revision, client=lease.kind))
    return _finished(context, done.lease, counted)


@router.post("/skip", responses=_LOST)
def skip(context: Engine, wanted: schemas.SkipRequest, person: Person) -> schemas.Work:
    """Take an image out of its queue, for a reason."""
    with _kept():
        context.project.jobs.skip(tasks.checked(context.project, _stored(wanted.lease, person)), wanted.reason)
    _told(context)
    return _work(context)


@router.post("/give-back", responses=_LOST)
def give_back(context: Engine, lease: schemas.Lease, person: Person) -> schemas.Work:
    """Leave an image to others, as someone who goes home does."""
    with _kept():
        context.project.jobs.give_back(tasks.checked(context.project, _stored(lease, person)))
    _told(context)
    return _work(context)


@router.get("/status")
def status(context: Engine) -> schemas.Status:
    """Return where the project stands: queues, statistics, people, models, what was set aside."""
    found = project_status.status(context.project)
    quality = {**found["quality"], "review": asdict(review_report(context.project))}
    here = {"project": context.project.name, "quality": quality, "serving": context.model_hash}
    return schemas.Status.model_validate({**found, **here})


def _work(context: Context) -> schemas.Work:
    counts = context.project.jobs.counts()
    settings = context.project.settings.current()
    return schemas.Work(
        queues={kind: Queue(**counts.get(kind, {})) for kind in get_args(Stage)},
        suggested=tasks.suggested_stage(context.project),  # type: ignore[arg-type]
        mask_seconds=settings.mask_seconds,
        image_seconds=settings.image_seconds,
        asks_classes=settings.asks_classes,
        lease_seconds=settings.lease_seconds,
    )


def _statistics(context: Context, stage: str, worker: str) -> schemas.Statistics:
    known = context.project.outcomes
    mine = schemas.Summary.model_validate(known.statistics(stage, worker=worker).summary())
    return schemas.Statistics(mine=mine, all=schemas.Summary.model_validate(known.statistics(stage).summary()))


def _stored(lease: schemas.Lease, person: str | None) -> Lease:
    if person not in (None, lease.worker):
        raise ApiError(403, f"the image was given to {lease.worker}, and you are {person}")
    return Lease(
        job_id=lease.job,
        kind=lease.stage,
        image_id=int(lease.image),
        worker=lease.worker,
        token=lease.token,
        attempt=0,  # of no matter to a person's
        copy=int(lease.is_second),
    )


def _spent(done: schemas.FinishRequest | schemas.JudgedRequest) -> Outcome:
    return Outcome(seconds=done.seconds, clicks=done.clicks, strokes=done.strokes)


def _finished(context: Context, lease: schemas.Lease, counted: bool) -> schemas.Finished:
    _told(context)
    return schemas.Finished(counted=counted, statistics=_statistics(context, lease.stage, lease.worker))


@contextmanager
def _kept() -> Iterator[None]:
    """Answer a person whose image belongs to another by now."""
    try:
        yield
    except LeaseLost as error:
        raise ApiError(409, f"{error}; the masks that were saved stay on it") from error


def _told(context: Context) -> None:
    context.events.publish(schemas.WorkEvent())
