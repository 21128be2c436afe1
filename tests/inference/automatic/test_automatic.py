from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pixel_regions
from anymask.errors import ImageError, InputError
from anymask.geometry import boxes, masks, nms, points, rle
from anymask.inference import AutomaticMasks, AutomaticOptions, MaskRecord
from anymask.inference.answers import encode, evaluating
from anymask.inference.resize import upsample_logits
from anymask.model import Prompts, Sam

LOWERED = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.5}
"""At 64 samples per side a small disc's edge is a large part of it."""


def disc(radius: float) -> np.ndarray:
    y, x = np.mgrid[:200, :300]
    return (x - 100) ** 2 + (y - 100) ** 2 < radius**2


def iou(record: MaskRecord, mask: np.ndarray) -> float:
    return float(rle.pairwise_iou([record.rle], [rle.encode(mask)])[0, 0])


def assert_consistent(records: list[MaskRecord], size: tuple[int, int]) -> None:
    for record in records:
        mask = rle.decode(record.rle)
        assert mask.shape == size and mask.any()
        assert record.area == np.count_nonzero(mask)
        assert record.bbox == rle.bbox(record.rle)
        assert 0 < record.stability_score <= 1
        (x, y), (left, top, width, height) = record.point_coords[0], record.crop_box
        assert left <= x <= left + width <= size[1] and top <= y <= top + height <= size[0]


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("kind", ["box", "mask"])
def test_wholes_parts_and_subparts_are_found_once(scene_sam: Any, scene: np.ndarray, adaptive: bool, kind: str) -> None:
    records = AutomaticMasks(scene_sam, adaptive=adaptive, nms=kind, **LOWERED).generate(scene)
    assert_consistent(records, (200, 300))
    assert len(records) == 4
    square = np.zeros((200, 300), bool)
    square[60:120, 220:280] = True
    for truth in (disc(80), disc(50), disc(20), square):
        assert max(iou(record, truth) for record in records) > 0.85
    assert [record.predicted_iou for record in records] == sorted((r.predicted_iou for r in records), reverse=True)
    assert scene_sam.asked < 700 if adaptive else scene_sam.asked == 32**2


def everything_at_once(sam: Sam, image: np.ndarray, options: AutomaticOptions) -> list[rle.RLE]:
    """What Meta's way gives: all masks at the original size, all filters, then one suppression."""
    encoded = encode(sam, [image])[0]
    frame = encoded.frame
    grid = frame.points_to_model(options.grids()[0] * np.array(frame.original[::-1]))
    prompts = Prompts.build(points=torch.from_numpy(grid)[None, :, None], labels=torch.ones(1, len(grid), 1))
    with evaluating(sam):
        logits, scores = sam.decode(encoded.embedding, prompts, multimask=True)
        full = upsample_logits(
            logits[0], model_size=frame.model_size, resized=frame.resized, original=frame.original
        ).flatten(0, 1)
    predicted = scores.flatten().numpy()
    stability = masks.stability_score(full.numpy(), offset=options.stability_score_offset)
    cut = (full > 0).numpy()
    good = (
        (predicted > (options.pred_iou_thresh or -np.inf))
        & (stability >= options.stability_score_thresh)
        & cut.any((1, 2))
    )
    kept = np.flatnonzero(good)
    stored = rle.encode_many(cut[kept])
    if options.nms == "mask":
        order = nms.mask_nms(stored, predicted[kept], options.box_nms_thresh)
    else:
        order = nms.box_nms(boxes.from_masks(cut[kept]).astype(np.float32), predicted[kept], options.box_nms_thresh)
    return [stored[index] for index in order]


