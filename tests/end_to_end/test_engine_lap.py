"""A whole lap of the data engine on 40 pictures: stage 1, retrain, stage 2, retrain, stage 3, release."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from anymask.data.sa1b import TarFiles
from anymask.engine.store import open_project

NAMES = ("kuih", "trashbags", "fruit", "tools", "animals")


def lap(folder: Path, *arguments: object) -> dict[str, Any]:
    """Run `anymask engine demo` as a process, and return its last line."""
    command = [sys.executable, "-W", "ignore", "-m", "anymask", "engine", "demo", "-o", folder, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=850)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert f"anymask serve {folder}" in lines[-2]
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def check(report: dict[str, Any], folder: Path) -> None:
    """What holds of any lap."""
    first, second, third = (report["stages"][name] for name in ("assisted", "semi-automatic", "automatic"))
    assert (first["images"], second["images"], third["images"]) == (16, 12, 12)
    assert first["added"] > 0 and second["confirmed"] + second["fixed"] + second["added"] > 0
    assert third["clicks"] == 0 and third["seconds"] == 0
    scores: Sequence[dict[str, Any]] = report["scores"]
    assert [each["model"] for each in scores] == [1, 2, 3]
    assert scores[1]["promoted"] and scores[-1]["miou_1"] > scores[0]["miou_1"]
    with open_project(folder) as project:
        masks = sum(image.num_annotations for image in project.images.all())
        assert project.jobs.in_state("quarantined") == []
        assert {each.state for image in project.images.all() for each in project.jobs.of(image.id)} <= {"done"}
    tars = sorted(Path(report["release"]).glob("sa1b/*/*.tar"))
    files = TarFiles(tars)
    assert len(files) == report["released"]["images"]
    assert sum(len(files.sample(index).masks) for index in range(len(files))) == masks == report["released"]["masks"]


@pytest.mark.slow
def test_a_lap_on_forty_pictures(tmp_path: Path) -> None:
    data = os.environ.get("ANYMASK_DATA")
    if data is None:
        pytest.skip("the lap on pictures needs the labelled tars: name their folder's parent in ANYMASK_DATA")
    tars = [Path(data) / "labelled" / f"{name}-{{}}.tar" for name in NAMES]
    arguments = [item for tar in tars for item in ("--data", str(tar).format("train"))]
    arguments += [item for tar in tars for item in ("--held-out", str(tar).format("val"))]
    report = lap(tmp_path / "lap", *arguments)
    check(report, tmp_path / "lap")
    first, second, third = (report["stages"][name] for name in ("assisted", "semi-automatic", "automatic"))
    assert second["seconds"] < first["seconds"]
    assert third["masks_per_image"] > first["masks_per_image"]
