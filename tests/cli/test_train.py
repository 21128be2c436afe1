from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from anymask.data.images import read_image
from anymask.data.readers.tars import TarFiles
from anymask.samples import sample_path


def _recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    return path


def test_a_run_leaves_weights_that_segment_takes(anymask: Callable[..., Any], tiny_recipe: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ran = anymask("train", _recipe(tmp_path, tiny_recipe), "-o", folder)
    assert ran.status == 0, ran.err
    assert ran.out == f"{folder / 'model.safetensors'}\n"
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.get_tensor("prompt_encoder.no_mask_embed.weight").dtype == torch.float16
    assert [path.name for path in sorted((folder / "sheets").iterdir())] == ["step-000002.png", "step-000004.png"]
    assert read_image(folder / "sheets" / "step-000004.png").shape[1] > 600
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert steps[-1] == 4
    call = ["segment", sample_path("cat"), "--point", "215,185", "--json", "--model", folder / "model.safetensors"]
    assert anymask(*call).status == 0


def test_a_finished_run_is_not_repeated(anymask: Callable[..., Any], tiny_recipe: str, tmp_path: Path) -> None:
    recipe, folder = _recipe(tmp_path, tiny_recipe), tmp_path / "run"
    assert anymask("train", "run", recipe, "-o", folder).status == 0
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert anymask("train", "-o", folder, recipe).status == 0
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_validation_is_logged(anymask: Callable[..., Any], tiny_recipe: str, tmp_path: Path) -> None:
    tars = tiny_recipe[tiny_recipe.index("tars = ") :]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"{tiny_recipe}\n[validation]\nevery = 2\nnum_images = 1\nnum_masks = 2\n{tars}")
    anymask("train", recipe, "-o", tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    scored = {row["step"]: row for row in rows if "miou_1" in row}
    assert list(scored) == [2, 4]
    assert all(0 <= row[name] <= 1 for row in scored.values() for name in ("miou_1", "miou_5", "box", "oracle"))


def test_preview_draws_a_batch(anymask: Callable[..., Any], tiny_recipe: str, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, tiny_recipe)
    first, again, second = (tmp_path / f"{name}.png" for name in ("first", "again", "second"))
    assert anymask("train", "preview", recipe, "-o", first).status == 0
    anymask("train", "preview", recipe, "-o", again)
    anymask("train", "preview", recipe, "-o", second, "--batch", "1")
    assert (read_image(first) == read_image(again)).all()
    assert read_image(first).shape != read_image(second).shape or (read_image(first) != read_image(second)).any()


def test_render_makes_shards_once(anymask: Callable[..., Any], tmp_path: Path) -> None:
    call = ["train", "render", "-o", tmp_path / "shards", "--shards", "2", "--scenes", "2", "--size", "64"]
    ran = anymask(*call)
    assert ran.status == 0
    paths = [Path(line) for line in ran.out.splitlines()]
    assert len(paths) == 2
    assert all(len(TarFiles([path])) == 2 for path in paths)
    assert anymask(*call).out == ""
    assert anymask(*call, "--nested").out.splitlines()[1].endswith("nested-00001.tar")


def test_bad_recipes_and_places(refused: Callable[..., str], tiny_recipe: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert "missing.toml" in refused("train", tmp_path / "missing.toml", "-o", run)
    unknown = _recipe(tmp_path, tiny_recipe.replace("batch_size", "batchsize"))
    assert "run.batchsize is no key" in refused("train", unknown, "-o", run)
    assert "line" in refused("train", "preview", unknown, "-o", tmp_path / "sheet.png")
    nothing = _recipe(tmp_path, tiny_recipe.replace(".tar", ".rat"))
    assert "no tar matches" in refused("train", nothing, "-o", run)
    assert "no tar matches" in refused("train", "preview", nothing, "-o", tmp_path / "sheet.png")
    good = _recipe(tmp_path, tiny_recipe)
    assert "sheet.xyz" in refused("train", "preview", good, "-o", tmp_path / "sheet.xyz")
    (tmp_path / "taken").write_text("mine")
    assert "taken" in refused("train", good, "-o", tmp_path / "taken")
    assert "--scenes" in refused("train", "render", "-o", tmp_path / "s", "--scenes", "0")
    assert "no.tar" in refused("train", "render", "-o", tmp_path / "s", "--photographs", tmp_path / "no.tar")
    assert "taken" in refused("train", "render", "-o", tmp_path / "taken")
    assert not run.exists() and not (tmp_path / "s").exists()
