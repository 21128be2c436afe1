"""A pool of worker processes on one queue: each image done once, whatever is killed.

Workers share nothing but the project's database. One that dies is replaced, and its image goes back to the queue; an
image that kills its workers is put in quarantine after its last try. Where nothing gets done the pool gives up.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from anymask.engine.pictures import chance
from anymask.engine.store import (
    Change,
    Conflict,
    DatabaseUnavailable,
    Lease,
    LeaseLost,
    MachineVerdict,
    NewJob,
    Outcome,
    Project,
    StoredImage,
    open_project,
    retry,
)
from anymask.errors import AnymaskError
from anymask.threads import use_one_thread

_LOG = logging.getLogger(__name__)

_IDLE_SECONDS = 0.2
_LOOK_SECONDS = 0.1
_DEATHS = 20
"""The most workers that may die per place in the pool without a single image done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What a verifier said of an image's masks as of a revision, where its changes hold alone."""

    revision: int
    given: Sequence[MachineVerdict]


Work = Callable[[StoredImage], tuple[Outcome, Sequence[Change]] | tuple[Outcome, Sequence[Change], Verdicts]]
"""Makes an image's result: what it took, the changes to its annotations, and of a verifier its verdicts."""


class WorkerTask(Protocol):
    """What workers do; it is sent to them, and then opens what is heavy, such as a model."""

    def open(self, project: Project) -> Work:
        """Prepare, in the worker."""
        ...


class PoolError(AnymaskError):
    """Workers die one after another, and no image is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolProgress:
    """How far a queue is."""

    done: int
    quarantined: int
    left: int
    masks: int
    """Masks added by this run and earlier ones."""
    seconds: float
    """Wall time of this run."""
    done_before: int
    """Images that earlier runs finished."""

    @property
    def images_per_second(self) -> float:
        """Images per second of this run."""
        return (self.done - self.done_before) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate; None before the first image."""
        rate = self.images_per_second
        return self.left / rate if rate else None


def run_pool(
    project: Project,
    kind: str,
    task: WorkerTask,
    *,
    workers: int = 1,
    lease_seconds: float | None = None,
    progress: Callable[[PoolProgress], None] | None = None,
    on_start: Callable[[int], None] | None = None,
) -> PoolProgress:
    """Work through a queue with so many processes until nothing is open or leased; with 0, in this one.

    `on_start` is called with each worker's process id. Raises PoolError where workers only die.
    """
    seconds = lease_seconds or project.settings.current().worker_seconds
    watch = _Watch(project, kind)
    if workers == 0:
        work_through(project, kind, task, f"{os.uname().nodename}-{os.getpid()}", seconds=seconds)
        return watch.progress()
    context = _context()
    stop = context.Event()
    pool = _WorkerPool(context, (project.folder, kind, task, seconds, stop), on_start or (lambda _: None))
    try:
        for _ in range(workers):
            pool.spawn()
        while True:
            time.sleep(_LOOK_SECONDS)
            for worker in pool.reap():
                retry(lambda worker=worker: project.jobs.abandon(worker))  # type: ignore[misc]
            seen = retry(watch.progress)
            if progress is not None:
                progress(seen)
            if not seen.left:
                return seen
            pool.fill(workers, seen.done)
    finally:
        stop.set()
        pool.wait()


class _Watch:
    """How far the queue is, and how fast it goes."""

    def __init__(self, project: Project, kind: str) -> None:
        self._project, self._kind = project, kind
        self._began = time.monotonic()
        self._before = self._counts().get("done", 0)

    def _counts(self) -> dict[str, int]:
        return self._project.jobs.counts(self._kind).get(self._kind, {})

    def progress(self) -> PoolProgress:
        counts = self._counts()
        return PoolProgress(
            done=counts.get("done", 0),
            quarantined=counts.get("quarantined", 0),
            left=counts.get("open", 0) + counts.get("leased", 0),
            masks=self._project.outcomes.statistics(self._kind).added,
            seconds=time.monotonic() - self._began,
            done_before=self._before,
        )


