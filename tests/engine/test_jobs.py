from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from anymask.engine.store import Annotation, LeaseLost, NewJob, Outcome, Project, Put
from anymask.geometry import rle
from anymask.geometry.rle import RLE

Add = Callable[..., list[int]]


def mask(side: int = 5) -> RLE:
    import numpy as np

    made = np.zeros((48, 64), bool)
    made[:side, :side] = True
    return rle.encode(made)


def queue(project: Project, images: list[int], kind: str = "k") -> int:
    return project.jobs.add(kind, [NewJob(image_id=image) for image in images])


def test_a_job_of_an_image_is_there_once(project: Project, add_images: Add) -> None:
    images = add_images(project, 3)
    assert queue(project, images) == 3
    assert queue(project, images) == 0
    assert project.jobs.add("k", [NewJob(image_id=images[0], copy=1)]) == 1
    assert project.jobs.counts() == {"k": {"open": 4}}


def test_jobs_go_by_rank_and_each_to_one_worker(project: Project, add_images: Add) -> None:
    images = add_images(project, 20)
    project.jobs.add("k", [NewJob(image_id=image, rank=-image) for image in images])
    assert project.jobs.next_images("k", 2) == images[::-1][:2]

    def take(number: int) -> list[int]:
        mine = []
        while (lease := project.jobs.lease("k", f"w{number}", seconds=60)) is not None:
            mine.append(lease.image_id)
        return mine

    with ThreadPoolExecutor(6) as pool:
        taken = [image for each in pool.map(take, range(6)) for image in each]
    assert sorted(taken) == images


def test_finishing_counts_once_and_carries_the_changes(project: Project, add_images: Add) -> None:
    (image,) = add_images(project, 1)
    queue(project, [image])
    lease = project.jobs.lease("k", "w", seconds=60)
    assert lease is not None and lease.attempt == 1
    changes = [Put(annotation=Annotation(id="a", rle=mask()))]
    assert project.jobs.finish(lease, Outcome(seconds=2, clicks=3, added=1), changes)
    assert not project.jobs.finish(lease, Outcome(seconds=2, clicks=3, added=1), changes)  # its answer was lost
    assert project.annotations.state(image).revision == 1
    found = project.outcomes.statistics("k")
    assert (found.images, found.masks, found.clicks, found.added) == (1, 1, 3, 1)
    assert project.jobs.lease("k", "w", seconds=60) is None
    assert project.jobs.is_over("k")


def test_a_lease_that_expired_is_good_until_another_takes_the_job(project: Project, add_images: Add) -> None:
    (image,) = add_images(project, 1)
    queue(project, [image])
    first = project.jobs.lease("k", "slow", seconds=0.05)
    assert first is not None
    time.sleep(0.15)
    assert project.jobs.renew(first, seconds=0.05)  # nobody took it meanwhile
    time.sleep(0.15)
    second = project.jobs.lease("k", "fast", seconds=60)
    assert second is not None and second.attempt == 2
    assert not project.jobs.renew(first, seconds=60)
    with pytest.raises(LeaseLost, match="fast's"):
        project.jobs.finish(first, Outcome(), [Put(annotation=Annotation(id="late", rle=mask()))])
    assert project.annotations.state(image).annotations == ()
    assert project.jobs.finish(second, Outcome(), [Put(annotation=Annotation(id="a", rle=mask()))])
    with pytest.raises(LeaseLost, match="done"):
        project.jobs.finish(first, Outcome())


def test_after_three_tries_a_job_is_put_aside_with_its_reason(project: Project, add_images: Add) -> None:
    poisoned, sound = add_images(project, 2)
    queue(project, [poisoned, sound])
    states = []
    for _ in range(3):
        lease = project.jobs.lease("k", "w", seconds=60)
        assert lease is not None and lease.image_id == poisoned
        states.append(project.jobs.fail(lease, "it is broken"))
    assert states == ["open", "open", "quarantined"]
    lease = project.jobs.lease("k", "w", seconds=60)
    assert lease is not None and lease.image_id == sound
    (aside,) = project.jobs.in_state("quarantined")
    assert (aside.image_id, aside.attempts, aside.reason) == (poisoned, 3, "it is broken")
    assert project.jobs.reopen("k") == 1


def test_a_worker_that_only_dies_is_put_aside_too_but_people_may_go_for_lunch(
    project: Project, add_images: Add
) -> None:
    (image,) = add_images(project, 1)
    queue(project, [image])
    queue(project, [image], "people")
    for number in range(3):
        assert project.jobs.lease("k", f"w{number}", seconds=60) is not None
        assert project.jobs.abandon(f"w{number}") == 1
    assert project.jobs.lease("k", "w", seconds=60) is None
    assert [job.reason for job in project.jobs.in_state("quarantined")] == ["its worker died or hung each time"]
    for number in range(5):
        assert project.jobs.lease("people", f"p{number}", seconds=60, tries=None) is not None
        project.jobs.abandon(f"p{number}")


def test_nobody_gets_both_copies_of_an_image(project: Project, add_images: Add) -> None:
    (image,) = add_images(project, 1)
    project.jobs.add("k", [NewJob(image_id=image), NewJob(image_id=image, copy=1)])
    first = project.jobs.lease("k", "ann", seconds=60)
    assert first is not None and first.copy == 0
    project.jobs.finish(first, Outcome())
    assert project.jobs.lease("k", "ann", seconds=60) is None
    second = project.jobs.lease("k", "bob", seconds=60)
    assert second is not None and second.copy == 1


def test_skipping_and_giving_back(project: Project, add_images: Add) -> None:
    images = add_images(project, 2)
    queue(project, images)
    lease = project.jobs.lease("k", "w", seconds=60)
    assert lease is not None
    project.jobs.skip(lease, "blurred")
    with pytest.raises(LeaseLost):
        project.jobs.skip(lease, "again")
    assert [(job.image_id, job.reason) for job in project.jobs.in_state("skipped")] == [(images[0], "blurred")]
    lease = project.jobs.lease("k", "w", seconds=60)
    assert lease is not None
    project.jobs.give_back(lease)
    lease = project.jobs.lease("k", "w", seconds=60)
    assert lease is not None and lease.attempt == 1


@pytest.mark.parametrize("skew", [-7200.0, 7200.0])
def test_clocks_of_workers_do_not_matter(
    project: Project, add_images: Add, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    (image,) = add_images(project, 1)
    queue(project, [image])
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew)
    lease = project.jobs.lease("k", "skewed", seconds=60)
    assert lease is not None
    monkeypatch.setattr(time, "time", real)
    assert project.jobs.lease("k", "other", seconds=60) is None  # it has not expired
    project.annotations.change(image, 0, "w", [Put(annotation=Annotation(id="a", rle=mask()))])
    assert abs(project.annotations.versions(image)[0].at - real()) < 60
