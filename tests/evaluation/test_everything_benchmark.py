"""What the benchmark of everything counts, and the trained decoder in Meta's shapes that it runs on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anymask.geometry import rle
from benchmark_modules import load_benchmark

load_benchmark("machine")  # which the others import, as they do this:
load_benchmark("stand_ins")
peers = load_benchmark("peers")
widened = load_benchmark("widened")
everything = load_benchmark("everything")
scaling = load_benchmark("scaling")


def squares(*corners: int, side: int = 20) -> list[rle.RLE]:
    masks = np.zeros((len(corners), 100, 100), np.bool_)
    for mask, corner in zip(masks, corners, strict=True):
        mask[corner : corner + side, corner : corner + side] = True
    return rle.encode_many(masks)


def outcome(seconds: float, *corners: int) -> object:
    return everything.Outcome(seconds=seconds, encoder_seconds=1.0, peak_mib=100 * seconds, masks=squares(*corners))


def test_a_mask_is_matched_by_one_that_overlaps_nearly_all_of_it() -> None:
    assert everything.matched_share(squares(0, 30, 60), squares(60, 0)) == pytest.approx(2 / 3)
    assert everything.matched_share(squares(0), squares(1)) == 0  # 19² of 20² + 20² - 19²
    assert everything.matched_share(squares(0), squares(1), threshold=0.8) == 1


def test_none_of_nothing_is_missed() -> None:
    assert everything.matched_share([], squares(0)) == 1
    assert everything.matched_share(squares(0), []) == 0


def test_ratios_are_taken_round_by_round() -> None:
    rounds = {
        "anymask": [outcome(1, 0, 30), outcome(4, 0, 30)],
        "anymask, adaptive": [outcome(0.5, 0), outcome(1, 0)],
        "segment-anything": [outcome(8, 0, 30), outcome(16, 0, 30)],
        "transformers": [None, None],
    }
    table = everything.summary(rounds)
    theirs = table["segment-anything"]
    assert theirs["times ours"] == pytest.approx(6)  # of 8 / 1 and 16 / 4
    assert theirs["times adaptive"] == pytest.approx(16)
    assert theirs["matched by ours"] == 1 and theirs["matched by adaptive"] == 0.5
    assert theirs["end to end"] == pytest.approx(13) and theirs["peak_mib"] == pytest.approx(1600)
    assert table["transformers"] == {}


def test_a_cost_is_what_one_more_costs() -> None:
    assert scaling.slope([1, 2, 4], [10.5, 13.5, 19.5]) == pytest.approx(3)
    assert scaling.slope([2, 2], [1, 5]) is None
    assert scaling.amount("masks", None, outcome(1, 0, 30)) == 2


def test_pictures_have_the_megapixels_asked_for() -> None:
    for megapixels in (0.1, 2.0):
        image = everything.picture(megapixels)
        assert image.dtype == np.uint8 and image.shape[2] == 3
        assert image.shape[0] * image.shape[1] == pytest.approx(megapixels * 1e6, rel=0.01)


def test_suppression_in_torchvisions_place() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [50, 50, 60, 60]])
    kept = peers.batched_nms(boxes, torch.tensor([0.5, 0.9, 0.4, 0.1]), torch.tensor([0, 0, 1, 0]), 0.7)
    assert kept.tolist() == [1, 2, 3]


@pytest.mark.parametrize("num_points", [1, 3])
def test_the_widened_decoder_computes_what_the_embedded_one_does(num_points: int) -> None:
    assert widened.largest_difference(num_points) < 1e-4


def test_widening_an_encoder_doubles_its_channels() -> None:
    model = widened.widened()
    images = torch.randn(1, 3, widened.SIDE, widened.SIDE)
    with torch.inference_mode():
        features = model.encode(images).features
    assert features.shape == (1, 256, 64, 64)
    assert torch.equal(features[:, ::2], features[:, 1::2])
    assert model.image_encoder.seconds > 0
