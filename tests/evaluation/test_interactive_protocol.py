"""The clicks that the protocol makes, on hand-made cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from anymask.errors import InputError
from anymask.evaluation.metrics import number_of_clicks
from anymask.evaluation.protocol import ProtocolResult, Reply, Request, run_protocol

Mask = np.ndarray


@dataclass
class Scripted:
    """Answers each request by a function, and remembers the batches it was asked."""

    answer: Callable[[Request], Reply]
    asked: list[list[Request]] = field(default_factory=list)

    def segment(self, requests: Sequence[Request]) -> Iterator[Reply]:
        self.asked.append(list(requests))
        return (self.answer(request) for request in requests)


def rectangle(x0: int, y0: int, x1: int, y1: int, size: tuple[int, int] = (40, 60)) -> Mask:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


TRUTH = rectangle(10, 10, 51, 31)
OTHER = rectangle(2, 33, 9, 38)


def under(request: Request, truths: Sequence[Mask]) -> Mask:
    """The true mask that a request is about: the one under its first click, or of its box."""
    if request.box is not None:
        x, y = request.box.reshape(2, 2).mean(axis=0)
    else:
        x, y = request.points[0]
    return next(mask for mask in truths if mask[int(y), int(x)])


def test_clicks_follow_the_error() -> None:
    left, surplus = rectangle(10, 10, 30, 31), TRUTH | rectangle(53, 0, 60, 7)
    script = {1: left, 2: surplus, 3: TRUTH}
    segmenter = Scripted(lambda r: Reply(masks=script[max(len(r.labels), 1)][None]))
    outcome = run_protocol(segmenter, TRUTH[None], max_clicks=5)
    last = segmenter.asked[2][0]
    # 41 × 21 pixels: the middle row is 20, and the first of its deepest pixels is 11 from the left edge.
    # Missing after the first click: columns 30 to 50. Surplus after the second: the 7 × 7 square at (53, 0).
    assert last.points.tolist() == [[20, 20], [40, 20], [56, 3]]
    assert last.labels.tolist() == [1, 1, 0]
    assert outcome.clicks[0].tolist() == pytest.approx([20 / 41, 861 / 910, 1, 1, 1])
    assert outcome.oracle.tolist() == outcome.clicks[:, 0].tolist()
    # The diagonal is 72 pixels, so bands are one pixel wide: 120 pixels around the truth, 78 around its left part.
    shared = 20 + 20 + 19
    assert outcome.boundary[0, 0] == pytest.approx(shared / (120 + 78 - shared))
    assert outcome.boundary[0, 2:].tolist() == [1, 1, 1]


def test_the_larger_error_is_clicked_whatever_its_kind() -> None:
    missing_corner = TRUTH & ~rectangle(10, 10, 15, 15)
    segmenter = Scripted(lambda r: Reply(masks=(missing_corner | rectangle(52, 32, 59, 39))[None]))
    run_protocol(segmenter, TRUTH[None], max_clicks=2)
    assert segmenter.asked[1][0].points[1].tolist() == [55, 35]
    assert segmenter.asked[1][0].labels.tolist() == [1, 0]


def test_box_is_tight_with_exclusive_edges_and_comes_alone() -> None:
    segmenter = Scripted(lambda r: Reply(masks=TRUTH[None]))
    run_protocol(segmenter, TRUTH[None], max_clicks=3)
    (request,) = segmenter.asked[-1]
    assert request.box is not None and request.box.tolist() == [10, 10, 51, 31]
    assert len(request.points) == len(request.labels) == 0 and request.memory is None


def test_a_perfect_segmenter_needs_one_click() -> None:
    truths = [TRUTH, OTHER]
    segmenter = Scripted(lambda r: Reply(masks=under(r, truths)[None], scores=np.array([0.9])))
    outcome = run_protocol(segmenter, np.stack(truths), max_clicks=10)
    assert [len(batch) for batch in segmenter.asked] == [2, 2]  # one round of clicks, one of boxes
    assert outcome.clicks.tolist() == [[1.0] * 10] * 2
    assert outcome.box.tolist() == outcome.oracle.tolist() == [1, 1]
    assert number_of_clicks(outcome.clicks, 0.9).tolist() == [1, 1]
    assert outcome.turn.tolist() == [1, 1, 0, 0] and outcome.true.tolist() == [1] * 4


def test_a_hopeless_segmenter_needs_all_clicks() -> None:
    nothing = np.zeros_like(TRUTH)
    outcome = run_protocol(Scripted(lambda r: Reply(masks=nothing[None])), TRUTH[None], max_clicks=10)
    assert not outcome.clicks.any() and not outcome.box.any() and not outcome.oracle.any()
    assert number_of_clicks(outcome.clicks, 0.85).tolist() == [10]
    assert outcome.predicted.size == outcome.true.size == outcome.turn.size == 0


def test_first_candidate_counts_and_the_oracle_takes_the_best() -> None:
    half = rectangle(10, 10, 51, 31) & rectangle(0, 0, 30, 40)
    candidates = np.stack([half, TRUTH, np.zeros_like(TRUTH)])
    scores = np.array([0.8, 0.7, 0.1])
    outcome = run_protocol(Scripted(lambda r: Reply(masks=candidates, scores=scores)), TRUTH[None], max_clicks=1)
    assert outcome.clicks[0].tolist() == pytest.approx([20 / 41])
    assert outcome.oracle.tolist() == [1]
    assert outcome.predicted.tolist() == [0.8, 0.7, 0.1] * 2
    assert outcome.true.tolist() == pytest.approx([20 / 41, 1, 0] * 2)
    assert outcome.turn.tolist() == [1, 1, 1, 0, 0, 0]


def test_memory_goes_back_to_its_own_mask_when_others_are_done() -> None:
    truths = [OTHER, TRUTH]

    def answer(request: Request) -> Reply:
        mask = under(request, truths)
        if mask is OTHER or request.box is not None:
            return Reply(masks=mask[None], memory="other")
        assert request.memory == ("clicks", len(request.labels) - 1) or len(request.labels) == 1
        return Reply(masks=(mask & rectangle(0, 0, 30, 40))[None], memory=("clicks", len(request.labels)))

    segmenter = Scripted(answer)
    run_protocol(segmenter, np.stack(truths), max_clicks=4)
    assert [len(batch) for batch in segmenter.asked] == [2, 1, 1, 1, 2]
    assert [batch[-1].memory for batch in segmenter.asked[:4]] == [None, ("clicks", 1), ("clicks", 2), ("clicks", 3)]


def test_masks_together_are_masks_one_by_one() -> None:
    rng = np.random.default_rng(3)
    truths = np.stack([TRUTH, OTHER, rectangle(20, 0, 23, 9)])

    def answer(request: Request) -> Reply:
        noise = np.random.default_rng(len(request.labels)).random(TRUTH.shape) < 0.1
        return Reply(masks=(under(request, list(truths)) ^ noise)[None], scores=rng.random(1))

    together = run_protocol(Scripted(answer), truths, max_clicks=4)
    alone = ProtocolResult.join([run_protocol(Scripted(answer), truths[i : i + 1], max_clicks=4) for i in range(3)])
    for name in ("clicks", "box", "oracle"):
        assert getattr(together, name).tolist() == getattr(alone, name).tolist()


def test_an_image_without_masks_gives_an_empty_outcome() -> None:
    outcome = run_protocol(Scripted(lambda r: Reply(masks=TRUTH[None])), np.zeros((0, 40, 60), bool), max_clicks=3)
    assert outcome.clicks.shape == (0, 3) and outcome.box.shape == (0,)


def test_what_cannot_be_played_is_refused() -> None:
    segmenter = Scripted(lambda r: Reply(masks=TRUTH[None]))
    with pytest.raises(InputError, match="empty mask"):
        run_protocol(segmenter, np.zeros((1, 40, 60), bool), max_clicks=3)
    with pytest.raises(InputError, match="max_clicks is 0"):
        run_protocol(segmenter, TRUTH[None], max_clicks=0)
    with pytest.raises(InputError, match="at least one"):
        ProtocolResult.join([])