@pytest.mark.parametrize("size", [(60, 100), (300, 40), (1, 70), (150, 150)])
@pytest.mark.parametrize("kind", ["box", "mask"])
@pytest.mark.parametrize("memory_limit", [1 << 20, 256 << 20])
def test_doing_little_changes_nothing(
    small_sam: Sam, picture: Callable[..., np.ndarray], size: tuple[int, int], kind: str, memory_limit: int
) -> None:
    image = picture(*size)
    with evaluating(small_sam):
        encoded = encode(small_sam, [image])[0]
        grid = encoded.frame.points_to_model(points.grid(9) * np.array(size[::-1]))
        prompts = Prompts.build(points=torch.from_numpy(grid)[None, :, None], labels=torch.ones(1, 81, 1))
        middle = float(small_sam.decode(encoded.embedding, prompts, multimask=True)[1].median())
    options = AutomaticOptions(
        points_per_side=9,
        points_per_batch=16,
        pred_iou_thresh=min(max(middle, 0.0), 1.0),
        stability_score_thresh=0.2,
        stability_score_offset=0.02,
        nms=kind,
        memory_limit=memory_limit,
    )
    expected = everything_at_once(small_sam, image, options)
    found = AutomaticMasks(small_sam, options).generate(image)
    assert_consistent(found, size)
    assert len(found) == len(expected)
    for record, mask in zip(found, expected, strict=True):
        assert rle.pairwise_iou([record.rle], [mask])[0, 0] > 0.99


def test_overlap_of_masks_may_be_counted_in_place_of_that_of_boxes(scene_sam: Any) -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[disc(80)] = 64
    image[disc(78) & ~disc(55)] = 128
    for kind, count in (("box", 1), ("mask", 2)):
        assert len(AutomaticMasks(scene_sam, nms=kind, **LOWERED).generate(image)) == count


def test_crops_find_what_is_small_and_the_smaller_crop_wins(scene_sam: Any, scene: np.ndarray) -> None:
    image = scene.copy()
    image[20:32, 250:262] = 64
    alone = AutomaticMasks(scene_sam, points_per_side=8, **LOWERED).generate(image)
    records = AutomaticMasks(scene_sam, points_per_side=16, crop_n_layers=1, **LOWERED).generate(image)
    assert_consistent(records, (200, 300))
    small = np.zeros((200, 300), bool)
    small[20:32, 250:262] = True
    assert max((iou(record, small) for record in alone), default=0) < 0.6
    found = max(records, key=lambda record: iou(record, small))
    assert iou(found, small) > 0.65 and found.crop_box != (0, 0, 300, 200)
    # The large disc reaches over every crop's border: only the whole image gives it.
    large = max(records, key=lambda record: iou(record, disc(80)))
    assert iou(large, disc(80)) > 0.9 and large.crop_box == (0, 0, 300, 200)
    areas = [record.crop_box[2] * record.crop_box[3] for record in records]
    assert areas == sorted(areas)


def test_small_regions_are_removed_and_all_is_counted_anew(scene_sam: Any) -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[disc(80) & ~disc(8)] = 64
    options = {"points_per_side": 16, **LOWERED}
    (before,) = AutomaticMasks(scene_sam, **options).generate(image)
    (after,) = AutomaticMasks(scene_sam, min_mask_region_area=2000, **options).generate(image)
    assert_consistent([after], (200, 300))
    assert after.rle == rle.encode(pixel_regions.clean(rle.decode(before.rle), 2000)[0])
    assert after.area > before.area and iou(after, disc(80)) > 0.95
    # The hole's edge was the more unstable one.
    assert 1 > after.stability_score > before.stability_score
    assert replace(after, rle=before.rle, area=before.area, stability_score=before.stability_score) == before


def test_a_cleaned_duplicate_gives_way_to_a_mask_that_needed_nothing(scene_sam: Any) -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[disc(80)] = 64
    image[disc(70) & ~disc(25)] = 128
    options = {"points_per_side": 16, "nms": "mask", "box_nms_thresh": 0.72, "crop_nms_thresh": 0.72, **LOWERED}
    before = AutomaticMasks(scene_sam, **options).generate(image)
    after = AutomaticMasks(scene_sam, min_mask_region_area=3000, **options).generate(image)
    assert len(before) == 2 and len(after) == 1
    assert iou(after[0], disc(80)) > 0.95


def test_masks_of_nearly_the_whole_image_can_be_dropped(scene_sam: Any) -> None:
    white = np.full((100, 100, 3), 64, np.uint8)
    assert len(AutomaticMasks(scene_sam, points_per_side=4).generate(white)) == 1
    assert AutomaticMasks(scene_sam, points_per_side=4, max_area_fraction=0.95).generate(white) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (2, 3), (5, 400), (40, 40)])
