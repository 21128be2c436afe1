from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from anymask.checkpoints import load_model
from anymask.checkpoints.mae import sam_of_mae
from anymask.data.images import read_image
from anymask.model import SIZES, SamConfig, ViTConfig
from anymask.model.mae import MaeConfig, MaskedAutoencoder

TINY_VIT = SamConfig(encoder=ViTConfig(width=48, depth=2, num_heads=2, global_blocks=(1,), position_grid=4), width=32)
MAE = "[mae]\ndecoder_width = 16\ndecoder_depth = 1\ndecoder_heads = 2\n\n[[sources]]"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("size", ["smoke", "tiny"])
def test_pretraining_leaves_reconstructions_and_a_start_for_training(
    size: str, anymask: Callable[..., Any], tiny_recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "tiny", TINY_VIT)
    task = tiny_recipe.replace('"smoke"', f'"{size}"')
    mae = write(tmp_path / "mae.toml", 'kind = "mae"\n' + task.replace("[[sources]]", MAE))
    ran = anymask("train", mae, "-o", tmp_path / "mae")
    assert ran.status == 0, ran.err
    assert [path.name for path in sorted((tmp_path / "mae" / "sheets").iterdir())] == [
        "step-000002.png",
        "step-000004.png",
    ]
    assert read_image(tmp_path / "mae" / "sheets" / "step-000004.png").shape[1] > 900  # three columns
    weights = tmp_path / "mae" / "model.safetensors"
    assert load_model(weights).config.image_size == 64
    started = task.replace("image_size = 64", f'image_size = 64\nstart = "{weights}"')
    assert anymask("train", write(tmp_path / "sam.toml", started), "-o", tmp_path / "sam").status == 0


def test_training_starts_from_a_public_file(
    anymask: Callable[..., Any], refused: Callable[..., str], tiny_recipe: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setitem(SIZES, "tiny", TINY_VIT)
    config = SIZES["tiny"]
    mae = MaskedAutoencoder(config, MaeConfig(decoder_width=16, decoder_depth=1, decoder_heads=2))
    assert sam_of_mae(mae).config == config
    names = {".mlp.lin1.": ".mlp.fc1.", ".mlp.lin2.": ".mlp.fc2."}
    public = {}
    for name, tensor in mae.encoder.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        public[name] = tensor
    public["pos_embed"] = torch.cat([torch.zeros(1, 1, 48), public["pos_embed"].flatten(1, 2)], 1)
    torch.save({"model": public}, tmp_path / "vit.pth")
    started = f'image_size = 64\nstart = "{tmp_path / "vit.pth"}"'
    recipe = tiny_recipe.replace("image_size = 64", started)
    good = write(tmp_path / "good.toml", recipe.replace('"smoke"', '"tiny"'))
    ran = anymask("train", good, "-o", tmp_path / "run")
    assert ran.status == 0, ran.err
    wrong = write(tmp_path / "wrong.toml", recipe)
    assert "cannot start a compact encoder" in refused("train", wrong, "-o", tmp_path / "other")
