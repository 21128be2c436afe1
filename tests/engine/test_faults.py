"""Workers killed, databases gone, disks full, leases lost: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, text

from anymask.engine import pool
from anymask.engine.pool import PoolError, Work, put, run_pool
from anymask.engine.status import status
from anymask.engine.store import (
    Annotation,
    Change,
    DatabaseUnavailable,
    NewJob,
    Outcome,
    Project,
    Put,
    StoredImage,
    open_project,
    retry,
)
from anymask.geometry import rle

Add = Callable[..., list[int]]


def mask() -> rle.RLE:
    made = np.zeros((48, 64), bool)
    made[:5, :5] = True
    return rle.encode(made)


@dataclass(frozen=True)
class Squares:
    """Two masks per image, after a moment; images of `poison` kill the worker, those of `broken` raise."""

    moment: float = 0.0
    poison: tuple[int, ...] = ()
    broken: tuple[int, ...] = ()

    def open(self, project: Project) -> Work:
        def work(image: StoredImage) -> tuple[Outcome, Sequence[Change]]:
            time.sleep(self.moment)
            if image.id in self.poison:
                os.kill(os.getpid(), signal.SIGKILL)
            if image.id in self.broken:
                raise ValueError("this image is broken")
            changes = [Put(annotation=Annotation(id=f"auto-{n}", rle=mask())) for n in range(2)]
            return Outcome(added=2), changes

        return work


def check_each_once(project: Project, images: Sequence[int]) -> None:
    for image in images:
        state = project.annotations.state(image)
        assert (state.revision, len(state.annotations)) == (1, 2), image
    found = project.outcomes.statistics("automatic")
    assert (found.images, found.added) == (len(images), 2 * len(images))


def test_workers_killed_fifty_times_do_each_image_once(project: Project, add_images: Add) -> None:
    images = add_images(project, 60)
    project.jobs.add("automatic", [NewJob(image_id=image) for image in images])
    alive: list[int] = []
    killed = 0
    over = threading.Event()
    rng = random.Random(0)

    def kill() -> None:
        nonlocal killed
        while not over.wait(rng.uniform(0.02, 0.15)) and killed < 50:
            for pid in alive[-2:]:
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                    break
                except ProcessLookupError:
                    continue

    killer = threading.Thread(target=kill)
    killer.start()
    rounds = 0
    while killed < 50 or not project.jobs.is_over("automatic"):
        rounds += 1
        assert rounds < 50
        try:
            done = run_pool(project, "automatic", Squares(moment=0.03), workers=2, on_start=alive.append)
        except PoolError:  # all of them killed before they came to do anything; the operator begins again
            continue
        if done.quarantined:  # by so many kills; the operator gives them another chance
            project.jobs.reopen("automatic")
        elif killed < 50:  # faster than the killer: more to do
            more = add_images_again(project, len(images))
            images += more
    over.set()
    killer.join()
    assert killed == 50
    check_each_once(project, images)


def add_images_again(project: Project, start: int) -> list[int]:
    from anymask.engine.store import NewImage

    new = [NewImage(name=f"m{n}", location=f"images/m{n}", size=(48, 64)) for n in range(start, start + 20)]
    ids = [image.id for image in project.images.add(new)]
    project.jobs.add("automatic", [NewJob(image_id=image) for image in ids])
    return ids


def test_an_image_that_kills_or_fails_is_put_aside_and_named(sqlite_project: Project, add_images: Add) -> None:
    project = sqlite_project
    images = add_images(project, 5)
    project.jobs.add("automatic", [NewJob(image_id=image) for image in images])
    task = Squares(poison=(images[1],), broken=(images[3],))
    done = run_pool(project, "automatic", task, workers=2)
    assert (done.done, done.quarantined, done.left) == (3, 2, 0)
    named = {each["image"]: (each["tries"], each["reason"]) for each in status(project)["quarantined"]}
    assert named == {
        "any-001.png": (3, "its worker died or hung each time"),
        "any-003.png": (3, "ValueError: this image is broken"),
    }
    check_each_once(project, [images[0], images[2], images[4]])


@dataclass(frozen=True)
class Unloadable:
    """A model that kills whoever loads it."""

    def open(self, project: Project) -> Work:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@pytest.mark.parametrize(("task", "quarantined"), [(Unloadable(), 0), (Squares(poison=tuple(range(1, 9))), 2)])
def test_where_workers_only_die_the_pool_gives_up_and_the_queue_stays(
    sqlite_project: Project, add_images: Add, monkeypatch: pytest.MonkeyPatch, task: Any, quarantined: int
) -> None:
    """After 7 deaths: of a worker that loads a model, which is no image's fault, or of 3 on each image."""
    project = sqlite_project
    monkeypatch.setattr(pool, "_DEATHS", 6)
    project.jobs.add("automatic", [NewJob(image_id=image) for image in add_images(project, 8)])
    with pytest.raises(PoolError, match="7 workers died"):
        run_pool(project, "automatic", task, workers=1)
    assert len(project.jobs.in_state("quarantined")) == quarantined
    if not quarantined:
        assert {job.attempts for job in project.jobs.in_state("open")} == {0}
        assert run_pool(project, "automatic", Squares(), workers=1).done == 8


