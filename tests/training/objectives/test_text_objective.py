from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import word_models
from anymask.checkpoints import load_model, save_model
from anymask.cli import main
from anymask.errors import RecipeError
from anymask.training.objectives.text import CropConfig, crop_objects, read_text_recipe

RECIPE = """
[model]
size = "smoke"
image_size = 64
{start}
[text]
clip = "{clip}"
[run]
steps = 3
batch_size = 2
num_masks = 2
num_workers = 0
save_every = 2
log_every = 1
[rounds]
num_corrections = 1
num_refinements = 0
[[sources]]
tars = ["{shards}/*.tar"]
"""


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        word_models.clip(folder)
    return folder


def test_crops_hold_the_object_square_and_in_the_middle() -> None:
    scene = word_models.scene(0, 64)
    image = torch.from_numpy(scene.image.transpose(2, 0, 1).copy())[None]
    masks = torch.from_numpy(scene.masks)[None]

    def crops(**options: Any) -> tuple[np.ndarray, np.ndarray]:
        generator = torch.Generator().manual_seed(0)
        pixels, inside = crop_objects(image, masks, CropConfig(**options), side=32, generator=generator)
        return pixels.numpy(), inside.numpy()

    tight, inside = crops(enlarge=(1.0, 1.0), blank=0.0)
    _, inside_loose = crops(enlarge=(2.0, 2.0), blank=0.0)
    assert tight.shape == (6, 3, 32, 32) and inside.shape == (6, 32, 32)
    assert (inside.mean((1, 2)) > 0.4).all()
    np.testing.assert_allclose(inside_loose.mean((1, 2)), inside.mean((1, 2)) / 4, rtol=0.25)
    blank, same = crops(enlarge=(1.0, 1.0), blank=1.0)
    assert (blank.transpose(0, 2, 3, 1)[~same] == 0).all()
    np.testing.assert_array_equal(blank.transpose(0, 2, 3, 1)[same], tight.transpose(0, 2, 3, 1)[inside])


def test_bad_crops_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(RECIPE.format(start="", clip="x", shards=".").replace("[run]", "crops = { blank = 2.0 }\n[run]"))
    with pytest.raises(RecipeError, match="blank"):
        read_text_recipe(path)
    assert read_text_recipe(Path(__file__).parents[3] / "recipes" / "text.toml").text.crops == CropConfig()


def test_the_verb_trains_the_model_and_leaves_clip_alone(
    shards: Path, clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from anymask.model import SIZES, build_sam

    torch.manual_seed(1)
    save_model(build_sam(SIZES["smoke"]), tmp_path / "start.safetensors")
    before = (clip_folder / "model.safetensors").read_bytes()
    path = tmp_path / "words.toml"
    start = f'start = "{tmp_path / "start.safetensors"}"'
    path.write_text(
        RECIPE.format(start=start, clip=clip_folder, shards=shards).replace("image_size = 64", "image_size = 128")
    )
    assert main(["train", "text", str(path), "-o", str(tmp_path / "run")]) == 0
    trained = load_model(tmp_path / "run" / "model.safetensors")
    assert trained.config.text is not None and trained.config.text.width == 48
    assert (clip_folder / "model.safetensors").read_bytes() == before
    path.write_text(RECIPE.format(start="", clip="owner/none", shards=shards))
    assert main(["train", "text", str(path), "-o", str(tmp_path / "other")]) == 2
    assert "`hf download owner/none` fetches them" in capsys.readouterr().err
