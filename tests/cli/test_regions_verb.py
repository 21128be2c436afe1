from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anymask.data.files import write_image_atomic
from anymask.data.readers.tars import TarFiles


def test_regions_are_written_once(anymask: Callable[..., Any], tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for index in range(3):
        image = np.full((80, 100, 3), 60, np.uint8)
        image[20:60, 20 : 50 + 10 * index] = (230, 80, 40)
        write_image_atomic(photographs / f"{index}.png", image)
    call = ["train", "regions", photographs, "-o", tmp_path / "shards", "--per-shard", "2"]
    ran = anymask(*call)
    assert ran.status == 0, ran.err
    paths = [Path(line) for line in ran.out.splitlines()]
    assert [len(TarFiles([path])) for path in paths] == [2, 1]
    assert anymask(*call).out == ""


def test_bad_places(refused: Callable[..., str], tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    assert "no.tar" in refused("train", "regions", tmp_path / "no.tar", "-o", shards)
    (tmp_path / "taken").write_text("mine")
    assert "taken" in refused("train", "regions", tmp_path, "-o", tmp_path / "taken")
    assert "--per-shard" in refused("train", "regions", tmp_path, "-o", shards, "--per-shard", "0")
    assert not shards.exists()


def test_a_model_looks_too(anymask: Callable[..., Any], refused: Callable[..., str], tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    image = np.full((160, 200, 3), 60, np.uint8)
    image[40:120, 40:150] = (230, 80, 40)
    write_image_atomic(photographs / "only.png", image)
    assert "unheard-of" in refused("train", "regions", photographs, "-o", tmp_path / "shards", "--model", "unheard-of")
    ran = anymask("train", "regions", photographs, "-o", tmp_path / "shards", "--model", "anymask-s")
    assert ran.status == 0, ran.err
    assert [Path(line).name for line in ran.out.splitlines()] == ["own-00000.tar"]
