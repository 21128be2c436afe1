from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anymask.checkpoints import load_model, save_model
from anymask.data.channels import ChannelMapping
from anymask.data.readers.folder import FolderFiles
from anymask.data.synthetic import SceneConfig, render_shards
from anymask.inference.answers import channels_of
from anymask.model import SIZES, build_sam
from anymask.training.cost import plan
from anymask.training.finetuning.finetune import FinetuneConfig
from anymask.workflows.finetune import FinetuneSets
from anymask.workflows.finetune import fingerprint as run_fingerprint
from sam2_models import small

QUICK = """
views = 2
max_objects = 4
old_images = 4

[run]
steps = 3
batch_size = 2
num_masks = 2
num_workers = 0
save_every = 2
log_every = 1

[optim]
learning_rate = 1e-3
weight_decay = 0.0
warmup = 1
ema = 0.5
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    list(render_shards(tmp_path, SceneConfig(size=64), scenes_per_shard=6))
    (tmp_path / "quick.toml").write_text(QUICK)
    return next(tmp_path.glob("*.tar"))


def test_a_sam_2_is_tuned_too(anymask: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    model = small("hiera")
    save_model(model, tmp_path / "sam2.safetensors")
    output = tmp_path / "mine.safetensors"
    call = ["finetune", data, "-o", output, "--model", tmp_path / "sam2.safetensors", "--mode", "lora"]
    ran = anymask(*call, "--recipe", tmp_path / "quick.toml", "--json")
    assert ran.status == 0, ran.err
    assert "tuned (lora)" in json.loads(ran.out)["notes"][0]
    assert load_model(output).config == model.config


def test_a_tuned_model_comes_with_its_report(anymask: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "mine.safetensors"
    call = ["finetune", data, "-o", output, "--recipe", tmp_path / "quick.toml", "--keep", data, "--json"]
    ran = anymask(*call)
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    assert [row["is_new"] for row in found["sets"]] == [True, False]
    assert "tuned (decoder) on 4 images" in found["notes"][0]
    names = {path.name for path in output.parent.iterdir()}
    assert {"mine.safetensors", "mine-retention.md", "mine-retention.json", "mine-log.jsonl"} <= names
    assert not [name for name in names if name.startswith(".")], "the run's folder is gone"
    assert load_model(output).image_size == 128


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "there is no file or folder nowhere"),
        (("{data}", "-o", "x.onnx"), "x.onnx: a model's name ends in .safetensors"),
        (("{data}", "--keep", "nowhere"), "there is no file or folder nowhere"),
        (("{data}", "--hold-out", "{data},nowhere.json"), "there is no file or folder nowhere.json"),
        (("{data}", "--report", "nowhere,there"), "there is no file or folder nowhere"),
        (("{data}", "--channels", "red"), "channels 'red' are not BANDS:LOW..HIGH"),
        (("{data}", "--channels", "0:0..9", "-o", "x.pth"), "Meta's format cannot keep a mapping of channels"),
        (("{data}", "--model", "{data}"), "is no"),
    ],
)
def test_bad_input_is_told_at_once(
    refused: Callable[..., str], data: Path, arguments: tuple[str, ...], message: str
) -> None:
    if message == "is no":
        assert str(data) in refused("finetune", *(a.format(data=data) for a in arguments))
    else:
        assert message in refused("finetune", *(a.format(data=data) for a in arguments))


def test_a_run_is_another_where_the_channels_or_the_masks_are(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for name in "abc":
            Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / part / f"{name}.png")
    model, config = build_sam(SIZES["smoke"]), FinetuneConfig()

    def fingerprint() -> str:
        new = FolderFiles([tmp_path], channels=channels_of(model))
        return run_fingerprint(
            model,
            FinetuneSets(new=new, old=[], choose_new={}, choose_old={}, report_new={}, report_old={}),
            config,
        )

    first = fingerprint()
    assert fingerprint() == first
    os.utime(tmp_path / "masks" / "a.png", ns=(0, 0))
    second = fingerprint()
    model.channels = ChannelMapping.parse("0:0..9").to_dict()
    assert len({first, second, fingerprint()}) == 3


def test_too_little_memory_is_told_before_anything_is_done(
    refused: Callable[..., str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "available_bytes", lambda device: 1 << 20)
    said = refused("finetune", data, "--mode", "all", "-o", tmp_path / "x.safetensors", "--keep", data)
    assert "GiB of memory" in said and "use --mode decoder" in said
    assert not (tmp_path / "x.safetensors").exists()
