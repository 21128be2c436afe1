from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from anymask.engine.pool import run_pool
from anymask.engine.project_model import model_path, set_project_model
from anymask.engine.stages import SEMI_AUTOMATIC, VERIFY
from anymask.engine.stages.annotator import Truth
from anymask.engine.stages.semi_automatic import SemiAutomaticSimulation, awaits
from anymask.engine.store import (
    MODEL,
    VERIFIER,
    Annotation,
    MachineVerdict,
    NewImage,
    NewJob,
    Outcome,
    Project,
    Provenance,
    Put,
)
from anymask.engine.store.verdicts import wilson
from anymask.engine.verification import acceptance, completeness, features, training
from anymask.engine.verification.completeness import (
    CompletenessConfig,
    cover_of,
    load_completeness,
    open_completeness,
    train_completeness,
)
from anymask.engine.verification.spoiling import WAYS
from anymask.engine.verification.training import (
    JUDGED,
    PROPOSED,
    SPOILT,
    Examples,
    VerifierPlan,
    gather,
    open_verifier,
    train_on,
    train_verifier,
    verdict_of,
)
from anymask.engine.verification.verifier import ACCEPT, FIX, REJECT, VerifierConfig, auc, load_verifier
from anymask.errors import DataError
from anymask.geometry import rle
from anymask.inference.answers import encode
from anymask.model import SIZES, Sam, build_sam

SIZE = (64, 96)
QUICK = VerifierPlan(head=VerifierConfig(steps=60, folds=2), masks=4, spoilt=3, points_per_side=3)


