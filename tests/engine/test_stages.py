from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from anymask.engine import quality
from anymask.engine.detectors import SmallDetectorConfig, train_detector
from anymask.engine.detectors.boxes import LabelledImage, detector_loss, load_detector
from anymask.engine.pool import run_pool
from anymask.engine.project_model import model_path, open_project_model, set_project_model
from anymask.engine.retrain import RetrainPlan, build_recipe, judge, retrain, write_training_data
from anymask.engine.stages import (
    ASSISTED,
    AUTOMATIC,
    PREFILL,
    SEMI_AUTOMATIC,
    assisted,
    automatic,
    prefilling,
    semi_automatic,
)
from anymask.engine.stages.annotator import AnnotatorModel, SimulatedAnnotator, Truth
from anymask.engine.status import due
from anymask.engine.store import Annotation, NewJob, Outcome, Project, Provenance, Put, tables
from anymask.errors import DataError, InputError
from anymask.evaluation.protocol import Reply, Request
from anymask.geometry import rle
from anymask.model import SIZES, Sam, build_sam
from anymask.task.rounds import RoundsConfig

Add = Callable[..., list[int]]
SIZE = (48, 64)


def truth_mask() -> np.ndarray:
    made = np.zeros(SIZE, bool)
    made[10:30, 20:44] = True
    return made


