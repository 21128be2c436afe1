from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

Call = Callable[..., Any]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures of a bright square, and its mask beside each."""
    folder = tmp_path / "pictures"
    (folder / "masks").mkdir(parents=True)
    for number in range(4):
        image = np.full((48, 64, 3), 30, np.uint8)
        mask = np.zeros((48, 64), np.uint8)
        image[10:30, 20 + number : 44] = 220
        mask[10:30, 20 + number : 44] = 1
        cv2.imwrite(str(folder / f"p{number}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"p{number}.png"), mask)
    return folder


@pytest.fixture
def project(anymask: Call, tmp_path: Path) -> Path:
    made = tmp_path / "project"
    ran = anymask("engine", "init", made, "--set", "held_out=0", "--set", "prefill_score=0")
    assert ran.status == 0, ran.err
    return made


def test_a_project_goes_through_its_verbs(anymask: Call, project: Path, pictures: Path, tmp_path: Path) -> None:
    def run(verb: str, *more: object) -> Any:
        ran = anymask("engine", verb, project, *more, "--json")
        assert ran.status == 0, ran.err
        return json.loads(ran.out.splitlines()[-1])

    found = run("import", "masks", pictures, "--images-only")
    assert found == {"images": 4, "masks": 0, "known_images": 0, "known_masks": 0}
    assert run("import", "masks", pictures, "--images-only")["known_images"] == 4
    found = run("assist", "--simulate", pictures, "--limit", 3)
    assert (found["queued"], found["images"], found["masks"]) == (4, 3, 3)
    found = run("prefill", "--simulate", pictures, "--workers", 0, "--steps", 3)
    assert found["prefilled_images"] == 1
    found = run("auto", "--workers", 0, "--points-per-side", 2, "--crop-n-layers", 0)
    assert (found["images"], found["quarantined"]) == (4, 0)
    found = run("check", "--sample", 2, "--simulate", pictures)
    assert found["queued"] == 2 and found["pairs"] + found["rejected"] >= 1
    found = run("review", "--limit", 3)
    assert found["queued"] == found["open"] == 3 and found["accepted"] == found["rejected"] == 0
    assert run("review")["open"] == 4
    found = run("release", "-o", tmp_path / "release", "--format", "coco", "--blur", "none")
    assert found["images"] == 4 and (tmp_path / "release" / "SHA256SUMS").exists()
    assert run("retrain", "--if-due")["verdict"] == "not due"
    found = run("status")
    assert found["images"] == 4 and found["stages"]["assisted"]["images"] == 3
    said = anymask("engine", "status", project)
    assert "assisted" in said.out and "model 1*" in said.out


def test_what_cannot_be_is_refused_on_one_line(
    refused: Call, anymask: Call, project: Path, pictures: Path, tmp_path: Path
) -> None:
    assert "a project already" in refused("engine", "init", project)
    assert "no setting 'colour'" in refused("engine", "init", tmp_path / "new", "--set", "colour=red")
    assert "NAME=VALUE" in refused("engine", "init", tmp_path / "new", "--set", "colour")
    assert "no such file" in refused("engine", "init", tmp_path / "new", "--model", "none/of.safetensors")
    assert "sqlite or postgresql" in refused("engine", "init", tmp_path / "new", "--database", "mysql://h/n")
    assert not (tmp_path / "new").exists()
    assert "holds no project" in refused("engine", "status", tmp_path / "nowhere")
    assert "there is no folder" in refused("engine", "import", project, "images", tmp_path / "nowhere")
    assert "no image has a mask" in refused("engine", "release", project, "-o", tmp_path / "r")
    assert "no earlier model" in refused("engine", "retrain", project, "--roll-back")
    assert "no preset 'none'" in refused("engine", "auto", project, "--preset", "none")
    broken = tmp_path / "broken.json"
    broken.write_text('{"images": [],\n"annotations": [}')
    assert "line 2" in refused("engine", "import", project, "coco", broken)


def test_an_image_that_cannot_be_read_is_named(anymask: Call, project: Path, pictures: Path) -> None:
    assert anymask("engine", "import", project, "images", pictures).status == 0
    (pictures / "p2.png").write_bytes(b"no image any more")
    ran = anymask("engine", "auto", project, "--workers", 0, "--points-per-side", 1, "--crop-n-layers", 0, "--json")
    assert ran.status == 1 and json.loads(ran.out)["quarantined"] == 1
    assert "quarantined  p2.png (automatic, 3 tries)" in anymask("engine", "status", project).out