def test_two_annotators_on_one_image_lose_nothing(project: Project, add_images: Add) -> None:
    (image,) = add_images(project, 1)

    def draw(name: str) -> None:
        for number in range(10):
            put(project, image, name, [Put(annotation=Annotation(id=f"{name}-{number}", rle=mask()))])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(draw, ["ann", "bob"]))
    state = project.annotations.state(image)
    assert state.revision == 20
    assert Counter(each.id.split("-")[0] for each in state.annotations) == {"ann": 10, "bob": 10}


def test_what_is_lost_with_a_lease_is_only_the_job(project: Project, add_images: Add) -> None:
    (image,) = add_images(project, 1)
    project.jobs.add("assisted", [NewJob(image_id=image)])
    slow = project.jobs.lease("assisted", "slow", seconds=0.01, tries=None)
    assert slow is not None
    put(project, image, "slow", [Put(annotation=Annotation(id="slow-1", rle=mask()))])
    time.sleep(0.1)
    fast = project.jobs.lease("assisted", "fast", seconds=60, tries=None)
    assert fast is not None
    put(project, image, "slow", [Put(annotation=Annotation(id="slow-2", rle=mask()))])  # still at work
    project.jobs.finish(fast, Outcome())
    assert {each.id for each in project.annotations.state(image).annotations} == {"slow-1", "slow-2"}


def test_a_database_that_is_gone_for_ten_seconds_is_waited_for(cluster: Any, tmp_path: Path, add_images: Add) -> None:
    url = cluster.fresh()
    with open_project(tmp_path / "p", url=url, exclusive=False) as project:
        (image,) = add_images(project, 1)
        acknowledged = []

        def draw() -> None:
            for number in range(40):
                put(project, image, "ann", [Put(annotation=Annotation(id=f"a{number}", rle=mask()))])
                acknowledged.append(number)
                time.sleep(0.05)

        worker = threading.Thread(target=draw)
        worker.start()
        time.sleep(0.5)
        cluster.stop()
        try:
            with pytest.raises(DatabaseUnavailable):
                project.annotations.state(image)
            time.sleep(10)
            before = len(acknowledged)
        finally:
            cluster.start()
        worker.join(60)
        assert 0 < before < 40 and acknowledged == list(range(40))
        state = project.annotations.state(image)
        assert [each.id for each in state.annotations] == [f"a{number}" for number in range(40)]


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(100))
    calls = []

    def fail() -> None:
        calls.append(1)
        raise DatabaseUnavailable("gone")

    with pytest.raises(DatabaseUnavailable):
        retry(fail, seconds=5, sleep=lambda _: None, clock=lambda: float(next(times)))
    assert 2 <= len(calls) <= 7


def test_a_full_disk_loses_the_result_and_nothing_else(sqlite_project: Project, add_images: Add) -> None:
    project = sqlite_project
    (image,) = add_images(project, 1)
    project.jobs.add("k", [NewJob(image_id=image)])
    lease = project.jobs.lease("k", "w", seconds=60)
    assert lease is not None
    changes = [Put(annotation=Annotation(id=f"a{n}", rle=mask(), name="x" * 1000)) for n in range(200)]

    @event.listens_for(project.database._engine, "begin")
    def limit(connection: Any) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")

    with pytest.raises(DatabaseUnavailable, match="full"):
        project.jobs.finish(lease, Outcome(), changes)
    event.remove(project.database._engine, "begin", limit)
    assert project.annotations.state(image).revision == 0

    @event.listens_for(project.database._engine, "begin")
    def widen(connection: Any) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")

    assert project.jobs.finish(lease, Outcome(), changes)
    assert len(project.annotations.state(image).annotations) == 200


_SERVER = """
import sys, time
from anymask.engine.store import Annotation, Put, open_project
with open_project(sys.argv[1], exclusive=False) as project:
    for number in range(1000):
        annotation = Annotation(id=f"a{number}", rle={"size": [48, 64], "counts": sys.argv[2]})
        project.annotations.change(1, number, "me", [Put(annotation=annotation)])
        print(number, flush=True)
"""


def test_what_was_acknowledged_outlives_a_process_killed_right_after(project: Project, add_images: Add) -> None:
    add_images(project, 1)
    command = [sys.executable, "-c", _SERVER, str(project.folder), mask()["counts"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        last = -1
        for line in server.stdout:
            last = int(line)
            if last == 12:
                server.kill()
                break
    state = project.annotations.state(1)
    assert state.revision >= 13 and [each.id for each in state.annotations] == [f"a{n}" for n in range(state.revision)]
    with project.database.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM annotation_versions")) == state.revision


def test_a_run_that_was_killed_goes_on(sqlite_project: Project, add_images: Add) -> None:
    project = sqlite_project
    images = add_images(project, 6)
    project.jobs.add("automatic", [NewJob(image_id=image) for image in images])
    lease = project.jobs.lease("automatic", "killed", seconds=0.01)
    assert lease is not None
    time.sleep(0.05)
    done = run_pool(project, "automatic", Squares(), workers=0)
    assert done.done == 6
    check_each_once(project, images)
    again = run_pool(project, "automatic", Squares(), workers=0)
    assert (again.done, again.done_before) == (6, 6)
