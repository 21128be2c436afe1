"""Which masks a report shows, and that they are those that the figures are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from anymask.data.sample import Sample
from anymask.evaluation.examples import collect_examples, draw_examples, first_ious, same_masks, select_masks
from anymask.evaluation.protocol import Reply, Request
from anymask.evaluation.single_point import SinglePointConfig, evaluate_set


class Squares:
    """Image i has i + 1 squares of growing size."""

    def __len__(self) -> int:
        return 4

    def key(self, index: int) -> str:
        return f"squares/{index}"

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        masks = np.zeros((index + 1, 40, 60), bool)
        for number, mask in enumerate(masks):
            mask[4 : 10 + 5 * number, 3 : 9 + 6 * number] = True
        if max_masks is not None and len(masks) > max_masks:
            assert rng is not None
            masks = masks[np.sort(rng.choice(len(masks), max_masks, replace=False))]
        return Sample(key=self.key(index), image=np.full((40, 60, 3), index, np.uint8), masks=masks)


class Window:
    """Answers with a square of 13 pixels around the first click."""

    def prepare(self, image: np.ndarray) -> Window:
        self.size = image.shape[:2]
        return self

    def segment(self, requests: Sequence[Request]) -> Iterator[Reply]:
        y, x = np.mgrid[: self.size[0], : self.size[1]]
        for request in requests:
            cx, cy = request.points[0] if len(request.points) else (5, 5)
            yield Reply(masks=((abs(x - cx) < 7) & (abs(y - cy) < 7))[None])


def test_extremes_are_picked_from_each_set_in_turn() -> None:
    values = {"a": np.array([0.1, 0.9, 0.5]), "b": np.array([0.95, 0.2])}
    assert select_masks(values, "best", 3) == [("b", 0), ("a", 1), ("a", 2)]
    assert select_masks(values, "worst", 2) == [("a", 0), ("b", 1)]
    assert select_masks(values, "middle", 1) == [("a", 2)]
    assert len(select_masks(values, "best", 99)) == 5
    assert select_masks({}, "best", 3) == []


@pytest.mark.parametrize("max_masks", [None, 2])
def test_what_is_shown_is_what_was_measured(max_masks: int | None) -> None:
    config = SinglePointConfig(clicks=(1,), max_clicks=1, max_masks=max_masks)
    outcomes = {"squares": evaluate_set(Window(), "squares", Squares(), config)}
    everything = select_masks(first_ious(outcomes), "best", 99)
    examples = collect_examples(
        everything, {"window": {"squares": Squares()}}, {"window": outcomes}, {"window": Window}, config
    )
    assert len(examples) == len(outcomes["squares"].outcome.box)
    for example in examples:
        mask = example.masks["window"]
        assert (mask & example.truth).sum() / (mask | example.truth).sum() == pytest.approx(example.ious["window"])
    assert [c.ious["window"] for c in examples] == sorted((c.ious["window"] for c in examples), reverse=True)


def test_a_segmenter_is_shown_images_in_its_own_colours() -> None:
    class Dark(Squares):
        def sample(self, index: int, **options: Any) -> Sample:
            sample = super().sample(index, **options)
            return Sample(key=sample.key, image=sample.image + np.uint8(100), masks=sample.masks)

    class Noting(Window):
        seen: ClassVar[list[int]] = []

        def prepare(self, image: np.ndarray) -> Window:
            self.seen.append(int(image[0, 0, 0]))
            return super().prepare(image)

    config = SinglePointConfig(clicks=(1,), max_clicks=1)
    outcomes = {"squares": evaluate_set(Window(), "squares", Squares(), config)}
    sets = {"one": {"squares": Squares()}, "two": {"squares": Dark()}}
    segmenters = {"one": Window, "two": Noting}
    (example,) = collect_examples([("squares", 1)], sets, {"one": outcomes, "two": outcomes}, segmenters, config)
    assert Noting.seen == [101] and example.image[0, 0, 0] == 1 and set(example.masks) == {"one", "two"}


def test_masks_are_the_same_where_images_and_their_masks_are() -> None:
    config = SinglePointConfig(clicks=(1,), max_clicks=1)
    one = {"squares": evaluate_set(Window(), "squares", Squares(), config)}
    part = SinglePointConfig(clicks=(1,), max_clicks=1, max_images=2)
    other = {"squares": evaluate_set(Window(), "squares", Squares(), part)}
    assert same_masks(one, one) and not same_masks(one, other) and not same_masks(one, {})


def test_masks_to_rate_are_large_enough_and_one_an_image() -> None:
    drawn = list(draw_examples(Window(), "window", {"squares": Squares()}, 3, 15 * 15, 0))
    assert len(drawn) == 2  # images 2 and 3 alone have a square that large
    assert all(example.truth.sum() >= 225 for example in drawn)
    assert len({int(example.image[0, 0, 0]) for example in drawn}) == 2