@pytest.fixture
def model() -> Sam:
    torch.manual_seed(0)
    config = dataclasses.replace(SIZES["smoke"], image_size=64, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    return build_sam(config).eval()


class Known:
    """A segmenter's image whose answers are given."""

    def __init__(self, *masks: np.ndarray) -> None:
        self.masks, self.requests = list(masks), []  # type: ignore[var-annotated]

    def segment(self, requests):  # type: ignore[no-untyped-def]
        for request in requests:
            assert isinstance(request, Request)
            self.requests.append(request)
            yield Reply(masks=self.masks[min(len(self.requests), len(self.masks)) - 1][None], scores=np.array([0.7]))


def test_a_good_model_takes_a_click(sqlite_project: Project) -> None:
    drawn = SimulatedAnnotator().draw(Known(truth_mask()), truth_mask())
    assert (drawn.iou, len(drawn.clicks), drawn.strokes, drawn.seconds) == (1.0, 1, 0, 5.5)
    assert truth_mask()[drawn.clicks[0][1], drawn.clicks[0][0]]


def test_a_bad_model_is_painted_over_up_to_the_truth() -> None:
    nothing = np.zeros(SIZE, bool)
    drawn = SimulatedAnnotator(mask_seconds=60).draw(Known(nothing), truth_mask())
    assert drawn.iou == 1.0 and drawn.strokes == 1 and len(drawn.clicks) == 2
    hurried = SimulatedAnnotator(mask_seconds=8).draw(Known(nothing), truth_mask())
    assert hurried.iou == 0.0 and hurried.seconds <= 8


def test_time_is_what_habits_say() -> None:
    behaviour = AnnotatorModel(find_seconds=1, click_seconds=2, stroke_seconds=3, stroke_share=1e9)
    drawn = SimulatedAnnotator(behaviour).draw(Known(np.zeros(SIZE, bool)), truth_mask())
    assert drawn.seconds == pytest.approx(1 + 2 * 2 + 3)


@pytest.fixture
def worked(sqlite_project: Project, add_images: Add, model: Sam, tmp_path: Path) -> tuple[Project, Truth]:
    """A project with six images, two of them held out, and what a simulated annotator knows of them."""
    project = sqlite_project
    add_images(project, 4, "train")
    add_images(project, 2, "held-out")
    import cv2

    known = tmp_path / "known"
    (known / "masks").mkdir(parents=True)
    for image in project.images.all():
        (known / image.name).write_bytes(project.path(image.location).read_bytes())
        cv2.imwrite(str(known / "masks" / image.name), truth_mask() * np.uint8(1))
    set_project_model(project, model)
    return project, Truth([known])


def test_stage_one_leaves_masks_with_provenance(worked: tuple[Project, Truth], model: Sam) -> None:
    project, truth = worked
    assert assisted.open_queue(project) == 6
    assert assisted.Simulation(project, model, truth).run("ann") == 6
    found = project.outcomes.statistics(ASSISTED)
    assert (found.images, found.added, found.masks) == (6, 6, 6)
    (each,) = project.annotations.state(1).annotations
    assert each.provenance is not None
    current = project.models.current()
    assert current is not None and each.provenance.model == current.hash
    assert (each.provenance.stage, each.provenance.author) == (ASSISTED, "ann")
    assert float(rle.pairwise_iou([each.rle], [rle.encode(truth_mask())])[0, 0]) > 0.95
    assert project.outcomes.people(ASSISTED)["ann"].images == 6


def test_two_people_on_the_same_images_are_compared(worked: tuple[Project, Truth], model: Sam) -> None:
    project, truth = worked
    project.settings.replace(project.settings.current().replace({"doubly_assigned": 1}))
    assert assisted.open_queue(project) == 12
    for name in ("ann", "bob"):
        assert assisted.Simulation(project, model, truth).run(name) == 6
    found = quality.agreement(project)
    assert found.images == 6 and found.matched == 1.0 and found.mean_iou > 0.95
    assert all(image.num_annotations == 1 for image in project.images.all())


def test_who_draws_nothing_is_compared_too(worked: tuple[Project, Truth]) -> None:
    project, _ = worked
    drawn, empty = project.images.all()[:2]
    mask = rle.encode(truth_mask())
    known = Provenance(stage=ASSISTED, author="ann")
    project.settings.replace(project.settings.current().replace({"doubly_assigned": 1}))
    quality.add_honeypot(project, drawn, [mask])
    assisted.open_queue(project, [drawn, empty])
    assert quality.agreement(project).images == 0
    for name in ("ann", "bob"):
        while lease := project.jobs.lease(ASSISTED, name, seconds=60):
            first = not lease.copy and lease.image_id == drawn.id
            put = Put(annotation=Annotation(id="a", rle=mask, provenance=known))
            project.jobs.finish(lease, Outcome(), [put] if first else [])
    assert quality.agreement(project) == quality.Agreement(images=2, matched=0.0, mean_iou=0.0)
    assert quality.honeypot_scores(project) == {"ann": 1.0, "bob": 0.0}


def test_a_second_persons_hidden_masks_count_for_honeypots(worked: tuple[Project, Truth]) -> None:
    project, _ = worked
    image = project.images.all()[0]
    quality.add_honeypot(project, image, [rle.encode(truth_mask())])
    project.jobs.add(ASSISTED, [NewJob(image_id=image.id, copy=1)])
    for name in ("ann", "bob"):
        lease = project.jobs.lease(ASSISTED, name, seconds=60)
        assert lease is not None
        if lease.copy:
            project.reviews.hide(image.id, [rle.encode(truth_mask())], kind=assisted.SECOND, author=name)
            second = name
        project.jobs.finish(lease, Outcome())
    assert quality.honeypot_scores(project) == {"ann": 0.0, "bob": 0.0} | {second: 1.0}


def test_stage_two_counts_prefilled_and_added_apart(worked: tuple[Project, Truth], model: Sam) -> None:
    project, truth = worked
    settings = {"prefill_score": 0, "prefill_iou": 1e-9}
    project.settings.replace(project.settings.current().replace(settings))
    images = project.images.all()
    assisted.open_queue(project, images[:2])
    assisted.Simulation(project, model, truth).run()
    prefilling.train_on_project(project, model, SmallDetectorConfig(steps=5))
    semi_automatic.open_queue(project, images[2:4])
    task = prefilling.PrefillTask(model=str(model_path(project)))
    assert run_pool(project, PREFILL, task, workers=0).done == 2
    assert semi_automatic.open_people_queue(project) == 2
    known = Annotation(
        id="good",
        rle=rle.encode(truth_mask()),
        score=0.9,
        source="box",
        provenance=Provenance(stage=SEMI_AUTOMATIC, author="model", origin="prefilled"),
    )
    state = project.annotations.state(images[2].id)
    project.annotations.change(images[2].id, state.revision, "model", [Put(annotation=known)])
    people = semi_automatic.SemiAutomaticSimulation(project, model, truth)
    assert people.run(kind=SEMI_AUTOMATIC) == 2
    found = project.outcomes.statistics(SEMI_AUTOMATIC)
    assert found.confirmed + found.fixed >= 1
    assert found.prefilled == found.confirmed + found.fixed + found.rejected
    assert found.confirmed + found.fixed + found.added == 2
    assert project.images.all()[2].num_annotations == 1
    versions = project.annotations.versions(images[2].id, "good")
    assert len(versions) == 2


def test_stage_three_makes_each_image_once(worked: tuple[Project, Truth]) -> None:
    project, _ = worked
    automatic.open_queue(project)
    overrides = {"points_per_side": 3, "crop_n_layers": 0, "min_mask_region_area": 0, "max_area_fraction": 1.0}
    task = automatic.AutomaticTask(model=str(model_path(project)), overrides=overrides)
    done = run_pool(project, AUTOMATIC, task, workers=0)
    assert (done.done, done.left, done.quarantined) == (6, 0, 0)
    assert done.masks == sum(image.num_annotations for image in project.images.all()) > 0
    assert {image.revision for image in project.images.all()} <= {0, 1}
    with pytest.raises(InputError, match="preset"):
        dataclasses.replace(task, preset="none").options(project)


def test_retraining_is_gated_noted_and_rolled_back(worked: tuple[Project, Truth], model: Sam) -> None:
    project, truth = worked
    project.settings.replace(project.settings.current().replace({"retrain_masks": 6, "tolerance": 1}))
    first = project.models.current()
    assert first is not None and due(project) is None
    plan = RetrainPlan(
        steps=2, batch_size=2, num_masks=1, test_points=2, rounds=RoundsConfig(num_corrections=1, num_refinements=0)
    )
    with pytest.raises(DataError, match="could not be judged"):
        retrain(project, plan)
    assisted.open_queue(project)
    assisted.Simulation(project, model, truth).run()
    assert due(project) == "6 masks since the last model"
    data = write_training_data(project, project.cache)
    assert (data.num_manual, data.num_automatic, len(data.held_out)) == (4, 0, 1)
    done = retrain(project, plan, trigger="test")
    assert done.promoted and set(done.scores) == {"miou_1", "miou_3", "box", "everything"}
    current = project.models.current()
    assert current is not None and current.hash == done.model.hash != first.hash and current.parent == first.id
    assert due(project) is None
    assert open_project_model(project).config == model.config
    assert project.models.roll_back().id == first.id


def test_pictures_that_are_gone_or_broken_are_left_out_and_named(
    worked: tuple[Project, Truth], model: Sam, caplog: pytest.LogCaptureFixture
) -> None:
    project, _ = worked
    masks = [Annotation(id=f"m{n}", rle=rle.encode(truth_mask())) for n in range(4)]
    images = project.images.all()
    for image in images:
        project.annotations.change(image.id, 0, "ann", [Put(annotation=each) for each in masks])

    def told() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return lines

    project.path(images[0].location).unlink()
    project.path(images[4].location).write_bytes(project.path(images[4].location).read_bytes()[:200])
    data = write_training_data(project, project.cache)
    assert (data.num_manual, len(data.held_out)) == (12, 1)
    lines = told()
    assert [line.split(": ")[:2] for line in lines] == [
        ["left out of the training data", images[index].name] for index in (0, 4)
    ]
    config = SmallDetectorConfig(steps=1)
    prefilling.train_on_project(project, model, config)
    assert prefilling.choose_confidence(project, model, config=config) is not None
    assert [line.split(": ")[0] for line in told()] == [
        "left out of the detector's training",
        "left out of the choice of what is confident",
    ]
    for image in images[1:]:
        project.path(image.location).unlink()
    with pytest.raises(DataError, match="nothing to learn from"):
        prefilling.train_on_project(project, model, config)
    assert told()[-1] == "left out of the detector's training: 1 more images that cannot be read"
    with pytest.raises(DataError, match="no held-out image that can be read"):
        retrain(project)


def test_a_new_model_is_due_by_the_clock_if_there_is_anything_new(
    project: Project, add_images: Add, model: Sam
) -> None:
    (image,) = add_images(project, 1)
    set_project_model(project, model)
    with project.database.writing() as connection:  # as if two hours had passed
        connection.execute(tables.models.update().values(at=tables.models.c.at - 7200))
    project.settings.replace(project.settings.current().replace({"retrain_masks": 0, "retrain_hours": 1}))
    assert due(project) is None
    mask = rle.encode(truth_mask())
    known = Provenance(stage=SEMI_AUTOMATIC, author="model", origin="prefilled")
    project.annotations.change(image, 0, "model", [Put(annotation=Annotation(id="a", rle=mask, provenance=known))])
    assert due(project) is None  # a machine's mask teaches nothing
    known = dataclasses.replace(known, author="ann")
    project.annotations.change(image, 1, "ann", [Put(annotation=Annotation(id="a", rle=mask, provenance=known))])
    assert due(project) == "2.0 hours since the last model"
    project.settings.replace(project.settings.current().replace({"retrain_hours": 3}))
    assert due(project) is None
    project.settings.replace(project.settings.current().replace({"retrain_hours": 1}))
    set_project_model(project, build_sam(model.config))
    assert due(project) is None


def test_the_gate_names_what_fell() -> None:
    before = {"miou_1": 0.5, "miou_3": 0.6, "box": 0.7, "everything": 0.4}
    assert judge(before, before, 0.0) == "promoted"
    assert judge(before, before | {"box": 0.696}, 0.005) == "promoted"
    assert judge(before, before | {"box": 0.6}, 0.005) == "refused: box fell from 0.700 to 0.600"


def test_peoples_masks_weigh_ten_times(worked: tuple[Project, Truth], model: Sam, tmp_path: Path) -> None:
    project, _ = worked
    data = dataclasses.replace(
        write_training_data(project, tmp_path),
        manual=(tmp_path / "m.tar",),
        automatic=(tmp_path / "a.tar",),
        num_manual=3,
        num_automatic=60,
    )
    recipe = build_recipe(model.config, data, RetrainPlan(), 10)
    assert [source.weight for source in recipe.sources] == [30, 60]
    assert recipe.model.size == "smoke" and recipe.model.image_size == 64


def test_the_check_tells_how_many_masks_are_right(worked: tuple[Project, Truth], model: Sam) -> None:
    project, truth = worked
    wrong = np.zeros(SIZE, bool)
    wrong[10:30, 20:38] = True  # IoU 0.75
    nothing = np.zeros(SIZE, bool)
    nothing[40:46, 2:8] = True
    for image, masks in ((1, [truth_mask()]), (2, [wrong, nothing])):
        puts = [Put(annotation=Annotation(id=f"m{n}", rle=rle.encode(mask))) for n, mask in enumerate(masks)]
        project.annotations.change(image, 0, "model", puts)
    assert quality.open_check(project, 10) == 2
    quality.CheckSimulation(project, model, truth).run("professional", kind=quality.CHECK)
    found = quality.check_report(project)
    assert (found.pairs, found.over_90, found.rejected) == (2, 0.5, 1)
    assert [each.id for each in project.annotations.state(2).annotations] == ["m0"]


def test_honeypots_tell_who_draws_well(worked: tuple[Project, Truth]) -> None:
    project, _ = worked
    image = project.images.all()[0]
    quality.add_honeypot(project, image, [rle.encode(truth_mask())])
    half = truth_mask()
    half[:, 32:] = False
    for revision, (name, mask) in enumerate((("ann", truth_mask()), ("bob", half))):
        known = Provenance(stage=ASSISTED, author=name)
        put = Put(annotation=Annotation(id=name, rle=rle.encode(mask), provenance=known))
        project.annotations.change(image.id, revision, name, [put])
    assert quality.honeypot_scores(project) == {"ann": 1.0, "bob": 0.5}


def test_the_least_confident_are_reviewed_first(worked: tuple[Project, Truth]) -> None:
    project, _ = worked
    for image, score in ((1, 0.9), (2, 0.3)):
        each = Annotation(id="a", rle=rle.encode(truth_mask()), score=score)
        project.annotations.change(image, 0, "m", [Put(annotation=each)])
    assert quality.open_review(project) == 2
    lease = project.jobs.lease(quality.REVIEW, "eve", seconds=60)
    assert lease is not None and lease.image_id == 2
    with pytest.raises(InputError, match="needs a reason"):
        quality.judge(project, lease, [quality.Judgement(key="a", verdict="reject")])
    quality.judge(project, lease, [quality.Judgement(key="a", verdict="reject", reason="two objects")])
    assert project.annotations.state(2).annotations == ()
    ((_, review),) = project.reviews.of(quality.REVIEW)
    assert (review.author, review.verdict, review.reason) == ("eve", "reject", "two objects")


def test_the_detector_finds_what_it_was_shown(model: Sam, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def scene() -> LabelledImage:
        image = rng.integers(0, 40, (64, 64, 3), np.uint8)
        x, y = rng.integers(0, 36, 2)
        image[y : y + 24, x : x + 24] = 240
        return LabelledImage(image=image, boxes=np.array([[x, y, x + 24, y + 24]], np.float64))

    scenes = [scene() for _ in range(12)]
    losses: list[float] = []
    config = SmallDetectorConfig(steps=80, width=32)
    detector = train_detector(
        model, [lambda s=s: s for s in scenes], config, progress=lambda _, loss: losses.append(loss)
    )  # type: ignore[misc]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    found = detector.detect(scenes[0].image)
    assert (np.diff(found.scores) <= 0).all()
    x0, y0, x1, y1 = scenes[0].boxes[0]
    best = found.boxes[0]
    assert np.abs(best - [x0, y0, x1, y1]).max() < 8
    detector.save(tmp_path / "d.safetensors")
    again = load_detector(tmp_path / "d.safetensors", model).detect(scenes[0].image)
    assert np.array_equal(again.boxes, found.boxes)
    torch.manual_seed(1)
    with pytest.raises(DataError, match="another model"):
        load_detector(tmp_path / "d.safetensors", build_sam(model.config))


def test_the_detectors_loss_prefers_the_right_box() -> None:
    truth = torch.tensor([[2.0, 2.0, 6.0, 6.0]])
    right, wrong = torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8)
    centres = torch.arange(8) + 0.5
    right[0, 0], right[0, 2] = (centres - 2)[None, :], (6 - centres)[None, :]
    right[0, 1], right[0, 3] = (centres - 2)[:, None], (6 - centres)[:, None]
    wrong[:] = 1
    logits = torch.full((1, 8, 8), -6.0)
    logits[0, 3:5, 3:5] = 6
    assert detector_loss(logits, right, [truth]) < 0.05 < detector_loss(logits, wrong, [truth])
