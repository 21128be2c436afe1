"""`anymask.finetune` as it is called from Python."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import anymask
from anymask.errors import DataError, InputError, OutputError
from anymask.model import SIZES, Sam, build_sam
from anymask.training.config import OptimConfig
from anymask.training.finetuning.finetune import FinetuneConfig
from anymask.workflows.finetune import FinetuneProgress

QUICK = FinetuneConfig(views=1, max_objects=2, old_images=2)
QUICK = dataclasses.replace(
    QUICK,
    run=dataclasses.replace(QUICK.run, num_masks=2, save_every=2, log_every=1),
    optim=OptimConfig(learning_rate=1e-3, weight_decay=0.0, warmup=1, ema=0.5),
)


@pytest.fixture(scope="module")
def model() -> Sam:
    torch.manual_seed(0)
    return build_sam(SIZES["smoke"]).eval()


@pytest.fixture
def coco(tmp_path: Path) -> tuple[Path, Path]:
    """Eight pictures of a bright square, and their COCO file."""
    images, annotations = [], []
    (tmp_path / "photographs").mkdir()
    for number in range(8):
        pixels = np.full((48, 64, 3), 40, np.uint8)
        pixels[8 : 24 + number, 10:40] = 220
        Image.fromarray(pixels).save(tmp_path / "photographs" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
        corners = [10, 8, 40, 8, 40, 24 + number, 10, 24 + number]
        box = [10, 8, 30, 16 + number]
        shape = {"segmentation": [corners], "bbox": box, "area": 30 * (16 + number), "iscrowd": 0}
        annotations.append({"id": number + 1, "image_id": number, "category_id": 1, **shape})
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(document))
    return tmp_path / "photographs", path


def test_two_steps_on_a_coco_file(model: Sam, coco: tuple[Path, Path], tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    told: list[FinetuneProgress] = []
    images, annotations = coco
    output = tmp_path / "out" / "mine.safetensors"
    report = anymask.finetune(
        images,
        annotations,
        output,
        model=model,
        steps=2,
        keep=[f"{images},{annotations}"],
        config=QUICK,
        progress=told.append,
        name="smoke",
    )
    assert report.model == output and anymask.load(output).image_size == model.image_size
    assert 0 <= report.share <= 1 and report.notes[0].startswith("smoke tuned (decoder) on 6 images")
    assert [row.is_new for row in report.rows] == [True, False] and 0 <= report.rows[0].after.box <= 1
    assert {path.suffix for path in report.files} >= {".md", ".json"} and all(path.exists() for path in report.files)
    assert report.to_dict()["model"] == str(output)
    parts = [each.part for each in told]
    assert list(dict.fromkeys(parts)) == ["encoding", "training", "choosing", "reporting"]
    steps = [each for each in told if each.part == "training"]
    assert (steps[-1].done, steps[-1].total) == (2, 2) and steps[-1].values["loss"] > 0
    assert [each.name for each in told if each.part == "reporting"] == ["photographs", "photographs"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_is_refused(model: Sam, coco: tuple[Path, Path], tmp_path: Path) -> None:
    images, annotations = coco
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"there is no file or folder .*nowhere\.json"):
        anymask.finetune(images, tmp_path / "nowhere.json", tmp_path / "x.safetensors", model=model)
    with pytest.raises(DataError, match="empty"):
        anymask.finetune(tmp_path / "empty", None, tmp_path / "x.safetensors", model=model)
    with pytest.raises(OutputError, match=r"ends in \.safetensors"):
        anymask.finetune(images, annotations, tmp_path / "x.onnx", model=model)
    with pytest.raises(InputError, match="the modes are decoder, lora, all"):
        anymask.finetune(images, annotations, tmp_path / "x.safetensors", model=model, mode="head")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="two sets of data are named"):
        anymask.finetune(
            images, annotations, tmp_path / "x.safetensors", model=model, keep=[f"{images},{annotations}"] * 2
        )
    assert not (tmp_path / "x.safetensors").exists()
