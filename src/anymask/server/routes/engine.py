"""The data engine's queues for people, and its state for the dashboard; a plain project has neither."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends

from anymask.engine import status as project_status
from anymask.engine.quality import review_report
from anymask.engine.store import Lease, LeaseLost, Outcome
from anymask.server import schemas, tasks
from anymask.server.bench import AtBench, Bench, Person
from anymask.server.bodies import JsonRoute
from anymask.server.refusals import Refused
from anymask.server.schemas.engine import Queue, Stage

_LOST: dict[int | str, dict[str, Any]] = {409: {"model": schemas.Error, "description": "the image is another's by now"}}

_CHANGED: dict[int | str, dict[str, Any]] = {
    412: {"model": schemas.Error, "description": "masks were changed since the revision that was judged"}
}


def _of_engine(bench: AtBench) -> Bench:
    if not bench.is_engine:
        raise Refused(404, "this project has no data engine; `anymask engine init` makes one that has")
    return bench


Engine = Annotated[Bench, Depends(_of_engine)]
router = APIRouter(route_class=JsonRoute, prefix="/engine")


@router.get("/work")
def work(bench: Engine) -> schemas.Work:
    """Return what there is to do for people; the images at the queue's head are got ready."""
    found = _work(bench)
    tasks.prepare(bench, found.suggested)
    return found


@router.post("/next")
def next_image(bench: Engine, wanted: schemas.NextRequest, person: Person) -> schemas.Next:
    """Give a person the next image of a queue; it is that person's until somebody else gets it, at the earliest
    after `lease_seconds` without a sign of life. Where people have tokens of their own the name is the token's.
    """
    worker = person or wanted.worker
    if worker == tasks.MODEL:
        raise Refused(422, 'worker: "model" is not a person\'s name; choose another')
    found = tasks.take(bench, wanted.stage, worker)
    if found is None:
        return schemas.Next(task=None, work=_work(bench))
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
        image=bench.encoding.describe(image),
        statistics=_statistics(bench, lease.kind, lease.worker),
    )
    _told(bench)
    return schemas.Next(task=task, work=_work(bench))


@router.post("/renew")
def renew(bench: Engine, lease: schemas.Lease, person: Person) -> schemas.Held:
    """Say that one is still at work on an image."""
    seconds = bench.project.settings.current().lease_seconds
    return schemas.Held(held=bench.project.jobs.renew(_stored(lease, person), seconds=seconds))


@router.post("/finish", responses=_LOST)
def finish(bench: Engine, done: schemas.FinishRequest, person: Person) -> schemas.Finished:
    """Say that an image is done; said twice, it counts once."""
    with _kept():
        second = [mask.stored() for mask in done.masks]
        counted = tasks.finish(bench, _stored(done.lease, person), _spent(done), second=second)
    return _finished(bench, done.lease, counted)


@router.post("/judge", responses=_LOST | _CHANGED)
def judge(bench: Engine, done: schemas.JudgedRequest, person: Person) -> schemas.Finished:
    """Say a word on every mask of an image in a review or a check, and that it is done; said twice, it counts once."""
    judgements = [each.stored() for each in done.judgements]
    added = [each.stored() for each in done.added]
    lease = _stored(done.lease, person)
    with _kept():
        counted = tasks.finish_judged(bench, lease, _spent(done), judgements, revision=done.revision, added=added)
    revision = bench.project.annotations.state(lease.image_id).revision
    bench.events.publish(schemas.AnnotationsEvent(id=done.lease.image, revision=revision, client=lease.kind))
    return _finished(bench, done.lease, counted)


@router.post("/skip", responses=_LOST)
def skip(bench: Engine, wanted: schemas.SkipRequest, person: Person) -> schemas.Work:
    """Take an image out of its queue, for a reason."""
    with _kept():
        bench.project.jobs.skip(tasks.checked(bench.project, _stored(wanted.lease, person)), wanted.reason)
    _told(bench)
    return _work(bench)


@router.post("/give-back", responses=_LOST)
def give_back(bench: Engine, lease: schemas.Lease, person: Person) -> schemas.Work:
    """Leave an image to others, as one does who goes home."""
    with _kept():
        bench.project.jobs.give_back(tasks.checked(bench.project, _stored(lease, person)))
    _told(bench)
    return _work(bench)


@router.get("/status")
def status(bench: Engine) -> schemas.Status:
    """Return where the project stands: queues, statistics, people, models, what was set aside."""
    found = project_status.status(bench.project)
    quality = {**found["quality"], "review": asdict(review_report(bench.project))}
    here = {"project": bench.project.name, "quality": quality, "serving": bench.model_hash}
    return schemas.Status.model_validate({**found, **here})


def _work(bench: Bench) -> schemas.Work:
    counts = bench.project.jobs.counts()
    settings = bench.project.settings.current()
    return schemas.Work(
        queues={kind: Queue(**counts.get(kind, {})) for kind in get_args(Stage)},
        suggested=tasks.suggested_stage(bench.project),  # type: ignore[arg-type]
        mask_seconds=settings.mask_seconds,
        image_seconds=settings.image_seconds,
        asks_classes=settings.asks_classes,
        lease_seconds=settings.lease_seconds,
    )


def _statistics(bench: Bench, stage: str, worker: str) -> schemas.Statistics:
    known = bench.project.outcomes
    mine = schemas.Summary.model_validate(known.statistics(stage, worker=worker).summary())
    return schemas.Statistics(mine=mine, all=schemas.Summary.model_validate(known.statistics(stage).summary()))


def _stored(lease: schemas.Lease, person: str | None) -> Lease:
    if person not in (None, lease.worker):
        raise Refused(403, f"the image was given to {lease.worker}, and you are {person}")
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


def _finished(bench: Bench, lease: schemas.Lease, counted: bool) -> schemas.Finished:
    _told(bench)
    return schemas.Finished(counted=counted, statistics=_statistics(bench, lease.stage, lease.worker))


@contextmanager
def _kept() -> Iterator[None]:
    """Answer one whose image is another's by now."""
    try:
        yield
    except LeaseLost as error:
        raise Refused(409, f"{error}; the masks that were saved stay on it") from error


def _told(bench: Bench) -> None:
    bench.events.publish(schemas.WorkEvent())
