from __future__ import annotations

import dataclasses
import json
import weakref
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from anymask.data.images import read_image
from anymask.data.sample import Sample
from anymask.data.synthetic import SceneConfig
from anymask.data.synthetic.shards import GeneratedScenes
from anymask.errors import InputError
from anymask.evaluation.retention import (
    KINDS,
    Retained,
    RetentionConfig,
    Skill,
    mean_of,
    measure,
    own_masks,
    remarks,
    skill_on,
    spoil,
    to_markdown,
    write,
)
from anymask.geometry import masks as geometry
from anymask.model import SIZES, build_sam
from anymask.plots.curves import retention

BEFORE = Skill(point_1=0.5, point_3=0.6, box=0.7, mask=0.4, everything=0.3, count=20.0)


def _row(name: str = "beds", is_new: bool = True, **after: float) -> Retained:
    return Retained(
        name=name, is_new=is_new, num_images=3, num_masks=9, before=BEFORE, after=dataclasses.replace(BEFORE, **after)
    )


@pytest.fixture(scope="module")
def rows() -> list[Retained]:
    torch.manual_seed(0)
    config = dataclasses.replace(SIZES["smoke"], image_size=64, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    model, other = build_sam(config), build_sam(config)
    small = RetentionConfig(max_images=2, max_masks=3, points_per_side=4)
    sets = [GeneratedScenes(2, SceneConfig(size=64), seed=seed) for seed in (0, 1)]
    return measure(model, other, {"new": sets[0]}, {"old": sets[1]}, small)


def test_both_models_are_measured_on_every_set(rows: list[Retained]) -> None:
    assert [(row.name, row.is_new, row.num_images) for row in rows] == [("new", True, 2), ("old", False, 2)]
    for row in rows:
        for skill in (row.before, row.after):
            assert all(0 <= getattr(skill, kind) <= 1 for kind in KINDS)
            assert skill.count > 0
        assert row.before != row.after


def test_a_model_against_itself_changes_nothing() -> None:
    torch.manual_seed(0)
    model = build_sam(dataclasses.replace(SIZES["smoke"], image_size=64))
    scenes = GeneratedScenes(1, SceneConfig(size=64))
    (row,) = measure(model, model, {"new": scenes}, {}, RetentionConfig(max_masks=2, points_per_side=2))
    assert row.before == row.after and remarks([row]) == []


def test_all_figures_of_a_set_are_of_the_same_images_one_in_memory_at_a_time() -> None:
    class Watched(GeneratedScenes):
        drawn: ClassVar[list[int]] = []
        held: ClassVar[list[weakref.ref[np.ndarray]]] = []

        def sample(self, index: int, **options: Any) -> Sample:
            sample = super().sample(index, **options)
            assert sum(image() is not None for image in self.held) < 2
            self.drawn.append(index)
            self.held.append(weakref.ref(sample.image))
            return sample

    torch.manual_seed(0)
    model = build_sam(dataclasses.replace(SIZES["smoke"], image_size=64))
    config = RetentionConfig(max_images=4, max_masks=1, points_per_side=1, seed=5)
    skill_on(model, "scenes", Watched(12, SceneConfig(size=64)), config)
    assert len(Watched.drawn) == 8 and Watched.drawn[:4] == Watched.drawn[4:]


def test_what_was_lost_is_said() -> None:
    assert remarks([_row(point_1=0.6, box=0.695)]) == []
    assert remarks([_row(box=0.68)]) == ["beds: box fell from 0.700 to 0.680."]
    (said,) = remarks([_row(count=9.0)])
    assert said.startswith("beds: masks of everything fell from 20.0 to 9.0 an image")


def test_the_report_is_a_table_and_json(tmp_path: Path) -> None:
    rows = [_row(point_1=0.6), _row("a", False, box=0.5), _row("b", False)]
    paths = write(rows, tmp_path / "mine-retention", ["Tuned on 9 images."])
    text = paths[0].read_text()
    assert "| beds (new)" in text and "0.500 → 0.600" in text and "Tuned on 9 images." in text
    assert "**mean, before**" in text and "0.700 → 0.600" in text
    assert "- a: box fell from 0.700 to 0.500." in text
    values = json.loads(paths[1].read_text())
    assert values["sets"][0]["after"]["point_1"] == 0.6 and values["remarks"] == ["a: box fell from 0.700 to 0.500."]
    assert mean_of(rows, "count") == (20.0, 20.0)
    assert "Nothing fell" in to_markdown([_row()])


def test_the_picture_has_a_column_a_figure() -> None:
    pytest.importorskip("matplotlib")
    picture = read_image(retention(["a", "b"], {"box": [(0.1, 0.9), (0.5, 0.2)], "mask": [(0, 1), (1, 1)]}, num_new=1))
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3)}
    assert (26, 127, 90) in colours and (194, 69, 45) in colours, "a gain is green, a loss red"
    with pytest.raises(InputError, match="each of the 2 sets"):
        retention(["a", "b"], {"box": [(0.1, 0.9)]})


def test_a_spoilt_mask_is_near_the_true_one_and_the_same_each_time() -> None:
    scene = GeneratedScenes(1, SceneConfig(size=96)).sample(0)
    large = scene.masks[np.argsort(-scene.masks.sum((1, 2)))[:4]][:, :80]
    spoilt = spoil(large, seed=3)
    assert spoilt.shape == large.shape and np.array_equal(spoilt, spoil(large, seed=3))
    assert np.array_equal(spoilt[:2], spoil(large[:2], seed=3)), "one after the other"
    assert spoil(large[:0], seed=3).shape == (0, *large.shape[1:])
    ious = geometry.pair_iou(spoilt, large)
    assert ious.mean() > 0.4 and (ious < 1).all()


def test_a_models_own_masks_stand_for_truth() -> None:
    torch.manual_seed(0)
    model = build_sam(
        dataclasses.replace(SIZES["smoke"], image_size=64, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    )
    image = GeneratedScenes(1, SceneConfig(size=64)).sample(0).image
    (sample,) = own_masks(model, {"x": image})
    assert sample.key == "x" and sample.masks.any((1, 2)).all()
    assert own_masks(build_sam(dataclasses.replace(model.config, pred_iou_thresh=1.0)), {"x": image}) == []
