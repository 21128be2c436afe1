import numpy as np
import pytest
import torch

from anymask.geometry import masks


def test_iou_of_known_masks() -> None:
    a = np.array([[[1, 1, 0, 0]], [[0, 0, 0, 0]]], bool)
    b = np.array([[[0, 1, 1, 0]], [[1, 1, 0, 0]], [[0, 0, 0, 0]]], bool)
    assert masks.pairwise_iou(a, b).tolist() == [[1 / 3, 1, 0], [0, 0, 0]]
    assert masks.pair_iou(a, b[:2]).tolist() == [1 / 3, 0]


@pytest.mark.parametrize(("n", "m", "size"), [(0, 0, (3, 4)), (0, 2, (3, 4)), (2, 0, (3, 4)), (2, 2, (0, 4))])
def test_iou_of_nothing(n: int, m: int, size: tuple[int, int]) -> None:
    assert masks.pairwise_iou(np.zeros((n, *size), bool), np.zeros((m, *size), bool)).tolist() == [[0.0] * m] * n


def test_iou_is_exact_beyond_a_chunk_and_beyond_float32() -> None:
    a, b = np.ones((1, 4097, 4099), bool), np.ones((1, 4097, 4099), bool)
    b[0, -1, -1] = False
    pixels = 4097 * 4099  # more than 2**24
    assert masks.pairwise_iou(a, b)[0, 0] == (pixels - 1) / pixels


def test_pair_iou_of_single_masks_is_a_scalar() -> None:
    assert masks.pair_iou(np.ones((2, 2), bool), np.eye(2, dtype=bool)) == 0.5


def test_stability_of_known_logits() -> None:
    logits = np.array([[[3, 3, 0.5, -3]], [[3, 3, 3, 3]], [[-3, -3, -3, -3]], [[0.5, 0.5, 0.5, 0.5]]], np.float32)
    expected = [2 / 3, 1, 0, 0]
    ours = masks.stability_score(logits)
    assert ours.dtype == np.float32 and ours.tolist() == pytest.approx(expected)
    in_torch = masks.stability_score_torch(torch.from_numpy(logits))
    assert in_torch.dtype == torch.float32 and in_torch.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_stability_in_half_precision_and_any_shape(dtype: torch.dtype) -> None:
    logits = torch.tensor([3.0, 3, 0.5, -3]).to(dtype).expand(2, 0, 3, 4)
    assert masks.stability_score_torch(logits).shape == (2, 0)
    assert masks.stability_score_torch(logits.new_tensor([[3.0, 3, 0.5, -3]])).tolist() == pytest.approx(2 / 3)


def test_stability_of_rows_longer_than_16_bits_count() -> None:
    logits = torch.full((2, 40_000), 3.0)
    logits[0, :20_000] = 0.5
    assert masks.stability_score_torch(logits).item() == 0.75
