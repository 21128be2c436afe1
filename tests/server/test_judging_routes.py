"""Reviews and checks over HTTP: every mask gets a word, and nothing that is said wrongly does any harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from anymask.engine import quality
from anymask.engine.project_model import set_project_model
from anymask.engine.store import Annotation, Project, Provenance, Put
from anymask.geometry import rle
from anymask.model import Sam

Answer = dict[str, Any]
BY_MODEL = Provenance(stage="automatic", author="model", origin="automatic")


@pytest.fixture
def reviewed(
    project: Project, smoke_sam: Sam, make_client: Callable[..., TestClient], upload: Callable[..., Any], box: Any
) -> TestClient:
    """A client of a project with two images, each with two masks; both are to be reviewed and one to be checked."""
    set_project_model(project, smoke_sam)
    client = make_client()
    for number, score in enumerate((0.9, 0.4)):
        upload(client, name=f"{number}.png")
        masks = [Annotation(id=key, rle=box(), score=score, provenance=BY_MODEL) for key in ("a", "b")]
        project.annotations.change(number + 1, 0, "auto", [Put(annotation=each) for each in masks])
    quality.open_review(project)
    quality.open_check(project, 1)
    return client


@pytest.fixture
def box() -> Callable[..., Any]:
    """A rectangle on the 60 × 80 picture, which ends at a column."""

    def make(end: int = 50) -> Any:
        mask = np.zeros((60, 80), bool)
        mask[10:30, 20:end] = True
        return rle.encode(mask)

    return make


def take(client: TestClient, stage: str, worker: str = "Eve") -> Answer:
    answer = client.post("/api/engine/next", json={"worker": worker, "stage": stage}).json()
    return dict(answer["task"])


def judge(client: TestClient, task: Answer, judgements: list[Answer], **more: Any) -> Any:
    revision = task["image"]["revision"]
    spent = {"seconds": 9.5, "clicks": 1, "strokes": 2}
    done = {"lease": task["lease"], **spent, "revision": revision, "judgements": judgements, **more}
    return client.post("/api/engine/judge", json=done)


def accept(*keys: str) -> list[Answer]:
    return [{"key": key, "verdict": "accept"} for key in keys]


def test_a_review_begins_with_the_least_confident_and_is_counted(
    reviewed: TestClient, project: Project, box: Any, annotation: Any
) -> None:
    work = reviewed.get("/api/engine/work").json()
    assert (work["queues"]["review"]["open"], work["queues"]["check"]["open"], work["suggested"]) == (2, 1, None)
    assert reviewed.post("/api/engine/next", json={"worker": "Eve"}).json()["task"] is None, "nobody is sent there"
    task = take(reviewed, "review")
    assert task["image"]["name"] == "1.png" and task["image"]["revision"] == 1
    assert reviewed.post("/api/engine/renew", json=task["lease"]).json() == {"held": True}
    told = {"stage": "review", "author": "Eve", "seconds": 3.0, "strokes": 2}
    words = [
        {"key": "a", "verdict": "fix", "fixed": {"id": "a", "rle": box(35), "source": "brush", "provenance": told}},
        {"key": "b", "verdict": "reject", "reason": "Shows no object"},
    ]
    done = judge(reviewed, task, words, added=[annotation("c")])
    mine = done.json()["statistics"]["mine"]
    assert done.json()["counted"] and (mine["fixed"], mine["rejected"], mine["added"]) == (1, 1, 1)
    assert mine["by_hand"] == 0.5 and mine["seconds_per_mask"] == 4.75
    assert judge(reviewed, task, words).json()["counted"] is False
    left = reviewed.get("/api/images/2/annotations").json()
    assert left["revision"] == 2 and [each["id"] for each in left["annotations"]] == ["a", "c"]
    known = left["annotations"][0]["provenance"]
    assert (known["author"], known["stage"], known["origin"], known["strokes"]) == ("Eve", "review", "automatic", 2)
    status = reviewed.get("/api/engine/status").json()
    said = {"accepted": 0, "fixed": 1, "rejected": 1, "reasons": {"Shows no object": 1}}
    assert status["quality"]["review"] == said and status["queues"]["review"] == {"open": 1, "done": 1} | dict.fromkeys(
        ("leased", "skipped", "quarantined"), 0
    )


def test_a_check_counts_the_pairs(reviewed: TestClient, box: Any) -> None:
    task = take(reviewed, "check", "Pro")
    words = [*accept("a"), {"key": "b", "verdict": "fix", "fixed": {"id": "b", "rle": box(44)}}]
    assert judge(reviewed, task, words).json()["counted"]
    found = reviewed.get("/api/engine/status").json()["quality"]["check"]
    assert found == {"pairs": 2, "over_90": 0.5, "over_75": 1.0, "rejected": 0}


def test_words_that_make_no_sense_are_refused_and_nothing_is_kept(
    reviewed: TestClient, project: Project, box: Any, annotation: Any
) -> None:
    task = take(reviewed, "review")
    fix = {"key": "b", "verdict": "fix"}
    small = rle.encode(np.ones((3, 3), bool))
    for words, wrong in (
        ([], "2 of the image's masks still wait"),
        (accept("a"), "1 of the image's masks still wait"),
        (accept("a", "b", "ghost"), "no annotation ghost"),
        (accept("a", "b", "b"), "judged twice"),
        ([*accept("a"), {"key": "b", "verdict": "reject"}], "needs a reason"),
        ([*accept("a"), {"key": "b", "verdict": "reject", "reason": ""}], "reason"),
        ([*accept("a"), {"key": "b", "verdict": "perhaps"}], "verdict"),
        ([*accept("a"), fix], "a fix needs the right mask"),
        ([*accept("a"), fix | {"fixed": annotation("b") | {"rle": small}}], "does not fit"),
        ([*accept("a"), fix | {"fixed": {"id": "b", "rle": {"size": [60, 80], "counts": "0o0"}}}], "RLE"),
    ):
        refused = judge(reviewed, task, words)
        assert refused.status_code == 422 and wrong in refused.json()["error"], refused.text
    taken = judge(reviewed, task, accept("a", "b"), added=[annotation("a")])
    assert taken.status_code == 422 and "an annotation a already" in taken.json()["error"]
    assert judge(reviewed, task, accept("a", "b"), revision=0).status_code == 422  # there was nothing then
    assert project.reviews.of("review") == [] and project.annotations.state(2).revision == 1
    assert judge(reviewed, task, accept("a", "b")).json()["counted"]


def test_a_lease_that_is_not_ones_own_is_worth_nothing(reviewed: TestClient, project: Project) -> None:
    task = take(reviewed, "review")
    for wrong in ({"image": "1"}, {"worker": "Bob"}, {"stage": "check"}, {"token": "0" * 32}, {"job": 999}):
        refused = judge(reviewed, task | {"lease": task["lease"] | wrong}, accept("a", "b"))
        assert refused.status_code == 409, wrong
    project.jobs.abandon("Eve")
    project.settings.replace(project.settings.current().replace({"lease_seconds": 1}))
    assert take(reviewed, "review", "Bob")["image"]["id"] == "2"
    assert judge(reviewed, task, accept("a", "b")).status_code == 409
    assert project.reviews.of("review") == []


def test_a_mask_that_others_changed_meanwhile_is_to_be_looked_at_again(
    reviewed: TestClient, change: Any, annotation: Any
) -> None:
    task = take(reviewed, "review")
    assert change(reviewed, "2", 1, put=[annotation("b", name="moved")]).status_code == 200
    late = judge(reviewed, task, accept("a", "b"))
    assert late.status_code == 412 and "changed by others" in late.json()["error"]
    assert judge(reviewed, task, accept("a", "b"), revision=2).json()["counted"]


def test_each_way_to_finish_has_its_stages(reviewed: TestClient, project: Project, smoke_sam: Sam) -> None:
    from anymask.engine.stages import assisted

    review = take(reviewed, "review")
    spent = {"seconds": 1.0, "clicks": 0, "strokes": 0}
    refused = reviewed.post("/api/engine/finish", json={"lease": review["lease"], **spent})
    assert refused.status_code == 422 and "a verdict on each mask" in refused.json()["error"]
    assisted.open_queue(project)
    drawn = take(reviewed, "assisted")
    refused = judge(reviewed, drawn, accept("a", "b"))
    assert refused.status_code == 422 and "not in assisted" in refused.json()["error"]


def test_a_review_is_skipped_and_given_back_like_any_image(reviewed: TestClient) -> None:
    lease = take(reviewed, "review")["lease"]
    assert reviewed.post("/api/engine/give-back", json=lease).json()["queues"]["review"]["open"] == 2
    lease = take(reviewed, "review")["lease"]
    skipped = reviewed.post("/api/engine/skip", json={"lease": lease, "reason": "Cannot be shown"})
    assert skipped.json()["queues"]["review"]["skipped"] == 1
