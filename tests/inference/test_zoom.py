"""Zooming in: where the crops lie, what is asked in them, and what it does to small objects and to no others."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

import anymask
from anymask import Predictor, Refinement
from anymask.geometry.frames import Frame
from anymask.inference import answers
from anymask.inference.prompts import Prompt, to_model
from anymask.inference.zoom import MARGIN, closer, window_around
from anymask.model import Sam

SIZE = (900, 1200)
NO_ZOOM = Refinement(zoom=False)


@pytest.fixture(scope="module")
def model() -> Sam:
    return anymask.load("anymask-s", runtime="torch")


@pytest.fixture(scope="module")
def dots() -> tuple[np.ndarray, list[np.ndarray]]:
    """Dark shapes some 24 pixels wide on a large light ground, and their masks."""
    rng = np.random.default_rng(3)
    image = np.full((*SIZE, 3), 190, np.uint8) + rng.integers(0, 20, (*SIZE, 3), np.uint8)
    masks = []
    for centre in ((200, 300), (620, 410), (1000, 700)):
        mask = np.zeros(SIZE, np.uint8)
        cv2.ellipse(mask, centre, (16, 9), 30, 0, 360, 1, -1)
        cv2.rectangle(mask, centre, (centre[0] + 14, centre[1] + 14), 1, -1)
        image[mask > 0] = (60, 40, 110)
        masks.append(mask.astype(bool))
    return cv2.GaussianBlur(image, (0, 0), 0.8), masks


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_window_holds_its_object_with_room_around_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        x0, y0 = rng.uniform(0, 1100), rng.uniform(0, 800)
        box = np.array([x0, y0, min(x0 + rng.uniform(1, 400), 1200), min(y0 + rng.uniform(1, 400), 900)])
        window = window_around(box, SIZE)
        assert window is not None
        assert window.left <= box[0] and window.top <= box[1] and window.right >= box[2] and window.bottom >= box[3]
        assert 0 <= window.left and 0 <= window.top and window.right <= 1200 and window.bottom <= 900
        assert window.right - window.left >= min(MARGIN * (box[2:] - box[:2]).max(), 900) - 1


def test_large_objects_have_no_window_and_neighbours_share_one() -> None:
    assert window_around(np.array([100.0, 100, 800, 700]), SIZE) is None
    assert window_around(np.array([300.0, 300, 330, 330]), SIZE) == window_around(
        np.array([302.0, 298, 331, 329]), SIZE
    )


def test_what_is_asked_in_the_crop_are_the_clicks_that_lie_in_it() -> None:
    frame = Frame(SIZE, 320)
    found = np.zeros(SIZE, bool)
    found[395:415, 600:640] = True
    prompt = Prompt(points=[(620, 405), (630, 400), (50, 50)], labels=[1, 0, 0])
    looked = closer(to_model(prompt, frame, 80), found, frame)
    assert looked is not None
    window, question = looked
    assert np.allclose(
        np.asarray(question.points) + np.array([window.left, window.top]), [(620, 405), (630, 400)], atol=1e-3
    )
    assert np.asarray(question.labels).tolist() == [1, 0]
    assert np.asarray(question.mask).sum() == found.sum()


def test_a_lone_box_is_asked_as_a_box() -> None:
    frame = Frame(SIZE, 320)
    looked = closer(to_model(Prompt(box=(600, 395, 640, 415)), frame, 80), np.zeros(SIZE, bool), frame)
    assert looked is not None
    window, question = looked
    assert question.mask is None and question.points is None
    corner = np.array([window.left, window.top] * 2)
    assert np.allclose(np.asarray(question.box) + corner, (600, 395, 640, 415), atol=1e-3)


def test_a_rough_mask_alone_and_an_empty_answer_are_left_alone() -> None:
    frame = Frame(SIZE, 320)
    rough = np.zeros(SIZE, bool)
    rough[395:415, 600:640] = True
    assert closer(to_model(Prompt(mask=rough), frame, 80), rough, frame) is None
    assert closer(to_model(Prompt(points=[(620, 405)]), frame, 80), np.zeros(SIZE, bool), frame) is None


@pytest.mark.parametrize("ask", ["click", "box"])
def test_small_objects_are_drawn_better(model: Sam, dots: tuple[np.ndarray, list[np.ndarray]], ask: str) -> None:
    image, truths = dots
    plain, zoomed = (Predictor(model, refinement=Refinement(zoom=zoom)) for zoom in (False, True))
    plain.set_image(image)
    zoomed.set_image(image)
    gained = []
    for truth in truths:
        ys, xs = np.nonzero(truth)
        box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        prompt = {"box": box} if ask == "box" else {"points": [(float(xs.mean()), float(ys.mean()))]}
        before, after = plain.predict(**prompt), zoomed.predict(**prompt)
        gained.append(iou(after.best, truth) - iou(before.best, truth))
        assert np.array_equal(before.scores, after.scores) and np.array_equal(before.logits, after.logits)
        assert np.array_equal(before.masks[1:], after.masks[1:])
    assert np.mean(gained) > 0.05 and min(gained) > -0.02


def test_an_answer_does_not_depend_on_what_was_asked_before(
    model: Sam, dots: tuple[np.ndarray, list[np.ndarray]]
) -> None:
    image, _ = dots
    one, other = Predictor(model), Predictor(model)
    one.set_image(image)
    other.set_image(image)
    one.predict(points=[(205, 305)])
    assert np.array_equal(one.predict(points=[(200, 300)]).masks, other.predict(points=[(200, 300)]).masks)


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many images each call of the encoder was given."""
    seen: list[int] = []
    real = answers.runtime_of

    def counting(model: Sam):
        runtime = real(model)

        class Counting:
            def encode(self, images):
                seen.append(len(images))
                return runtime.encode(images)

            answer = runtime.answer

        return Counting()

    monkeypatch.setattr(answers, "runtime_of", counting)
    yield seen


def test_later_clicks_on_an_object_find_its_crop_encoded(
    model: Sam, dots: tuple[np.ndarray, list[np.ndarray]], encodings: list[int]
) -> None:
    predictor = Predictor(model)
    predictor.set_image(dots[0])
    session = predictor.session()
    for x, y, label in ((620, 410, 1), (626, 418, 1), (640, 395, 0)):
        session.click(x, y, label)
    assert encodings == [1, 1]


def test_large_objects_cost_no_further_encoding(
    model: Sam, dots: tuple[np.ndarray, list[np.ndarray]], encodings: list[int]
) -> None:
    predictor = Predictor(model)
    predictor.set_image(dots[0])
    predictor.predict(box=(100, 100, 1000, 800))
    assert encodings == [1]


def test_an_embedding_alone_is_answered_without_crops(model: Sam, dots: tuple[np.ndarray, list[np.ndarray]]) -> None:
    image, _ = dots
    whole, bare = Predictor(model, refinement=NO_ZOOM), Predictor(model, refinement=Refinement(zoom=True))
    whole.set_image(image)
    bare.set_embedding(whole.image.embedding, SIZE)
    click = [(620.0, 410.0)]
    assert np.array_equal(whole.predict(points=click).masks, bare.predict(points=click).masks)


def test_models_of_a_large_input_zoom_in_only_when_told() -> None:
    assert Refinement().zooms(320) and not Refinement().zooms(1024)
    assert Refinement(zoom=True).zooms(1024) and not NO_ZOOM.zooms(320)
