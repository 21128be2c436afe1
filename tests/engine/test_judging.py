"""A person's word on every mask of an image: noted with what it does, all at once or not at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from anymask.engine import quality
from anymask.engine.quality import Judgement
from anymask.engine.store import Annotation, Conflict, Delete, Lease, LeaseLost, Outcome, Project, Provenance, Put
from anymask.errors import DataError, InputError
from anymask.geometry import rle
from anymask.geometry.rle import RLE

BY_MODEL = Provenance(stage="automatic", author="model", origin="automatic", model="abc")


def box(x0: int = 8, x1: int = 24) -> RLE:
    mask = np.zeros((48, 64), bool)
    mask[10:30, x0:x1] = True
    return rle.encode(mask)


@pytest.fixture
def leased(project: Project, add_images: Callable[..., list[int]]) -> Lease:
    """An image with three masks of the model's, in Eve's hands for review."""
    (image,) = add_images(project, 1)
    scores = {"good": 0.9, "loose": 0.5, "none": 0.7}
    masks = [Annotation(id=key, rle=box(), score=score, provenance=BY_MODEL) for key, score in scores.items()]
    project.annotations.change(image, 0, "auto", [Put(annotation=each) for each in masks])
    assert quality.open_review(project) == 1
    lease = project.jobs.lease(quality.REVIEW, "Eve", seconds=60)
    assert lease is not None
    return lease


def fix(key: str = "loose", **more: object) -> Judgement:
    told = Provenance(stage="assisted", author="somebody", seconds=7.0, clicks=2, strokes=1, model="abc")
    return Judgement(key=key, verdict="fix", fixed=Annotation(id="x", rle=box(8, 16), class_id=4, provenance=told))


REJECT = Judgement(key="none", verdict="reject", reason="Shows no object")
ACCEPT = Judgement(key="good", verdict="accept")
SPENT = Outcome(seconds=30, clicks=2, strokes=1, model="abc")


def test_verdicts_what_they_do_and_the_end_of_the_job_are_one(project: Project, leased: Lease) -> None:
    new = Annotation(id="new", rle=box(40, 60))
    assert quality.judge(project, leased, [ACCEPT, fix(), REJECT], outcome=SPENT, revision=1, added=[new])
    now = {each.id: each for each in project.annotations.state(leased.image_id).annotations}
    assert set(now) == {"good", "loose", "new"}
    assert now["good"].provenance == BY_MODEL, "who made it, not who let it pass"
    fixed = now["loose"].provenance
    assert fixed is not None and now["loose"].class_id == 4
    assert (fixed.stage, fixed.author, fixed.origin) == ("review", "Eve", "automatic")
    assert (fixed.seconds, fixed.clicks, fixed.strokes) == (7.0, 2, 1)
    first = {each.key: each.id for each in project.annotations.versions(leased.image_id) if each.revision == 1}
    assert fixed.derived_from == first["loose"]
    assert now["new"].provenance == Provenance(stage="review", author="Eve", origin="added")
    said = {review.version_id: review for _, review in project.reviews.of("review")}
    assert {said[first[key]].verdict for key in first} == {"accept", "fix", "reject"}
    assert said[first["loose"]].iou == 0.5 and said[first["none"]].reason == "Shows no object"
    ((_, outcome),) = project.outcomes.history("review")
    assert (outcome.confirmed, outcome.fixed, outcome.rejected, outcome.added, outcome.by_hand) == (1, 1, 1, 1, 1)
    assert (outcome.seconds, outcome.model) == (30, "abc")
    assert quality.review_report(project) == quality.ReviewReport(
        accepted=1, fixed=1, rejected=1, reasons={"Shows no object": 1}
    )


def test_said_twice_it_counts_once(project: Project, leased: Lease) -> None:
    words = [ACCEPT, fix(), REJECT]
    assert quality.judge(project, leased, words, revision=1)
    assert not quality.judge(project, leased, words, revision=1)
    assert len(project.reviews.of("review")) == 3
    assert project.annotations.state(leased.image_id).revision == 2


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ([ACCEPT, REJECT], "1 of the image's masks still wait"),
        ([ACCEPT, fix(), REJECT, Judgement(key="ghost", verdict="accept")], "no annotation ghost"),
        ([ACCEPT, ACCEPT, fix(), REJECT], "good is judged twice"),
        ([ACCEPT, fix(), Judgement(key="none", verdict="reject")], "needs a reason"),
        ([ACCEPT, fix(), Judgement(key="none", verdict="hm")], "must be one of accept, fix, reject"),
        ([ACCEPT, REJECT, Judgement(key="loose", verdict="fix")], "a fix needs the right mask"),
    ],
)
def test_what_makes_no_sense_is_refused_whole(
    project: Project, leased: Lease, words: list[Judgement], wrong: str
) -> None:
    with pytest.raises(InputError, match=wrong):
        quality.judge(project, leased, words)
    assert project.reviews.of("review") == [] and project.annotations.state(leased.image_id).revision == 1
    assert quality.judge(project, leased, [ACCEPT, fix(), REJECT])


def test_masks_that_are_none_are_refused(project: Project, leased: Lease) -> None:
    empty, small = rle.encode(np.zeros((48, 64), bool)), rle.encode(np.ones((4, 4), bool))
    for mask in (empty, small, RLE(size=[48, 64], counts="0o0o0")):
        wrong = Judgement(key="loose", verdict="fix", fixed=Annotation(id="loose", rle=mask))
        with pytest.raises(DataError if mask is not empty else InputError):
            quality.judge(project, leased, [ACCEPT, wrong, REJECT])
    with pytest.raises(InputError, match="an annotation good already"):
        quality.judge(project, leased, [ACCEPT, fix(), REJECT], added=[Annotation(id="good", rle=box())])


def test_a_mask_that_changed_meanwhile_is_looked_at_again(project: Project, leased: Lease) -> None:
    """What is said of a version that is no longer the newest would undo another's work."""
    image = leased.image_id
    project.annotations.change(image, 1, "Bob", [Put(annotation=Annotation(id="other", rle=box()))])
    project.annotations.change(image, 2, "Bob", [Delete(id="loose")])
    with pytest.raises(Conflict) as caught:
        quality.judge(project, leased, [ACCEPT, fix(), REJECT], revision=1)
    assert caught.value.revision == 3
    assert quality.judge(project, leased, [ACCEPT, REJECT, Judgement(key="other", verdict="accept")], revision=3)


def test_who_lost_the_image_changes_nothing(project: Project, leased: Lease) -> None:
    project.jobs.abandon("Eve")
    assert project.jobs.lease(quality.REVIEW, "Bob", seconds=60) is not None
    with pytest.raises(LeaseLost):
        quality.judge(project, leased, [ACCEPT, fix(), REJECT])
    assert project.reviews.of("review") == [] and project.annotations.state(leased.image_id).revision == 1


def test_a_review_of_the_least_confident_alone(project: Project, add_images: Callable[..., list[int]]) -> None:
    for image, score in zip(add_images(project, 4), (0.9, None, 0.2, 0.6), strict=True):
        project.annotations.change(image, 0, "auto", [Put(annotation=Annotation(id="a", rle=box(), score=score))])
    assert quality.open_review(project, limit=2) == 2
    order = [lease.image_id for _ in range(2) if (lease := project.jobs.lease("review", "Eve", seconds=60))]
    assert order == [project.images.all()[2].id, project.images.all()[3].id]
