from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sqlalchemy import func, select, text

from anymask.engine.stages import ASSISTED, AUTOMATIC
from anymask.engine.status import due, status
from anymask.engine.store import (
    Annotation,
    Delete,
    NewJob,
    Outcome,
    Project,
    Provenance,
    Put,
    open_project,
)
from anymask.engine.store.counting import PEOPLES_MASKS, fold, total
from anymask.engine.store.tables import images, jobs, outcome_sums, outcomes, tallies
from anymask.geometry import rle

Add = Callable[..., list[int]]
MASK = rle.encode(np.ones((48, 64), bool))


def put(key: str, author: str) -> Put:
    stage = AUTOMATIC if author == "model" else ASSISTED
    return Put(annotation=Annotation(id=key, rle=MASK, provenance=Provenance(stage=stage, author=author)))


def live(project: Project, add_images: Add) -> None:
    """Let a project live through all that jobs and images can come to."""
    add_images(project, 12)
    project.jobs.add(ASSISTED, [NewJob(image_id=each, rank=each) for each in range(1, 13)])
    project.jobs.add(ASSISTED, [NewJob(image_id=1)])  # there already
    project.jobs.add(AUTOMATIC, [NewJob(image_id=each) for each in range(1, 5)])
    for number in range(8):
        lease = project.jobs.lease(ASSISTED, ("ann", "bea")[number % 2], seconds=60)
        assert lease is not None
        match number:
            case 5:
                project.jobs.skip(lease, "blurred")
            case 6:
                project.jobs.give_back(lease)
            case 7:
                for _ in range(2):
                    project.jobs.fail(lease, "broken", tries=1)
            case _:
                made = [put(f"m{number}-{index}", "ann") for index in range(number)]
                project.jobs.finish(lease, Outcome(seconds=2.5, added=number, clicks=3), made)
    lease = project.jobs.lease(AUTOMATIC, "pool", seconds=60)
    assert lease is not None
    project.jobs.finish(lease, Outcome(seconds=1, added=1), [put("auto", "model")], by_person=False)
    project.annotations.change(5, project.annotations.state(5).revision, "ann", [Delete(id="m4-0")])
    project.jobs.lease(ASSISTED, "cleo", seconds=60)


def summed(project: Project) -> dict[str, object]:
    """Count everything by sums over all rows."""
    with project.database.reading() as connection:
        by_state = select(jobs.c.kind, jobs.c.state, func.count()).group_by(jobs.c.kind, jobs.c.state)
        queues: dict[str, dict[str, int]] = {}
        for kind, state, number in connection.execute(by_state):
            queues.setdefault(kind, {})[state] = number
        done = outcomes.join(jobs, jobs.c.id == outcomes.c.job_id)
        people = select(outcomes.c.worker, func.count(), func.sum(outcomes.c.added), func.sum(outcomes.c.seconds))
        found = connection.execute(
            people.select_from(done)
            .where(jobs.c.kind == ASSISTED)
            .group_by(outcomes.c.worker)
            .order_by(outcomes.c.worker)
        )
        return {
            "queues": queues,
            "people": [(row[0], row[1], row[2], float(row[3])) for row in found],
            "images": connection.scalar(select(func.count()).select_from(images)),
            "masks": int(connection.scalar(select(func.sum(images.c.num_annotations))) or 0),
            "peoples": connection.scalar(
                text("SELECT count(*) FROM annotation_versions WHERE NOT deleted AND stage <> 'automatic'")
            ),
        }


def counted(project: Project) -> dict[str, object]:
    with project.database.reading() as connection:
        totals = {name: total(connection, name) for name in ("images", "masks", PEOPLES_MASKS)}
    return {
        "queues": project.jobs.counts(),
        "people": [
            (name, each.images, each.added, each.seconds) for name, each in project.outcomes.people(ASSISTED).items()
        ],
        "images": totals["images"],
        "masks": totals["masks"],
        "peoples": totals[PEOPLES_MASKS],
    }


def test_counts_are_the_sums(project: Project, add_images: Add) -> None:
    live(project, add_images)
    assert counted(project) == summed(project)
    assert project.jobs.reopen(ASSISTED) == 2
    assert counted(project) == summed(project)
    seen = status(project)
    assert (seen["images"], seen["masks"]) == (summed(project)["images"], summed(project)["masks"])
    assert seen["stages"][ASSISTED]["added"] == seen["last_hour"][ASSISTED]["added"] == 10
    assert sum(each["images"] for each in seen["history"]["moments"]) == 6


def test_folding_changes_no_count(project: Project, add_images: Add) -> None:
    live(project, add_images)
    before = counted(project)
    with project.database.writing() as connection:
        fold(connection)
    assert counted(project) == before
    with project.database.reading() as connection:
        for table, keys in ((tallies, ("kind", "name")), (outcome_sums, ("kind", "width", "stretch", "worker"))):
            number = connection.scalar(select(func.count()).select_from(table))
            distinct = select(*(table.c[key] for key in keys)).distinct().subquery()
            assert number == connection.scalar(select(func.count()).select_from(distinct))


def test_a_change_that_fails_counts_nothing(project: Project, add_images: Add) -> None:
    add_images(project, 2)
    project.jobs.add(ASSISTED, [NewJob(image_id=1)])
    before = counted(project)
    with pytest.raises(ZeroDivisionError), project.database.writing() as connection:
        connection.execute(text("UPDATE jobs SET state = 'done'"))
        connection.execute(text("UPDATE images SET num_annotations = 7"))
        raise ZeroDivisionError
    assert counted(project) == before == summed(project)


def test_an_older_project_is_counted_when_it_is_opened(
    project: Project, add_images: Add, make_older: Callable[..., None]
) -> None:
    live(project, add_images)
    was = {**counted(project), "hour": project.outcomes.statistics(ASSISTED, since=0).added}
    with project.database.writing() as connection:
        make_older(connection, "0003")
    with open_project(project.folder, exclusive=False) as again:
        assert {**counted(again), "hour": again.outcomes.statistics(ASSISTED, since=0).added} == was
        assert counted(again) == summed(again)
        lease = again.jobs.lease(AUTOMATIC, "pool", seconds=60)
        assert lease is not None
        assert counted(again) == summed(again)


def test_a_time_within_a_minute_is_counted_exactly(project: Project, add_images: Add) -> None:
    add_images(project, 4)
    project.jobs.add(ASSISTED, [NewJob(image_id=each) for each in range(1, 5)])
    for _ in range(4):
        lease = project.jobs.lease(ASSISTED, "ann", seconds=60)
        assert lease is not None
        project.jobs.finish(lease, Outcome(added=1))
    times = [at for at, _ in project.outcomes.history(ASSISTED)]
    for at in (*times, times[-1] + 1e-6, times[0] - 3000):
        assert project.outcomes.statistics(ASSISTED, since=at).added == sum(each >= at for each in times)


def test_a_model_is_due_after_so_many_masks_since_the_last(project: Project, add_images: Add) -> None:
    (image,) = add_images(project, 1)
    project.settings.replace(project.settings.current().replace({"retrain_masks": 3}))

    def add(model: str) -> None:
        project.models.add(
            hash=model, path="p", parent=None, trigger="t", num_masks=0, scores={}, verdict="promoted", promote=True
        )

    add("a" * 16)
    project.annotations.change(image, 0, "ann", [put("a", "ann"), put("b", "ann"), put("c", "model")])
    assert due(project) is None
    project.annotations.change(image, 1, "ann", [put("a", "ann")])
    assert due(project) == "3 masks since the last model"
    add("b" * 16)
    assert due(project) is None