@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_images_of_any_size(scene_sam: Any, size: tuple[int, int], preset: str) -> None:
    options = AutomaticOptions.preset(preset, points_per_side=8, min_mask_region_area=0, max_area_fraction=1)
    generator = AutomaticMasks(scene_sam, options)
    assert generator.generate(np.zeros((*size, 3), np.uint8)) == []
    whole = generator.generate(np.full((*size, 3), 64, np.uint8))
    assert_consistent(whole, size)
    assert any(record.area == size[0] * size[1] for record in whole)


def test_no_confident_mask_is_an_empty_list(small_sam: Sam, picture: Callable[..., np.ndarray]) -> None:
    generator = AutomaticMasks(small_sam, points_per_side=3, pred_iou_thresh=1.0, min_mask_region_area=10)
    assert generator.generate(picture(60, 100)) == []
    assert generator.options.points_per_side == 3


def test_given_points_are_asked(scene_sam: Any, scene: np.ndarray) -> None:
    grid = np.array([[0.8, 0.45], [0.99, 0.99]])
    records = AutomaticMasks(scene_sam, points_per_side=None, point_grids=[grid], **LOWERED).generate(scene)
    assert scene_sam.asked == 2
    assert [record.point_coords for record in records] == [((240.0, 90.0),)]


def test_many_images_come_in_order(
    scene_sam: Any, scene: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(scene).save(tmp_path / "scene.png")
    images = [scene, scene[:, ::-1].copy(), tmp_path / "scene.png", np.zeros((9, 9, 3), np.uint8), scene[::-1].copy()]
    generator = AutomaticMasks(scene_sam, points_per_side=8, **LOWERED)
    # The scene's embedding is one image at a time.
    one = [generator.generate(image) for image in images]
    many = list(generator.generate_many(iter(images), batch_size=2))
    assert many == one and many[0] == many[2] != many[1] and many[3] == []
    assert list(generator.generate_many([])) == []


def test_only_a_few_images_are_taken_before_they_are_needed(scene_sam: Any, scene: np.ndarray) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield scene

    results = AutomaticMasks(scene_sam, points_per_side=2, **LOWERED).generate_many(endless(), batch_size=3)
    next(results)
    assert taken == 6
    results.close()


@pytest.mark.parametrize("bad", ["file", "iterable"])
def test_images_before_a_bad_one_are_answered(scene_sam: Any, scene: np.ndarray, tmp_path: Path, bad: str) -> None:
    def images() -> Iterator[np.ndarray | Path]:
        for number in range(6):
            if number == 5 and bad == "iterable":
                raise ImageError("none.png: there is no such file")
            yield tmp_path / "none.png" if number == 5 else scene

    results = AutomaticMasks(scene_sam, points_per_side=2, **LOWERED).generate_many(images(), batch_size=4)
    assert len([next(results) for _ in range(5)]) == 5
    with pytest.raises(ImageError, match=r"none\.png"):
        next(results)


def test_a_bad_image_is_named_when_it_is_reached(scene_sam: Any, scene: np.ndarray, tmp_path: Path) -> None:
    generator = AutomaticMasks(scene_sam, points_per_side=2, **LOWERED)
    results = generator.generate_many([scene, tmp_path / "none.png"], batch_size=1)
    next(results)
    with pytest.raises(ImageError, match=r"none\.png"):
        next(results)
    with pytest.raises(ImageError, match="batch_size is 0"):
        next(generator.generate_many([scene], batch_size=0))
    with pytest.raises(InputError, match="no option 'points'"):
        AutomaticMasks(scene_sam, points=3)


def test_the_model_is_left_as_it_was(small_sam: Sam, picture: Callable[..., np.ndarray]) -> None:
    small_sam.train()
    try:
        AutomaticMasks(small_sam, points_per_side=2, pred_iou_thresh=0).generate(picture(30, 30))
        assert all(module.training for module in small_sam.modules())
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    finally:
        small_sam.eval()
