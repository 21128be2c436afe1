import numpy as np
import pytest

from anymask.errors import InputError
from anymask.geometry import boxes, nms, rle


def greedy_by_hand(overlaps: np.ndarray, scores: np.ndarray) -> list[int]:
    """Plain greedy suppression: one candidate after the other against all that were kept."""
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if not any(overlaps[i, j] for j in kept):
            kept.append(i)
    return kept


def random_boxes(n: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(n)
    corner = generator.random((n, 2), np.float32) * spread
    sides = generator.random((n, 2), np.float32) * 60
    return np.concatenate([corner, corner + sides], axis=1), generator.integers(0, 50, n) / 50


@pytest.mark.parametrize(("n", "spread"), [(1, 10), (20, 50), (300, 100), (700, 2000)])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_boxes_as_one_by_one(n: int, spread: float, threshold: float) -> None:
    candidates, scores = random_boxes(n, spread)
    expected = greedy_by_hand(boxes.pairwise_iou(candidates, candidates) > threshold, scores)
    assert nms.box_nms(candidates, scores, threshold).tolist() == expected


def test_categories_do_not_suppress_each_other() -> None:
    candidates, scores = random_boxes(200, 60)
    categories = np.arange(200) % 3
    overlaps = (boxes.pairwise_iou(candidates, candidates) > 0.2) & (categories[:, None] == categories)
    assert nms.box_nms(candidates, scores, 0.2, categories).tolist() == greedy_by_hand(overlaps, scores)


def test_exactly_at_the_threshold_both_stay() -> None:
    candidates = np.array([[0, 0, 2, 2], [0, 0, 2, 1]])  # IoU 0.5
    assert nms.box_nms(candidates, np.array([0.1, 0.2]), 0.5).tolist() == [1, 0]
    assert nms.box_nms(candidates, np.array([0.1, 0.2]), 0.49).tolist() == [1]


def test_ties_go_to_the_earlier_one() -> None:
    assert nms.box_nms(np.array([[0, 0, 9, 9]] * 40), np.ones(40), 0.5).tolist() == [0]
    apart = np.arange(100)[:, None] * 10 + np.array([0, 0, 9, 9])
    assert nms.box_nms(apart, np.ones(100), 0.5).tolist() == list(range(100))


def test_boxes_without_area_are_kept() -> None:
    assert sorted(nms.box_nms(np.zeros((3, 4)), np.ones(3), 0.5).tolist()) == [0, 1, 2]


def test_nothing_to_suppress() -> None:
    assert nms.box_nms(np.zeros((0, 4)), np.zeros(0), 0.5).shape == (0,)
    assert nms.mask_nms([], np.zeros(0), 0.5).shape == (0,)
    assert nms.mask_nms(np.zeros((0, 3, 3), bool), np.zeros(0), 0.5).dtype == np.int64


def test_as_many_scores_as_candidates() -> None:
    with pytest.raises(InputError, match="3 candidates need as many scores, not 2"):
        nms.box_nms(np.zeros((3, 4)), np.zeros(2), 0.5)


def test_masks_as_one_by_one() -> None:
    generator = np.random.default_rng(0)
    masks = np.zeros((150, 24, 32), bool)
    for mask, (y, x) in zip(masks, generator.integers(0, 24, (150, 2)), strict=True):
        mask[y : y + 7, x : x + 9] = True
    scores = generator.integers(0, 30, 150) / 30
    flat = masks.reshape(150, -1).astype(np.int64)
    shared = flat @ flat.T
    iou = shared / (flat.sum(1)[:, None] + flat.sum(1) - shared)
    expected = greedy_by_hand(iou > 0.5, scores)
    assert 5 < len(expected) < 150
    assert nms.mask_nms(masks, scores, 0.5).tolist() == expected
    assert nms.mask_nms(rle.encode_many(masks), scores, 0.5).tolist() == expected


def test_boxes_of_masks_that_cross_do_not_count() -> None:
    cross = np.zeros((2, 9, 9), bool)
    cross[0, 4], cross[1, :, 4] = True, True
    assert len(nms.mask_nms(cross, np.ones(2), 0.2)) == 2
