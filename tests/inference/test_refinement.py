"""Finer answers to first clicks and boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from anymask.errors import InputError
from anymask.geometry.frames import Frame
from anymask.inference import PLAIN, Masks, Predictor, Prompt, Refinement
from anymask.inference.prompts import to_model
from anymask.inference.refinement import tidied
from anymask.model import Sam

CLICK: dict[str, Any] = {"points": [(52, 37)]}
BOX: dict[str, Any] = {"box": (20, 10, 70, 50)}

Asking = Callable[..., Predictor]


@pytest.fixture
def asking(small_sam: Sam, picture: Callable[..., np.ndarray]) -> Asking:
    """A predictor with the 60 × 100 picture set, of a refinement: asking(passes=2)."""

    def make(**options: Any) -> Predictor:
        made = Predictor(small_sam, refinement=Refinement(**options))
        made.set_image(picture(60, 100))
        return made

    return make


@pytest.fixture
def plain(asking: Asking) -> Predictor:
    made = asking()
    made.refinement = PLAIN
    return made


def assert_same(a: Masks, b: Masks) -> None:
    assert_allclose(a.logits, b.logits, rtol=1e-4, atol=1e-5)
    assert_allclose(a.scores, b.scores, rtol=1e-4, atol=1e-6)


def test_the_best_mask_of_a_click_is_asked_again_with_its_logits(asking: Asking, plain: Predictor) -> None:
    first, found = plain.predict(**CLICK), asking(tidy=False).predict(**CLICK)
    again = plain.predict(**CLICK, mask=first.logits[0])
    assert_allclose(found.logits[0], again.logits[0], rtol=1e-4, atol=1e-5)
    assert_allclose(found.logits[1:], first.logits[1:], rtol=1e-4, atol=1e-5)
    assert_array_equal(found.scores, first.scores)
    assert np.abs(again.logits[0] - first.logits[0]).max() > 0.01


@pytest.mark.parametrize("prompt", [BOX, {**CLICK, "multimask": False}], ids=["box", "click, one mask"])
def test_one_mask_takes_the_score_of_the_second_answer(
    asking: Asking, plain: Predictor, prompt: dict[str, Any]
) -> None:
    first = plain.predict(**prompt)
    assert_same(asking(tidy=False).predict(**prompt), plain.predict(**prompt, mask=first.logits[0]))


@pytest.mark.parametrize(
    "prompt",
    [
        {"points": [(52, 37), (10, 10)]},
        {**CLICK, **BOX},
        {**BOX, "mask": np.eye(60, 100, dtype=bool)},
        {**CLICK, "mask": np.eye(60, 100, dtype=bool)},
    ],
    ids=["two clicks", "click in a box", "box and mask", "click and mask"],
)
def test_later_prompts_are_answered_as_they_were(asking: Asking, plain: Predictor, prompt: dict[str, Any]) -> None:
    found, expected = asking().predict(**prompt), plain.predict(**prompt)
    assert_array_equal(found.logits, expected.logits)
    assert_array_equal(found.masks, expected.masks)


def test_passes_go_on_until_two_answers_agree(asking: Asking, plain: Predictor) -> None:
    logits = [plain.predict(**BOX).logits[0]]
    for _ in range(3):
        logits.append(plain.predict(**BOX, mask=logits[-1]).logits[0])
    for options, passes in (({"passes": 3, "agreement": 0.0}, 1), ({"passes": 2, "agreement": 1.0}, 2)):
        found = asking(tidy=False, **options).predict(**BOX)
        assert_allclose(found.logits[0], logits[passes], rtol=1e-3, atol=1e-4)


def test_crumbs_and_pinholes_go_at_every_size(asking: Asking) -> None:
    frame, side = Frame((60, 100), 128), 32
    drawn = np.full((side, side), -4.0, np.float32)
    drawn[2:16, 4:24] = 4
    drawn[8, 12] = -2  # a pinhole
    drawn[17, 28] = drawn[2, 30] = 3  # two crumbs, one of which is clicked on
    drawn[25:, :] = 4  # padding
    prompt = to_model(Prompt(points=[(28.4 * 100 / 32, 17.4 * 100 / 32)]), frame, side)
    (found,) = tidied(torch.from_numpy(drawn)[None], prompt, frame).numpy()
    expected = drawn.copy()
    expected[8, 12], expected[2, 30] = 2, -3
    assert_array_equal(found, expected)
    assert_array_equal(tidied(torch.from_numpy(expected)[None], prompt, frame).numpy()[0], expected)


def test_all_masks_of_a_click_are_tidied(asking: Asking, plain: Predictor) -> None:
    found, first = asking(passes=0).predict(**CLICK), plain.predict(**CLICK)
    checked = to_model(Prompt(**CLICK), plain.image.frame, plain.model.mask_size)
    expected = tidied(torch.from_numpy(first.logits), checked, plain.image.frame)
    assert_array_equal(found.logits, expected.numpy())
    assert (found.logits != first.logits).any()


def test_many_prompts_are_refined_as_single_ones(asking: Asking) -> None:
    predictor = asking()
    boxes = [(20, 10, 70, 50), (1, 1, 40, 59), (50, 20, 99, 50)]
    for found, box in zip(predictor.predict_boxes(boxes), boxes, strict=True):
        assert_same(found, predictor.predict(box=box))


def test_a_session_goes_on_from_the_refined_answer(asking: Asking, plain: Predictor) -> None:
    session = asking().session()
    first = session.click(52, 37)
    assert_same(first, asking().predict(**CLICK))
    expected = plain.predict(points=[(52, 37), (20, 20)], labels=[1, 0], mask=first.logits[0])
    assert_same(session.click(20, 20, 0), expected)


@pytest.mark.parametrize("options", [{"passes": -1}, {"agreement": 1.5}])
def test_impossible_refinements_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="give 0 passes or more, and 0 to 1"):
        Refinement(**options)
