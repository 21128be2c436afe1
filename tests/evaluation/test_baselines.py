"""The classical methods that the accuracy benchmark compares with, on pictures that each of them can do."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anymask.evaluation.protocol import Request, Segmenter, run_protocol
from benchmark_modules import load_benchmark

pytest.importorskip("skimage", reason="the baselines need scikit-image")


baselines = load_benchmark("baselines")
TUNED: dict[str, Segmenter] = baselines.tuned()
LOOKING = [name for name in TUNED if name != "disc or box"]


def two_squares() -> tuple[np.ndarray, np.ndarray]:
    """A red and a blue square on green, a little noise, and their masks."""
    image = np.full((120, 160, 3), (40, 150, 40), np.uint8)
    masks = np.zeros((2, 120, 160), bool)
    masks[0, 30:90, 20:70], masks[1, 40:80, 95:140] = True, True
    image[masks[0]], image[masks[1]] = (200, 40, 40), (40, 40, 200)
    noise = np.random.default_rng(0).integers(-3, 4, image.shape)
    return (image + noise).astype(np.uint8), masks


@pytest.mark.parametrize("name", LOOKING)
def test_plain_objects_are_found(name: str) -> None:
    image, masks = two_squares()
    outcome = run_protocol(TUNED[name].prepare(image), masks, max_clicks=3)
    # Blurring and shrinking cost a rim of a few pixels, a quarter of the smaller square.
    assert outcome.clicks.max(axis=1).min() > 0.7
    assert outcome.box.min() > 0.7
    assert outcome.predicted.size == 0


@pytest.mark.parametrize("name", list(TUNED))
def test_answers_do_not_depend_on_what_was_asked_before(name: str) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (70, 50, 3), dtype=np.uint8)
    requests = [
        Request(points=np.array([[10, 60]], np.float32), labels=np.array([1])),
        Request(points=np.array([[10, 60], [40, 5], [11, 60]], np.float32), labels=np.array([1, 1, 0])),
        Request(points=np.zeros((0, 2), np.float32), labels=np.zeros(0, np.int64), box=np.array([5.0, 5, 30, 66])),
    ]
    prepared = TUNED[name].prepare(image)
    together = [reply.masks for reply in prepared.segment(requests)]
    for request, masks in zip(requests, together, strict=True):
        assert masks.shape == (1, 70, 50) and masks.dtype == np.bool_
        (alone,) = TUNED[name].prepare(image).segment([request])
        assert (alone.masks == masks).all()
    x0, y0, x1, y1 = 5, 5, 30, 66
    outside = together[2][0].copy()
    outside[y0:y1, x0:x1] = False
    assert not outside.any()


@pytest.mark.parametrize("name", list(TUNED))
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (40, 2)])
def test_the_oddest_images_and_prompts_are_answered(name: str, size: tuple[int, int]) -> None:
    height, width = size
    image = np.full((*size, 3), 99, np.uint8)
    corner = np.array([[width - 1, height - 1]], np.float32)
    requests = [
        Request(points=corner, labels=np.array([1])),
        Request(points=np.repeat(corner, 2, axis=0), labels=np.array([1, 0])),
        *(
            Request(points=np.zeros((0, 2), np.float32), labels=np.zeros(0, np.int64), box=np.array(box, np.float32))
            for box in ((0, 0, width, height), (0, 0, 1, 1))
        ),
    ]
    assert [reply.masks.shape for reply in TUNED[name].prepare(image).segment(requests)] == [(1, *size)] * 4


@pytest.mark.parametrize("name", ["Felzenszwalb", "flood fill"])
def test_a_click_off_the_object_takes_its_region_away(name: str) -> None:
    image, masks = two_squares()
    points = np.array([[45, 60], [117, 60], [118, 60]], np.float32)
    prepared = TUNED[name].prepare(image)
    both, one = prepared.segment(
        [
            Request(points=points[:2], labels=np.array([1, 1])),
            Request(points=points[[0, 2]], labels=np.array([1, 0])),
        ]
    )
    assert both.masks[0][masks[1]].mean() > 0.75 > 0.1 > one.masks[0][masks[1]].mean()
    assert one.masks[0][masks[0]].mean() > 0.75


def test_the_kept_settings_are_values_that_tuning_tries_on_training_data() -> None:
    kept = json.loads(baselines.SETTINGS.read_text())
    assert set(kept) == set(baselines.METHODS) == set(baselines.GRIDS)
    for name, entry in kept.items():
        assert set(entry["settings"]) == set(baselines.GRIDS[name])
        for setting, value in entry["settings"].items():
            assert value in baselines.GRIDS[name][setting]
        assert all(tar.endswith("-train.tar") for tar in entry["tuned_on"]["tars"])
