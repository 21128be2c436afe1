from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from anymask.errors import PromptError
from anymask.inference import Masks, Predictor
from anymask.model import Sam


def assert_same(a: Masks, b: Masks) -> None:
    assert_allclose(a.logits, b.logits, rtol=1e-4, atol=1e-5)
    assert_allclose(a.scores, b.scores, rtol=1e-4, atol=1e-6)


def test_each_click_is_asked_with_all_before_and_the_best_logits(predictor: Predictor) -> None:
    session = predictor.session()
    first = session.click(52, 37)
    second = session.click(20, 20, 0)
    third = session.box(5, 5, 90, 55)
    assert_same(first, predictor.predict(points=[(52, 37)]))
    points = {"points": [(52, 37), (20, 20)], "labels": [1, 0]}
    assert_same(second, predictor.predict(**points, mask=first.logits[0]))
    assert_same(third, predictor.predict(**points, box=(5, 5, 90, 55), mask=second.logits[0]))
    assert [len(step.points) for step in session.history] == [1, 2, 2]
    assert session.result is third


def test_a_chosen_mask_goes_on_in_place_of_the_best(predictor: Predictor) -> None:
    session = predictor.session()
    first = session.click(52, 37)
    assert session.chosen == 0
    assert_array_equal(session.selected, first.best)
    assert session.choose(2) is first
    assert session.chosen == 2
    assert_array_equal(session.selected, first.masks[2])
    second = session.click(20, 20)
    assert_same(second, predictor.predict(points=[(52, 37), (20, 20)], mask=first.logits[2]))
    assert session.chosen == 0
    session.undo()
    assert session.chosen == 2
    session.undo()
    assert session.chosen == 0 and session.result is first


def test_a_mask_takes_the_place_of_the_one_before(predictor: Predictor) -> None:
    drawn = np.zeros((60, 100), bool)
    drawn[10:40, 30:80] = True
    session = predictor.session()
    assert_same(session.mask(drawn), predictor.predict(mask=drawn))
    clicked = session.click(52, 37)
    assert_same(session.mask(drawn), predictor.predict(points=[(52, 37)], mask=drawn))
    assert len(clicked) == 1


def test_undo_and_redo_show_every_result_again_and_compute_nothing(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = predictor.session()
    results = [session.click(52, 37), session.click(20, 20), session.box(5, 5, 90, 55)]
    monkeypatch.setattr(Sam, "answer", lambda *_, **__: pytest.fail("decoded"))
    assert session.can_undo and not session.can_redo
    assert session.undo() is results[1]
    assert session.undo() is results[0]
    assert session.undo() is None
    assert not session.can_undo and session.result is None and session.selected is None
    assert session.undo() is None
    assert session.history == ()
    assert [session.redo() for _ in range(4)] == [*results, results[2]]
    assert not session.can_redo


def test_a_new_step_drops_those_taken_back(predictor: Predictor) -> None:
    session = predictor.session()
    session.click(52, 37)
    session.click(20, 20)
    session.undo()
    before = session.history
    result = session.click(70, 50)
    assert not session.can_redo
    assert session.result is result
    assert len(session.history) == 2 and len(before) == 1
    assert session.history[1].points == ((52, 37), (70, 50))


@pytest.mark.parametrize(
    "act",
    [
        lambda session: session.click(500, 5),
        lambda session: session.click(5, 5, 3),
        lambda session: session.box(5, 5, 5, 5),
        lambda session: session.mask(np.zeros((3, 3), bool)),
        lambda session: session.choose(3),
        lambda session: session.choose(-1),
    ],
)
def test_a_bad_step_changes_nothing(predictor: Predictor, act: Callable[[Any], object]) -> None:
    session = predictor.session()
    first = session.click(52, 37)
    session.click(20, 20)
    session.undo()
    with pytest.raises(PromptError):
        act(session)
    assert session.result is first
    assert session.can_redo


def test_nothing_can_be_chosen_before_the_first_click(predictor: Predictor) -> None:
    with pytest.raises(PromptError, match="click first"):
        predictor.session().choose(0)


def test_a_session_keeps_its_image(predictor: Predictor, picture: Callable[..., np.ndarray]) -> None:
    expected = predictor.predict(points=[(52, 37)])
    session = predictor.session()
    predictor.set_image(picture(30, 20, 5))
    assert_same(session.click(52, 37), expected)
