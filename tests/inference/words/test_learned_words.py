"""Words that small models learn here, on generated scenes: both ways must reach three times what chance does.

A scene holds six things of different colour or shape: whoever points at any of them is right once in six. Counted are
the phrases whose first mask has an IoU of .5 or more with the thing that they name, on scenes not trained on.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import word_models
from anymask.checkpoints import load_model
from anymask.cli import main
from anymask.data.sample import Sample
from anymask.data.writers.sa1b import write_tar
from anymask.geometry import rle
from anymask.geometry.masks import pair_iou
from anymask.inference import Predictor

CHANCE = 1 / word_models.NUM_OBJECTS
NUM_UNSEEN = 25

RECIPE = """
[model]
size = "lite2"
image_size = 64
start = "anymask-s"
[text]
clip = "{clip}"
[run]
steps = 900
batch_size = 4
num_masks = 6
num_workers = 0
num_threads = 1
save_every = 900
[optim]
learning_rate = 1e-3
trunk_scale = 0.2
warmup = 10
[rounds]
num_corrections = 0
num_refinements = 0
[loss]
focal = 0.0
bce = 2.0
[[sources]]
tars = ["{tar}"]
transforms = {{ flip = true }}
"""


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes that nothing is trained on, in COCO's layout, each phrase a class."""
    folder = tmp_path_factory.mktemp("unseen")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(NUM_UNSEEN):
        scene = word_models.scene(number)
        Image.fromarray(scene.image).save(folder / f"{number}.png")
        height, width = scene.image.shape[:2]
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        for phrase, mask in zip(scene.phrases, scene.masks, strict=True):
            entry = {"image_id": number, "category_id": word_models.PHRASES.index(phrase)}
            annotations.append(entry | {"id": len(annotations), "segmentation": rle.encode(mask), "iscrowd": 0})
    categories = [{"id": index, "name": phrase} for index, phrase in enumerate(word_models.PHRASES)]
    path = folder / "things.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def _evaluate(capsys: pytest.CaptureFixture[str], data: Path, *options: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", "text", str(data), "--json", *map(str, options)]) == 0
    (result,) = json.loads(capsys.readouterr().out)["sets"]
    assert result["num_phrases"] == word_models.NUM_OBJECTS * NUM_UNSEEN and result["num_skipped"] == 0
    assert result["chance"] == pytest.approx(CHANCE)
    return dict(result)


@pytest.mark.long
def test_the_papers_way_is_right_for_half_of_the_phrases_or_more_where_chance_is_a_sixth(
    unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """150 phrases (chance: 17 %), by CLIP's words after a training on its images of objects alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clip = word_models.clip(tmp_path / "clip")
        word_models.train_clip(clip, steps=250, batch_size=5)
        clip.save_pretrained(tmp_path / "clip")
    scenes = ((number, word_models.scene(30_000 + number)) for number in range(200))
    write_tar(tmp_path / "scenes.tar", (Sample(key=str(n), image=s.image, masks=s.masks) for n, s in scenes))
    (tmp_path / "words.toml").write_text(RECIPE.format(clip=tmp_path / "clip", tar=tmp_path / "scenes.tar"))
    assert main(["train", "text", str(tmp_path / "words.toml"), "-o", str(tmp_path / "run")]) == 0
    weights = tmp_path / "run" / "model.safetensors"
    result = _evaluate(capsys, unseen, "--model", weights)
    assert result["hit"] >= 3 * CHANCE and result["scores"] is None
    assert _mixed_up(weights) < CHANCE


def _mixed_up(weights: Path) -> float:
    """Return the share of phrases whose mask is that of the phrase before it: what words say must matter."""
    predictor, wrong = Predictor(load_model(weights)), []
    for number in range(NUM_UNSEEN):
        scene = word_models.scene(number)
        predictor.set_image(scene.image)
        said = [predictor.predict(text=phrase).best for phrase in scene.phrases]
        wrong += (pair_iou(np.stack(said), np.roll(scene.masks, 1, 0)) >= 0.5).tolist()
    return float(np.mean(wrong))


@pytest.mark.long
def test_a_detectors_way_is_right_for_half_of_the_phrases_or_more_where_chance_is_a_sixth(
    unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """79 % of 150 phrases (chance: 17 %), AP50 .49: a small OWLv2 finds boxes, anymask-s makes their masks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        owl = word_models.owl(tmp_path)
        word_models.train_owl(owl, steps=500)
        owl.save_pretrained(tmp_path)
    result = _evaluate(capsys, unseen, "--detector", tmp_path, "--threshold", 0.2)
    assert result["hit"] >= 3 * CHANCE and result["scores"]["ap50"] > CHANCE