class _WorkerPool:
    """The processes."""

    def __init__(
        self, context: ForkServerContext | SpawnContext, arguments: tuple[object, ...], on_start: Callable[[int], None]
    ) -> None:
        self._context, self._arguments, self._on_start = context, arguments, on_start
        self._processes: dict[str, BaseProcess] = {}
        self._deaths = 0
        self._done = 0

    def spawn(self) -> None:
        name = f"{os.uname().nodename}-{uuid.uuid4().hex[:8]}"
        process = self._context.Process(target=_worker, args=(name, *self._arguments), daemon=True)
        process.start()
        assert process.pid is not None
        self._on_start(process.pid)
        self._processes[name] = process

    def reap(self) -> list[str]:
        """Return the names of those that ended, however they did."""
        ended = [name for name, process in self._processes.items() if not process.is_alive()]
        for name in ended:
            code = self._processes.pop(name).exitcode
            if code:
                _LOG.warning("worker %s died with status %s", name, code)
                self._deaths += 1
        return ended

    def fill(self, places: int, done: int) -> None:
        """Replace workers that ended; raises PoolError where that has not helped: only a further finished image
        counts.
        """
        if done != self._done:
            self._done, self._deaths = done, 0
        if self._deaths > _DEATHS * places:
            raise PoolError(f"{self._deaths} workers died one after the other, and no image was done meanwhile")
        while len(self._processes) < places:
            self.spawn()

    def wait(self) -> None:
        for process in self._processes.values():
            process.join(10)
            if process.is_alive():
                process.terminate()
                process.join()


def _context() -> ForkServerContext | SpawnContext:
    """Return a context whose processes are forked from a clean one that has the packages, where that can be."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["anymask.engine.pool", "anymask.inference", "anymask.engine.store"])
    return context


class _Stop(Protocol):
    def is_set(self) -> bool: ...


def _worker(name: str, folder: Path, kind: str, task: WorkerTask, seconds: float, stop: _Stop) -> None:
    """Be a worker until the queue is empty, it is stopped, or the parent process is gone."""
    use_one_thread()
    parent = multiprocessing.parent_process()

    def stopped() -> bool:
        return stop.is_set() or (parent is not None and not parent.is_alive())

    with open_project(folder, exclusive=False, create=False) as project:
        work_through(project, kind, task, name, seconds=seconds, stopped=stopped)


def work_through(
    project: Project,
    kind: str,
    task: WorkerTask,
    worker: str,
    *,
    seconds: float,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Do one job of a queue after the other, until none is open or leased."""
    if retry(lambda: project.jobs.is_over(kind)):
        return
    work = task.open(project)  # before any lease: it costs no image a try that this fails
    while not stopped():
        lease = retry(lambda: project.jobs.lease(kind, worker, seconds=seconds))
        if lease is not None:
            _do(project, lease, work, seconds)
        elif retry(lambda: project.jobs.is_over(kind)):
            return
        else:
            time.sleep(_IDLE_SECONDS)  # another worker may die yet


def _do(project: Project, lease: Lease, work: Work, seconds: float) -> None:
    """Do one job; whatever goes wrong with it stays with that job."""
    try:
        image = retry(lambda: project.images.get(lease.image_id))
        assert image is not None  # the jobs' foreign key
        with _heartbeat(project, lease, seconds):
            outcome, changes, *said = work(image)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        _LOG.warning("image %s, try %s: %s", lease.image_id, lease.attempt, reason)
        retry(lambda: project.jobs.fail(lease, reason))
        return
    try:
        verdicts, revision = (said[0].given, said[0].revision) if said else ((), None)
        finish = project.jobs.finish
        retry(lambda: finish(lease, outcome, changes, verdicts=verdicts, by_person=False, revision=revision))
    except Conflict as error:  # a person was there meanwhile: it is judged again
        retry(lambda error=error: project.jobs.fail(lease, str(error)))  # type: ignore[misc]
    except LeaseLost as error:
        _LOG.warning("%s", error)


@contextmanager
def _heartbeat(project: Project, lease: Lease, seconds: float) -> Iterator[None]:
    """Renew the lease three times in its length, meanwhile."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(seconds / 3):
            try:
                if not project.jobs.renew(lease, seconds=seconds):
                    return
            except DatabaseUnavailable:
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


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
