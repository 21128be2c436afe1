"""Masks of everything against Meta's generator: the embedded model's weights in Meta's own prompt encoder and decoder.

The encoder is the embedded model's, behind Meta's face; random weights would leave no mask to compare.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

import anymask
from anymask.compat import segment_anything as drop_in
from anymask.data.images import read_image
from anymask.geometry import rle
from anymask.model import Sam, build_sam
from anymask.samples import sample_path

LOWERED = {"pred_iou_thresh": 0.2, "stability_score_thresh": 0.5}
"""What the embedded model, which is modest, reaches often enough."""


class OurEncoder(nn.Module):
    """Our image encoder as Meta's predictor calls one."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam, self.img_size = sam, sam.image_size

    def forward(self, images: Tensor) -> Tensor:
        return self.sam.encode(images).features


@dataclass(frozen=True)
class Pair:
    """One set of weights in Meta's classes and in ours."""

    package: ModuleType
    theirs: nn.Module
    ours: Sam


def _plain(model: Sam) -> Sam:
    """Return the model without what Meta's decoder has no place for: skips, and a ranker behind it."""
    decoder = dataclasses.replace(model.config.decoder, skip_widths=None, ranker_width=None)
    plain = build_sam(dataclasses.replace(model.config, decoder=decoder)).eval()
    assert not plain.load_state_dict(model.state_dict(), strict=False).missing_keys
    return plain


@pytest.fixture(scope="module")
def pair(meta_sam: ModuleType) -> Iterator[Pair]:
    ours = _plain(anymask.load("anymask-s"))
    config, parts = ours.config, meta_sam.modeling
    decoder, width, cells = config.decoder, config.width, config.embedding_size
    theirs = parts.Sam(
        image_encoder=OurEncoder(ours),
        prompt_encoder=parts.PromptEncoder(
            embed_dim=width,
            image_embedding_size=(cells, cells),
            input_image_size=(config.image_size, config.image_size),
            mask_in_chans=config.mask_channels,
        ),
        mask_decoder=parts.MaskDecoder(
            transformer_dim=width,
            transformer=parts.TwoWayTransformer(
                depth=decoder.depth, embedding_dim=width, mlp_dim=decoder.mlp_dim, num_heads=decoder.num_heads
            ),
            iou_head_depth=decoder.iou_depth,
            iou_head_hidden_dim=decoder.iou_hidden,
        ),
        pixel_mean=config.pixel_mean,
        pixel_std=config.pixel_std,
    )
    theirs.prompt_encoder.load_state_dict(ours.prompt_encoder.state_dict())
    theirs.mask_decoder.load_state_dict(ours.mask_decoder.state_dict())
    yield Pair(meta_sam, theirs.eval(), ours)


def both(pair: Pair, image: np.ndarray, **options: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Meta's records and ours."""
    theirs = pair.package.SamAutomaticMaskGenerator(pair.theirs, **options)
    ours = drop_in.SamAutomaticMaskGenerator(drop_in.Sam.of(pair.ours), **options)
    return theirs.generate(image), ours.generate(image)


def stored(records: list[dict[str, Any]]) -> list[rle.RLE]:
    return [rle.checked(record["segmentation"]) for record in records]


def matched(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> float:
    """The share of their masks that one of ours equals at an IoU of 0.9."""
    return float((rle.pairwise_iou(stored(theirs), stored(ours)).max(axis=1) >= 0.9).mean())


def assert_alike(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> None:
    """Masks that are the same have the same numbers."""
    overlaps = rle.pairwise_iou(stored(theirs), stored(ours))
    compared = 0
    for index, record in enumerate(theirs):
        found = ours[int(overlaps[index].argmax())]
        if overlaps[index].max() < 0.999:
            continue
        compared += 1
        assert set(found) == set(record)
        assert found["predicted_iou"] == pytest.approx(record["predicted_iou"], abs=1e-3)
        assert found["stability_score"] == pytest.approx(record["stability_score"], abs=2e-3)
        np.testing.assert_allclose(found["bbox"], record["bbox"], atol=1)
        np.testing.assert_allclose(found["area"], record["area"], rtol=2e-3, atol=2)
        np.testing.assert_allclose(found["crop_box"], record["crop_box"])
    assert compared > 0.9 * len(theirs)


def test_masks_are_metas(pair: Pair) -> None:
    """Over three pictures, as what is near a threshold or a tie in one of them decides on several masks beside it."""
    shares = []
    for name in ("coffee", "astronaut", "camera"):
        image = read_image(sample_path(name))
        theirs, ours = both(pair, image, points_per_side=16, output_mode="coco_rle", **LOWERED)
        assert len(theirs) > 20
        shares.append([len(theirs), matched(theirs, ours), len(ours), matched(ours, theirs)])
        assert_alike(theirs, ours)
    num_theirs, theirs_found, num_ours, ours_found = np.array(shares).T
    assert np.average(theirs_found, weights=num_theirs) >= 0.97, shares
    assert np.average(ours_found, weights=num_ours) >= 0.97, shares


def test_masks_of_crops_are_metas(pair: Pair) -> None:
    image = read_image(sample_path("camera"))
    options = {"points_per_side": 8, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2}
    theirs, ours = both(pair, image, output_mode="coco_rle", **options, **LOWERED)
    assert len({tuple(record["crop_box"]) for record in theirs}) > 2
    assert matched(theirs, ours) >= 0.97 and matched(ours, theirs) >= 0.97
    assert_alike(theirs, ours)


def test_cleaned_masks_are_metas(pair: Pair) -> None:
    image = read_image(sample_path("coffee"))
    options = {"points_per_side": 8, "min_mask_region_area": 200, "output_mode": "uncompressed_rle"}
    theirs, ours = both(pair, image, **options, **LOWERED)
    assert matched(theirs, ours) >= 0.97 and matched(ours, theirs) >= 0.97


@pytest.mark.parametrize("output_mode", ["binary_mask", "uncompressed_rle", "coco_rle"])
def test_segmentations_come_in_metas_forms(pair: Pair, output_mode: str) -> None:
    image = read_image(sample_path("cat"))[:120, :200]
    theirs, ours = both(pair, image, points_per_side=3, output_mode=output_mode, **LOWERED)
    assert len(theirs) == len(ours) > 0
    for their, our in zip(theirs, ours, strict=True):
        a, b = their["segmentation"], our["segmentation"]
        assert type(a) is type(b)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype == np.bool_
            assert np.count_nonzero(a != b) <= 1e-3 * a.size
        else:
            assert list(a) == list(b) and type(a["counts"]) is type(b["counts"])
            assert rle.pairwise_iou([rle.checked(a)], [rle.checked(b)])[0, 0] > 0.99
        for key in set(their) - {"segmentation"}:
            assert type(their[key]) is type(our[key])
            np.testing.assert_allclose(our[key], their[key], rtol=1e-2, atol=1)
