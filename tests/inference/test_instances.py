"""Masks of a detector's boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anymask.errors import DataError, ImageError, InputError
from anymask.geometry import rle
from anymask.inference import Predictor, Refinement
from anymask.inference.instances import Detection, Instances, read_detections, usable
from anymask.model import Sam

Picture = Callable[..., np.ndarray]


def _boxes(*corners: tuple[float, float, float, float]) -> list[Detection]:
    return [Detection(category_id=i, score=1 - i / 10, box=box) for i, box in enumerate(corners, start=1)]


def test_a_mask_is_the_predictors_for_the_box_asked_again_as_often(small_sam: Sam, picture: Picture) -> None:
    image, box = picture(60, 100), (20.0, 10.0, 70.0, 50.0)
    for refinements in (0, 1):
        predictor = Predictor(small_sam, refinement=Refinement(passes=refinements))
        predictor.set_image(image)
        expected = predictor.predict(box=box)
        (found,) = Instances(small_sam, refinements=refinements).segment(image, _boxes(box))
        assert (rle.decode(found.rle) == expected.best).all()
        assert found.predicted_iou == pytest.approx(float(expected.scores[0]), abs=1e-5)


def test_batches_of_images_of_any_size_give_what_single_ones_do(small_sam: Sam, picture: Picture) -> None:
    work = [
        (picture(60, 100, 1), _boxes((1, 2, 50, 40), (10, 10, 90, 55))),
        (picture(90, 40, 2), []),
        (picture(64, 64, 3), _boxes((5, 5, 60, 60))),
        (picture(30, 120, 4), _boxes((0, 0, 120, 30))),
    ]
    many = list(Instances(small_sam, batch_size=3).segment_many(iter(work)))
    assert [len(found) for _, found in many] == [2, 0, 1, 1]
    for (pixels, found), (image, boxes) in zip(many, work, strict=True):
        assert (pixels == image).all()
        alone = Instances(small_sam).segment(image, boxes)
        for one, other in zip(found, alone, strict=True):
            assert one.detection == other.detection
            assert (rle.decode(one.rle) != rle.decode(other.rle)).mean() < 0.01


def test_images_before_a_bad_one_are_answered(small_sam: Sam, picture: Picture, tmp_path: Path) -> None:
    good = (picture(60, 100), _boxes((1, 2, 50, 40)))
    results = Instances(small_sam, batch_size=4).segment_many([good, good, (tmp_path / "absent.png", []), good])
    assert [len(found) for _, found in (next(results), next(results))] == [1, 1]
    with pytest.raises(ImageError, match="no such file"):
        next(results)


def test_boxes_without_an_area_in_the_image_are_left_out(small_sam: Sam, picture: Picture) -> None:
    boxes = _boxes((10, 10, 10, 40), (-30, 5, 40, 30), (100, 0, 140, 40), (40, 30, 20, 10), (90, 50, 400, 300))
    assert usable(boxes, (60, 100)).tolist() == [False, True, False, False, True]
    found = Instances(small_sam).segment(picture(60, 100), boxes)
    assert [instance.detection.category_id for instance in found] == [2, 5]
    assert usable([], (60, 100)).shape == (0,)


def test_results_are_cocos(small_sam: Sam, picture: Picture) -> None:
    (found,) = Instances(small_sam).segment(picture(60, 100), _boxes((10, 10, 80, 50)))
    entry = json.loads(json.dumps(found.to_coco(7)))
    assert (entry["image_id"], entry["category_id"], entry["score"]) == (7, 1, 0.9)
    assert entry["segmentation"]["size"] == [60, 100]
    assert entry["bbox"] == list(rle.bbox(entry["segmentation"]))


def test_detections_are_read_by_image_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    entries = [
        {"image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5, "area": 12},
        {"image_id": "a.jpg", "bbox": [0, 0, 1.5, 1]},
        {"image_id": 3, "category_id": 9, "bbox": [0, 0, 0, 0], "score": 1},
    ]
    path.write_text(json.dumps(entries))
    found = read_detections(path)
    assert list(found) == [3, "a.jpg"]
    assert found[3][0] == Detection(category_id=2, score=0.5, box=(1, 2, 4, 6))
    assert [d.category_id for d in found[3]] == [2, 9]
    assert found["a.jpg"][0] == Detection(category_id=1, score=1.0, box=(0, 0, 1.5, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ('{"images": [], "annotations": []}', "is an annotation file"),
        ('{"boxes": []}', "is no list"),
        ('[{"image_id": 1, "bbox": [1, 2, 3]}]', "entry 0 is no box"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4]}, {"bbox": [1, 2, 3, 4]}]', "entry 1 is no box"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, NaN]}]', "entry 0 is no box"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, "4"]}]', "entry 0 is no box"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": null}]', "entry 0 is no box"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4], "category_id": "cat"}]', "entry 0 is no box"),
        ("[5]", "entry 0 is no box"),
        (f'[{{"image_id": 1, "bbox": [1, 2, 3, 1{"0" * 400}]}}]', "entry 0 is no box"),
        (f"[{'9' * 5000}]", "thousands of digits"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_files_of_another_format_are_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_detections(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_detections(tmp_path / "absent.json")


def test_impossible_settings_and_unreadable_images_are_refused(small_sam: Sam, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="-1 refinements"):
        Instances(small_sam, refinements=-1)
    with pytest.raises(InputError, match="batches of 0"):
        Instances(small_sam, batch_size=0)
    with pytest.raises(ImageError, match="no such file"):
        list(Instances(small_sam).segment_many([(tmp_path / "absent.png", [])]))
