"""People's work in a data engine's project: images by the queue, provenance, what came of them, the dashboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from anymask.checkpoints.load import model_hash
from anymask.engine.project_model import set_project_model
from anymask.engine.stages import ASSISTED, SEMI_AUTOMATIC, assisted
from anymask.engine.stages.assisted import SECOND
from anymask.engine.store import Annotation, NewJob, Project, Provenance, Put
from anymask.geometry import rle
from anymask.model import Sam

Answer = dict[str, Any]


@pytest.fixture
def at_work(
    project: Project, smoke_sam: Sam, make_client: Callable[..., TestClient], upload: Callable[..., Any]
) -> TestClient:
    """A client of a data engine's project with three images in the first stage's queue."""
    set_project_model(project, smoke_sam)
    client = make_client()
    for number in range(3):
        upload(client, name=f"{number}.png")
    assisted.open_queue(project)
    return client


def take(client: TestClient, worker: str, stage: str | None = None) -> Answer:
    answer = client.post("/api/engine/next", json={"worker": worker, "stage": stage})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def finish(client: TestClient, task: Answer, **more: Any) -> Any:
    done = {"lease": task["lease"], "seconds": 12.5, "clicks": 3, "strokes": 1, **more}
    return client.post("/api/engine/finish", json=done)


def made_by(worker: str, stage: str = ASSISTED, **more: Any) -> Answer:
    return {"stage": stage, "author": worker, "seconds": 4.0, "clicks": 2, "model": "abc", **more}


def test_two_people_get_two_images_and_the_next_is_encoded(at_work: TestClient, until: Callable[..., Any]) -> None:
    work = at_work.get("/api/engine/work").json()
    assert work["suggested"] == ASSISTED and work["mask_seconds"] == 30 and work["queues"][ASSISTED]["open"] == 3
    assert at_work.get("/api/info").json()["engine"]
    first, second = take(at_work, "Ann"), take(at_work, "Bao")
    assert (first["task"]["image"]["id"], second["task"]["image"]["id"]) == ("1", "2")
    assert second["work"]["queues"][ASSISTED] == {"open": 1, "leased": 2, "done": 0, "skipped": 0, "quarantined": 0}
    for id in ("1", "2", "3"):  # the third is nobody's yet
        until(at_work, id, "ready")
    assert at_work.post("/api/engine/renew", json=first["task"]["lease"]).json() == {"held": True}
    take(at_work, "Ann")
    assert take(at_work, "Bao")["task"] is None


def test_a_finished_image_counts_once_with_what_its_masks_say(
    at_work: TestClient, project: Project, annotation: Any, change: Any, smoke_sam: Sam
) -> None:
    task = take(at_work, "Ann")["task"]
    drawn = annotation("a", provenance=made_by("Ann"), prompts={"points": [[30, 20]], "labels": [1]})
    painted = annotation("b", source="brush", provenance=made_by("Ann", strokes=2))
    assert change(at_work, "1", 0, put=[drawn, painted]).status_code == 200
    told = finish(at_work, task).json()
    assert told["counted"] and told["statistics"]["mine"]["added"] == 2
    assert told["statistics"]["mine"]["seconds_per_mask"] == 6.25 and told["statistics"]["all"]["by_hand"] == 0.5
    assert finish(at_work, task).json()["counted"] is False
    (version,) = project.annotations.versions(1, "a")
    assert version.annotation is not None and version.annotation.provenance is not None
    assert version.annotation.provenance == Provenance(
        stage=ASSISTED, author="Ann", model="abc", seconds=4.0, clicks=2, derived_from=None
    )
    assert [each.model for _, each in project.outcomes.history(ASSISTED)] == [model_hash(smoke_sam)]
    shown = at_work.get("/api/images/1/annotations").json()["annotations"][0]["provenance"]
    assert shown == made_by("Ann", origin="added", strokes=0)


def test_prefilled_masks_are_confirmed_fixed_or_rejected_before_an_image_is_done(
    at_work: TestClient, project: Project, annotation: Any, change: Any
) -> None:
    by_model = Provenance(stage=SEMI_AUTOMATIC, author="model", origin="prefilled")
    keys = ("right", "nearly", "wrong")
    masks = {key: annotation(key)["rle"] for key in keys}
    project.annotations.change(
        1, 0, "model", [Put(annotation=Annotation(id=key, rle=masks[key], provenance=by_model)) for key in keys]
    )
    project.jobs.add(SEMI_AUTOMATIC, [NewJob(image_id=1)])
    task = take(at_work, "Ann")["task"]
    assert task["lease"]["stage"] == SEMI_AUTOMATIC
    refused = finish(at_work, task)
    assert refused.status_code == 422 and "3 of the model's masks" in refused.json()["error"]
    looked = made_by("Ann", SEMI_AUTOMATIC, origin="prefilled")
    smaller = rle.decode(masks["nearly"])
    smaller[10:12] = False
    put = [
        annotation("right", provenance=looked),
        annotation("nearly", smaller, provenance=looked | {"strokes": 1}),
        annotation("new", provenance=made_by("Ann", SEMI_AUTOMATIC)),
    ]
    assert change(at_work, "1", 1, put=put, delete=["wrong"]).status_code == 200
    mine = finish(at_work, task).json()["statistics"]["mine"]
    counts = {name: mine[name] for name in ("prefilled", "confirmed", "fixed", "rejected", "added")}
    assert counts == {"prefilled": 3, "confirmed": 1, "fixed": 1, "rejected": 1, "added": 1}
    assert take(at_work, "Ann")["task"]["lease"]["stage"] == ASSISTED


def test_a_second_persons_masks_are_kept_apart(at_work: TestClient, project: Project, annotation: Any) -> None:
    project.jobs.add(ASSISTED, [NewJob(image_id=1, rank=-1, copy=1)])
    task = take(at_work, "Bao")["task"]
    assert task["lease"]["is_second"]
    for _ in range(2):
        assert finish(at_work, task, masks=[annotation()["rle"]]).status_code == 200
    assert len(project.reviews.hidden(SECOND)[1, "Bao"]) == 1
    assert at_work.get("/api/images/1/annotations").json()["annotations"] == []
    assert take(at_work, "Bao")["task"]["image"]["id"] == "2"


def test_a_second_persons_masks_come_with_the_right_token_alone(
    at_work: TestClient, project: Project, annotation: Any
) -> None:
    project.jobs.add(ASSISTED, [NewJob(image_id=1, rank=-1, copy=1)])
    task = take(at_work, "Bao")["task"]
    masks = [annotation()["rle"]]
    for wrong in ({"token": "0" * len(task["lease"]["token"])}, {"is_second": False}):
        assert finish(at_work, {"lease": task["lease"] | wrong}, masks=[]).status_code == 409
        assert finish(at_work, {"lease": task["lease"] | wrong}, masks=masks).status_code in (409, 422)
        assert project.reviews.hidden(SECOND) == {}
    assert finish(at_work, task, masks=masks).json()["counted"]
    assert len(project.reviews.hidden(SECOND)[1, "Bao"]) == 1


def test_a_skipped_image_is_named_with_its_reason_and_one_given_back_comes_again(at_work: TestClient) -> None:
    lease = take(at_work, "Ann")["task"]["lease"]
    skipped = at_work.post("/api/engine/skip", json={"lease": lease, "reason": "too dark"})
    assert skipped.json()["queues"][ASSISTED]["skipped"] == 1
    assert finish(at_work, {"lease": lease}).status_code == 409
    (aside,) = at_work.get("/api/engine/status").json()["quarantined"]
    assert (aside["image"], aside["reason"]) == ("0.png", "too dark")
    lease = take(at_work, "Ann")["task"]["lease"]
    assert at_work.post("/api/engine/give-back", json=lease).json()["queues"][ASSISTED]["open"] == 2
    assert take(at_work, "Bao")["task"]["image"]["id"] == lease["image"]


def test_who_lost_the_image_is_told_and_keeps_the_masks(
    at_work: TestClient, project: Project, annotation: Any, change: Any
) -> None:
    project.settings.replace(project.settings.current().replace({"lease_seconds": 1}))
    task = take(at_work, "Ann")["task"]
    change(at_work, "1", 0, put=[annotation(provenance=made_by("Ann"))])
    project.jobs.abandon("Ann")
    assert take(at_work, "Bao")["task"]["image"]["id"] == "1"
    assert at_work.post("/api/engine/renew", json=task["lease"]).json() == {"held": False}
    lost = finish(at_work, task)
    assert lost.status_code == 409 and "is not Ann's any more" in lost.json()["error"]
    assert len(at_work.get("/api/images/1/annotations").json()["annotations"]) == 1


def test_a_lease_of_another_image_or_person_is_worth_nothing(at_work: TestClient) -> None:
    lease = take(at_work, "Ann")["task"]["lease"]
    for wrong in ({"image": "2"}, {"worker": "Bao"}, {"stage": SEMI_AUTOMATIC}, {"token": "0" * 32}):
        assert finish(at_work, {"lease": lease | wrong}).status_code == 409, wrong
    assert finish(at_work, {"lease": lease}).json()["counted"]


def test_nobody_is_called_like_the_model(at_work: TestClient) -> None:
    refused = at_work.post("/api/engine/next", json={"worker": "model"})
    assert refused.status_code == 422 and "choose another" in refused.json()["error"]


def test_the_status_tells_of_stages_people_and_time(at_work: TestClient, annotation: Any, change: Any) -> None:
    task = take(at_work, "Ann")["task"]
    change(at_work, "1", 0, put=[annotation(provenance=made_by("Ann"))])
    finish(at_work, task)
    take(at_work, "Bao")
    status = at_work.get("/api/engine/status").json()
    assert status["project"] == "project"  # not where it lies
    assert status["people"][ASSISTED]["Ann"]["added"] == status["last_hour"][ASSISTED]["images"] == 1
    assert [(each["worker"], each["image_id"]) for each in status["working"]] == [("Bao", 2)]
    (moment,) = status["history"]["moments"]
    assert (moment["stage"], moment["images"], moment["kept"], moment["seconds"]) == (ASSISTED, 1, 1, 12.5)
    assert 0 <= status["at"] - moment["at"] < 30
    assert status["models"][0]["hash"] == status["serving"]


def test_a_plain_project_has_no_queues(client: TestClient) -> None:
    assert client.get("/api/info").json()["engine"] is False
    for path in ("work", "status"):
        refused = client.get(f"/api/engine/{path}")
        assert refused.status_code == 404 and "anymask engine init" in refused.json()["error"]
