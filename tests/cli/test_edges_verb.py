from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

Run = Callable[..., Any]


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    picture = np.full((48, 64, 3), 30, np.uint8)
    picture[12:36, 16:48] = 220
    path = tmp_path / "box.png"
    Image.fromarray(picture).save(path)
    return path


@pytest.fixture
def bsds(tmp_path: Path, photograph: Path) -> Path:
    data = tmp_path / "data"
    for part in ("images/test", "groundTruth/test"):
        (data / part).mkdir(parents=True)
    with Image.open(photograph) as picture:
        picture.save(data / "images/test/1.jpg", quality=95)
    outline = np.zeros((48, 64), np.uint8)
    outline[12:36, [16, 47]] = outline[[12, 35], 16:48] = 1
    human = np.empty((1, 1), [("Segmentation", object), ("Boundaries", object)])
    human[0, 0] = (outline, outline)
    cell = np.empty((1, 1), object)
    cell[0, 0] = human
    savemat(data / "groundTruth/test/1.mat", {"groundTruth": cell})
    return data


def test_edges_are_drawn_in_grey(anymask: Run, photograph: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "edges.png"
    ran = anymask("edges", photograph, "-o", output, "--points-per-side", 4, "--json")
    assert ran.status == 0, ran.err
    record = json.loads(ran.out)
    with Image.open(output) as drawn:
        assert drawn.size == (64, 48) and drawn.mode == "L"
    assert (record["width"], record["height"], record["file"]) == (64, 48, str(output))


def test_edges_refuse_bad_input_before_anything_is_written(refused: Run, photograph: Path, tmp_path: Path) -> None:
    assert "names no image format" in refused("edges", photograph, "-o", tmp_path / "edges.txt")
    assert "absent.png" in refused("edges", tmp_path / "absent.png", "-o", tmp_path / "out" / "edges.png")
    assert not (tmp_path / "out").exists()


def test_the_benchmark_prints_one_object_and_writes_a_table(anymask: Run, bsds: Path, tmp_path: Path) -> None:
    output = tmp_path / "results"
    command = ("evaluate", "edges", bsds, "--method", "sobel", "--workers", 1, "--json", "-o", output)
    ran = anymask(*command)
    assert ran.status == 0, ran.err
    scores = json.loads(ran.out)
    assert scores["method"] == "sobel" and all(0 <= scores[name] <= 1 for name in ("ods", "ois", "ap", "r50"))
    assert json.loads((output / "edges.json").read_text()) == scores
    assert "SAM ViT-H (published)" in (output / "edges.md").read_text()
    assert json.loads(anymask(*command).out) == scores


def test_the_benchmark_takes_a_model(anymask: Run, bsds: Path) -> None:
    ran = anymask("evaluate", "edges", bsds, "--workers", 1, "--points-per-side", 2)
    assert ran.status == 0, ran.err
    assert "anymask-s" in ran.out and "0.786" in ran.out


def test_the_benchmark_says_what_folder_it_wants(refused: Run, tmp_path: Path) -> None:
    assert "give BSDS500's own data/" in refused("evaluate", "edges", tmp_path, "--method", "canny")