@pytest.fixture(scope="module")
def model() -> Sam:
    torch.manual_seed(0)
    config = dataclasses.replace(SIZES["smoke"], image_size=64, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    return build_sam(config).eval()


def disc(x: int, y: int, radius: int = 10) -> np.ndarray:
    drawn = np.zeros(SIZE, np.uint8)
    cv2.circle(drawn, (x, y), radius, 1, -1)
    return drawn > 0


OBJECTS = (disc(20, 20), disc(60, 20), disc(30, 48), disc(76, 46, 12))


@pytest.fixture
def drawn(sqlite_project: Project, model: Sam, tmp_path: Path) -> tuple[Project, Truth]:
    """Twelve images with four discs each, known to a simulated person; the first six have a person's masks."""
    project = sqlite_project
    known = tmp_path / "known"
    (known / "masks").mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels = sum((index + 1) * mask.astype(np.uint8) for index, mask in enumerate(OBJECTS))
    for number in range(12):
        pixels = rng.integers(0, 50, (*SIZE, 3), np.uint8)
        for mask in OBJECTS:
            pixels[mask] = rng.integers(150, 250, 3)
        cv2.imwrite(str(project.folder / "images" / f"{number:02d}.png"), pixels)
        cv2.imwrite(str(known / f"{number:02d}.png"), pixels)
        cv2.imwrite(str(known / "masks" / f"{number:02d}.png"), labels)
        project.images.add(
            [NewImage(name=f"{number:02d}.png", location=f"images/{number:02d}.png", size=SIZE, split="train")]
        )
    for image in project.images.all()[:6]:
        people = Provenance(stage="assisted", author="ann")
        made = [Annotation(id=f"a{i}", rle=rle.encode(mask), provenance=people) for i, mask in enumerate(OBJECTS)]
        project.annotations.change(image.id, 0, "ann", [Put(annotation=each) for each in made])
    set_project_model(project, model)
    return project, Truth([known])


def prefill(project: Project, image_id: int, masks: dict[str, np.ndarray]) -> None:
    """Put masks of the model's on an image, as the second stage does."""
    machine = Provenance(stage=SEMI_AUTOMATIC, author=MODEL, origin="prefilled")
    made = [Annotation(id=key, rle=rle.encode(mask), provenance=machine, score=0.9) for key, mask in masks.items()]
    project.annotations.change(image_id, 0, "pool", [Put(annotation=each) for each in made])
    project.jobs.add(VERIFY, [NewJob(image_id=image_id, rank=float(image_id))])


RIGHT_AND_WRONG = {
    "right0": OBJECTS[0],
    "right1": OBJECTS[1],
    "right2": OBJECTS[2],
    "wrong0": disc(46, 34, 4),
    "wrong1": OBJECTS[3] & disc(76, 40, 6),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_spoilt_mask_is_another_one(name: str) -> None:
    rng = np.random.default_rng(0)
    made = [WAYS[name](OBJECTS[0], [OBJECTS[1], OBJECTS[2]], rng) for _ in range(8)]
    ious = [float((each & OBJECTS[0]).sum() / max((each | OBJECTS[0]).sum(), 1)) for each in made]
    assert all(each.shape == SIZE and each.dtype == bool for each in made)
    assert min(ious) < 0.9 and (name in ("background",) or max(ious) > 0)
    if name == "merge":
        assert all((each & OBJECTS[0]).sum() == OBJECTS[0].sum() for each in made)
    if name == "background":
        assert not any((each & (OBJECTS[0] | OBJECTS[1] | OBJECTS[2])).any() for each in made)


def test_features_tell_where_a_mask_lies_among_others(drawn: tuple[Project, Truth], model: Sam) -> None:
    pixels = cv2.imread(str(drawn[0].folder / "images" / "00.png"))[..., ::-1]
    encoded = encode(model, [np.ascontiguousarray(pixels)])[0]
    whole, half = rle.encode(OBJECTS[0]), rle.encode(OBJECTS[0] & disc(14, 20, 8))
    known = features.describe(model, encoded, [whole, half], [rle.encode(OBJECTS[1])])
    assert known.shape == (2, sum(features.width(model))) and known.isfinite().all()
    iou, in_other, other_in, covered = known[:, -4:].T
    assert iou[0] == iou[1] and 0 < iou[0] < 1  # of each with the other
    assert in_other[1] > 0.9 and other_in[0] > 0.9 and covered[1] > 0.9 and covered[0] < 0.8
    alone = features.describe(model, encoded, [whole])
    torch.testing.assert_close(alone[:, :-4], known[:1, :-4], atol=1e-4, rtol=1e-4)
    assert (alone[:, -4:] == 0).all()
    assert features.describe(model, encoded, []).shape == (0, known.shape[1])


def _examples(rng: np.random.Generator, *, num_means: int = 6, count: int = 600) -> Examples:
    """Make examples whose verdict can be seen from one of their measures, with some noise."""
    known = rng.normal(size=(count, num_means + features.IOU_PLACE + 40)).astype(np.float32)
    verdicts = np.digitize(known[:, num_means] + rng.normal(0, 0.3, count), (-0.5, 0.5))
    return Examples(
        features=torch.from_numpy(known),
        verdicts=torch.from_numpy(2 - verdicts),
        images=rng.integers(0, 40, count),
        origins=np.full(count, PROPOSED),
    )


def test_chances_are_calibrated_and_sure_words_are_right_as_often_as_was_asked() -> None:
    verifier, chances, said = train_on(
        _examples(np.random.default_rng(0)), 6, "m", VerifierConfig(steps=200), precision=0.95
    )
    assert verifier.scores["auc"] > 0.95 > verifier.scores["auc_predicted_iou"]
    assert verifier.scores["calibration_error"] < 0.06
    sure = chances[:, ACCEPT] >= verifier.accept_from
    assert sure.sum() > 20 and (said[sure] == ACCEPT).mean() >= 0.95
    new = _examples(np.random.default_rng(1))
    likely = verifier.chances(new.features)
    assert likely.shape == (600, 3)
    np.testing.assert_allclose(likely.sum(1), 1, atol=1e-6)
    sure = likely[:, ACCEPT] >= verifier.accept_from
    assert (new.verdicts.numpy()[sure] == ACCEPT).mean() > 0.85
    assert auc(likely[:, REJECT], new.verdicts.numpy() == REJECT) > 0.95


def test_a_share_of_nothing_is_anything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(9, 10)
    assert (round(low, 3), round(high, 3)) == (0.596, 0.982)  # as in tables of the interval
    assert wilson(35, 35)[0] > 0.9 > wilson(34, 34)[0]


def test_verdicts_follow_what_people_do() -> None:
    assert verdict_of(np.array([0.9, 0.85, 0.84, 0.5, 0.49])).tolist() == [ACCEPT, ACCEPT, FIX, FIX, REJECT]


def test_a_verifier_is_kept_with_its_history(drawn: tuple[Project, Truth], model: Sam, tmp_path: Path) -> None:
    project, _ = drawn
    assert open_verifier(project, model) is None
    first = train_verifier(project, model, QUICK)
    assert sum(each.numel() for each in first.verifier.head.parameters()) <= 1_000_000
    again = open_verifier(project, model)
    assert again is not None and again[1].id == first.stored.id
    assert again[0].hash == first.verifier.hash == first.stored.hash
    known = torch.randn(5, sum(features.width(model)))
    np.testing.assert_array_equal(again[0].chances(known), first.verifier.chances(known))
    other = train_verifier(project, model, dataclasses.replace(QUICK, seed=1))
    current = project.verifiers.current()
    assert current is not None and current.id == other.stored.id and current.parent == first.stored.id
    assert project.verifiers.roll_back().id == first.stored.id
    assert [each.id for each in project.models.all()] == [1]  # the model's own history is another
    torch.manual_seed(1)
    stranger = build_sam(model.config).eval()
    with pytest.raises(DataError, match="reads another model's embeddings"):
        load_verifier(project.path(first.stored.path), stranger)
    (tmp_path / "none.safetensors").write_bytes(b"none")
    with pytest.raises(DataError, match="is no verifier for this model"):
        load_verifier(tmp_path / "none.safetensors", model)


def test_lessons_come_from_peoples_masks_and_from_their_verdicts(drawn: tuple[Project, Truth], model: Sam) -> None:
    project, truth = drawn
    before = gather(project, model, QUICK)
    assert set(before.origins.tolist()) == {SPOILT, PROPOSED} and len(np.unique(before.images)) == 6
    kept = sorted((project.cache / "verification").iterdir())
    assert len(kept) == 6
    again = gather(project, model, QUICK)
    torch.testing.assert_close(again.features, before.features)
    prefill(project, 7, RIGHT_AND_WRONG)
    project.jobs.add(SEMI_AUTOMATIC, [NewJob(image_id=7)])
    SemiAutomaticSimulation(project, model, truth).run(kind=SEMI_AUTOMATIC)
    after = gather(project, model, QUICK)
    judged = after.origins == JUDGED
    assert (after.images[judged] == 7).all()
    assert sorted(after.verdicts[torch.from_numpy(judged)].tolist()) == [ACCEPT] * 3 + [REJECT] * 2


def test_nothing_is_learned_from_nothing(sqlite_project: Project, model: Sam) -> None:
    with pytest.raises(DataError, match="at least 2 images"):
        train_verifier(sqlite_project, model, QUICK)


class Knowing:
    """A verifier that knows which masks are right, or has it the wrong way round."""

    accept_from = reject_from = 0.9
    model = "m"

    def __init__(self, *, turned: bool = False) -> None:
        self.turned = turned

    def judge(self, model, image, masks, others=()):  # type: ignore[no-untyped-def]
        truth = [rle.encode(each) for each in OBJECTS]
        right = rle.pairwise_iou(list(masks), truth).max(axis=1) > 0.8 if masks else np.zeros(0, bool)
        right = ~right if self.turned else right
        return np.stack([np.where(right, 0.97, 0.01), np.full(len(right), 0.02), np.where(right, 0.01, 0.97)], 1)


def knowing(project: Project, model: Sam, monkeypatch: pytest.MonkeyPatch, *, turned: bool = False) -> None:
    stored = project.verifiers.add(
        hash="f" * 16, path="none", parent=None, trigger="t", num_masks=0, scores={}, verdict="promoted", promote=True
    )
    monkeypatch.setattr(training, "open_verifier", lambda *_: (Knowing(turned=turned), stored))


def verify(project: Project) -> None:
    run_pool(project, VERIFY, acceptance.VerifyTask(model=str(model_path(project))), workers=0)


def test_sure_masks_need_nobody_and_all_of_it_can_be_taken_back(
    drawn: tuple[Project, Truth], model: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _ = drawn
    project.settings.replace(project.settings.current().replace({"audit": 0}))
    knowing(project, model, monkeypatch)
    prefill(project, 7, RIGHT_AND_WRONG)
    verify(project)
    state = {each.id: each for each in project.annotations.state(7).annotations}
    assert sorted(state) == ["right0", "right1", "right2"]
    assert {each.provenance.author for each in state.values() if each.provenance} == {VERIFIER}
    assert not any(awaits(each) for each in state.values())
    done = project.outcomes.statistics(VERIFY)
    assert (done.confirmed, done.rejected) == (3, 2)
    # Without a verifier of images a person has to see whether something is missing.
    assert acceptance.open_people_queue(project) == 1
    stored = project.verifiers.current()
    assert stored is not None
    assert acceptance.undo(project, stored) == 5
    state = {each.id: each for each in project.annotations.state(7).annotations}
    assert sorted(state) == sorted(RIGHT_AND_WRONG) and all(awaits(each) for each in state.values())
    assert acceptance.undo(project, stored) == 0
    assert project.verdicts.audit(stored.id, "accept").applied == 0


def test_what_a_person_has_changed_is_not_taken_back(
    drawn: tuple[Project, Truth], model: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _ = drawn
    project.settings.replace(project.settings.current().replace({"audit": 0}))
    knowing(project, model, monkeypatch)
    prefill(project, 7, RIGHT_AND_WRONG)
    verify(project)
    mine = Annotation(id="right0", rle=rle.encode(OBJECTS[0]), provenance=Provenance(stage="review", author="ann"))
    project.annotations.change(7, 2, "ann", [Put(annotation=mine)])
    stored = project.verifiers.current()
    assert stored is not None and acceptance.undo(project, stored) == 4
    state = {each.id: each for each in project.annotations.state(7).annotations}
    kept = state["right0"].provenance
    assert kept is not None and kept.author == "ann"


def test_a_mask_that_a_person_changed_meanwhile_is_judged_anew(
    drawn: tuple[Project, Truth], model: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _ = drawn
    knowing(project, model, monkeypatch)
    prefill(project, 7, RIGHT_AND_WRONG)
    lease = project.jobs.lease(VERIFY, "me", seconds=60)
    assert lease is not None
    image = project.images.get(7)
    assert image is not None
    _, changes, said = acceptance.Look(project, model)(image)
    mine = Annotation(id="right0", rle=rle.encode(OBJECTS[0]), provenance=Provenance(stage="review", author="ann"))
    project.annotations.change(7, 1, "ann", [Put(annotation=mine)])
    with pytest.raises(DataError, match="at revision 2"):
        project.jobs.finish(lease, Outcome(), changes, verdicts=said.given, by_person=False, revision=said.revision)
    assert not project.jobs.is_finished(lease) and project.annotations.state(7).revision == 2


def test_audits_go_to_people_unseen_and_come_back(
    drawn: tuple[Project, Truth], model: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, truth = drawn
    project.settings.replace(project.settings.current().replace({"audit": 1}))
    knowing(project, model, monkeypatch)
    for image_id in range(7, 11):
        prefill(project, image_id, RIGHT_AND_WRONG)
    verify(project)
    stored = project.verifiers.current()
    assert stored is not None
    for image_id in range(7, 11):
        assert all(awaits(each) for each in project.annotations.state(image_id).annotations)
    waiting = project.verdicts.audit(stored.id, "accept")
    assert (waiting.waiting, waiting.looked_at, waiting.applied) == (12, 0, 0)
    assert acceptance.open_people_queue(project) == 4
    SemiAutomaticSimulation(project, model, truth).run(kind=SEMI_AUTOMATIC)
    for verdict, number in (("accept", 12), ("reject", 8)):
        done = project.verdicts.audit(stored.id, verdict)
        assert (done.waiting, done.looked_at, done.agreed) == (0, number, number)
        assert acceptance.acceptance(project, stored, verdict).is_on


def test_turned_labels_stop_acceptance_within_forty_audits(
    drawn: tuple[Project, Truth], model: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, truth = drawn
    project.settings.replace(project.settings.current().replace({"audit": 0.8}))
    knowing(project, model, monkeypatch, turned=True)
    stored = project.verifiers.current()
    assert stored is not None
    for image_id in range(7, 12):
        prefill(project, image_id, RIGHT_AND_WRONG)
        verify(project)
        acceptance.open_people_queue(project)
        SemiAutomaticSimulation(project, model, truth).run(kind=SEMI_AUTOMATIC)
        if not acceptance.acceptance(project, stored, "accept").is_on:
            break
    stopped = acceptance.acceptance(project, stored, "accept")
    assert not stopped.is_on and stopped.audit.looked_at <= 40 and stopped.audit.agreed == 0
    assert "nothing is accepted without a person" in stopped.word
    applied = stopped.audit.applied
    prefill(project, 12, RIGHT_AND_WRONG)
    verify(project)
    assert project.verdicts.audit(stored.id, "accept").applied == applied


def test_enough_audits_have_to_prove_it(sqlite_project: Project, add_images: Callable[..., list[int]]) -> None:
    project = sqlite_project
    add_images(project, 1)
    stored = project.verifiers.add(
        hash="f" * 16, path="none", parent=None, trigger="t", num_masks=0, scores={}, verdict="promoted", promote=True
    )

    def audited(agreed: int, of: int) -> bool:
        audit = project.verdicts.audit(stored.id, "accept")
        assert (audit.agreed, audit.looked_at) == (agreed, of)
        return acceptance.acceptance(project, stored, "accept").is_on

    def say(outcome: str, times: int) -> None:
        from sqlalchemy import update

        from anymask.engine.store.tables import machine_verdicts
        from anymask.engine.store.verdicts import insert_verdicts

        said = MachineVerdict(
            image_id=1, version_id=None, verifier_id=stored.id, verdict="accept", chance=1.0, audited=True
        )
        with project.database.writing() as connection:
            insert_verdicts(connection, [said] * times, at=0.0)
            mine = update(machine_verdicts).where(machine_verdicts.c.outcome.is_(None))
            connection.execute(mine.values(outcome=outcome))

    assert audited(0, 0)
    say("accept", 30)
    say("reject", 2)
    assert audited(30, 32)  # too few to say
    say("accept", 8)
    assert not audited(38, 40)  # 83 % at the lower end
    say("accept", 160)
    assert audited(198, 200)


def test_an_image_is_complete_when_every_object_has_a_mask(drawn: tuple[Project, Truth], model: Sam) -> None:
    project, _ = drawn
    model = build_sam(dataclasses.replace(model.config, image_size=192)).eval()  # so that a disc has several cells
    assert open_completeness(project, model) is None
    config = CompletenessConfig(width=16, depth=2, steps=200, states=8, learning_rate=5e-3)
    verifier, stored = train_completeness(project, model, config)
    assert verifier.scores["auc"] > 0.75
    pixels = cv2.imread(str(project.folder / "images" / "09.png"))[..., ::-1]
    encoded = encode(model, [np.ascontiguousarray(pixels)])[0]
    whole = [rle.encode(mask) for mask in OBJECTS]
    likely, places = verifier.look(model, encoded, whole)
    unlikely, lacking = verifier.look(model, encoded, whole[:3])
    assert likely > unlikely and len(places) <= len(lacking)
    x0, y0, x1, y1 = lacking[0]
    assert x0 < 76 < x1 and y0 < 46 < y1  # the disc that has no mask
    again = open_completeness(project, model)
    assert again is not None and again[1].id == stored.id and again[0].hash == verifier.hash
    assert again[0].look(model, encoded, whole[:3]) == (unlikely, lacking)
    torch.manual_seed(1)
    with pytest.raises(DataError, match="reads another model's embeddings"):
        load_completeness(project.path(stored.path), build_sam(model.config).eval())


def test_cells_say_how_masks_cover_them(drawn: tuple[Project, Truth], model: Sam) -> None:
    pixels = cv2.imread(str(drawn[0].folder / "images" / "00.png"))[..., ::-1]
    encoded = encode(model, [np.ascontiguousarray(pixels)])[0]
    everything = rle.encode(np.ones(SIZE, bool))
    cover = cover_of(model, encoded, [everything, everything])[0]
    assert cover[0].max() == 1 and cover[1].max() == 1 and cover[2].max() <= 0.5
    assert (cover_of(model, encoded, []) == 0).all()


class Complete:
    """A verifier of images that calls every image complete."""

    complete_from = 0.5

    def look(self, model, image, masks):  # type: ignore[no-untyped-def]
        return 0.9, []


def test_complete_images_leave_the_queue_but_for_audits(
    drawn: tuple[Project, Truth], model: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, truth = drawn
    project.settings.replace(project.settings.current().replace({"audit": 0}))
    knowing(project, model, monkeypatch)
    whole = project.completeness.add(
        hash="e" * 16, path="none", parent=None, trigger="t", num_masks=0, scores={}, verdict="promoted", promote=True
    )
    monkeypatch.setattr(completeness, "open_completeness", lambda *_: (Complete(), whole))
    prefill(project, 7, RIGHT_AND_WRONG)
    verify(project)
    assert acceptance.open_people_queue(project) == 0
    assert project.verdicts.audit(whole.id, "complete").applied == 1
    project.settings.replace(project.settings.current().replace({"audit": 1}))
    for image_id in (8, 9):
        prefill(project, image_id, {f"o{index}": mask for index, mask in enumerate(OBJECTS)})
    verify(project)
    assert acceptance.open_people_queue(project) == 2
    prefill(project, 10, {"right0": OBJECTS[0]})
    verify(project)
    acceptance.open_people_queue(project)
    SemiAutomaticSimulation(project, model, truth).run(kind=SEMI_AUTOMATIC)
    seen = project.verdicts.audit(whole.id, "complete")
    assert (seen.looked_at, seen.agreed, seen.waiting) == (3, 2, 0)  # something was missing on the third
