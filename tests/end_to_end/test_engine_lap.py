"""A whole lap of the data engine on 40 pictures: stage 1, retrain, stage 2, retrain, stage 3, release.

They are photographs where ANYMASK_DATA names a folder of labelled tars' parent, and else drawn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from anymask.data.readers.tars import TarFiles
from anymask.engine.retrain import GATES
from anymask.engine.store import open_project

NAMES = ("kuih",)
"""Cakes on plates: pictures of one kind, as a team has, so that a model which knows nothing can learn them in a lap."""


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
    """People get quicker and click less, images get more masks, models get better, and nothing is lost."""
    first, second, third = (report["stages"][name] for name in ("assisted", "semi-automatic", "automatic"))
    assert (first["images"], second["images"], third["images"]) == (16, 12, 12)
    assert first["added"] > 0 and second["added"] > 0
    assert third["clicks"] == 0 and third["seconds"] == 0 and third["objects_shown"] > 0.5
    assert first["seconds"] > second["seconds"] > third["seconds"]
    assert first["clicks"] > second["clicks"] > third["clicks"]
    assert first["masks_per_image"] < second["masks_per_image"] < third["masks_per_image"]
    assert second["prefilled"] == second["confirmed"] + second["fixed"] + second["rejected"]
    assert second["confirmed"] + second["fixed"] > 0
    scores: Sequence[dict[str, Any]] = report["scores"]
    assert [each["model"] for each in scores] == [1, 2, 3]
    assert scores[1]["promoted"] and all(scores[1][gate] > scores[0][gate] + 0.1 for gate in GATES)
    means = [fmean(each[gate] for gate in GATES) for each in scores if each["promoted"]]
    assert means == sorted(means) and scores[2]["miou_1"] > scores[0]["miou_1"] + 0.1
    with open_project(folder) as project:
        masks = sum(image.num_annotations for image in project.images.all())
        assert project.jobs.in_state("quarantined") == []
        assert {each.state for image in project.images.all() for each in project.jobs.of(image.id)} <= {"done"}
    tars = sorted(Path(report["release"]).glob("sa1b/*/*.tar"))
    files = TarFiles(tars)
    assert len(files) == report["released"]["images"]
    assert sum(len(files.sample(index).masks) for index in range(len(files))) == masks == report["released"]["masks"]


@pytest.mark.long
def test_a_lap_on_forty_pictures(tmp_path: Path) -> None:
    arguments: list[object] = []
    if data := os.environ.get("ANYMASK_DATA"):
        for name in NAMES:
            tars = Path(data) / "labelled"
            arguments += ["--data", tars / f"{name}-train.tar", "--held-out", tars / f"{name}-val.tar"]
    report = lap(tmp_path / "lap", *arguments)
    check(report, tmp_path / "lap")
