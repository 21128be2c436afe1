"""A review and a check in a browser, on `anymask serve` and a data engine's project; and what the store has of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import httpx
import numpy as np
import pytest

from anymask.checkpoints import load_model
from anymask.data.images import read_image
from anymask.engine import quality
from anymask.engine.project_model import set_project_model
from anymask.engine.store import Annotation, NewImage, Provenance, Put, init_project, open_project
from anymask.errors import InputError
from anymask.export.web import packaged_page
from anymask.geometry import rle

PATIENCE = 30
"""Times to ask for a file that is being made; each waits for eight seconds."""
SCORES = {"right": 0.95, "half": 0.3, "wrong": 0.8, "twice": 0.6}


def make_project(folder: Path) -> Path:
    """A project with four masks on the picture of a coffee, one on that of a cat, which alone is checked."""
    init_project(folder)
    with open_project(folder) as project:
        set_project_model(project, load_model("anymask-s"))
        for name, scores in (("coffee", SCORES), ("cat", {"only": 0.97})):
            path = Path(str(files("anymask.samples") / f"{name}.jpg"))
            height, width = read_image(path).shape[:2]
            (image,) = project.images.add([NewImage(name=path.name, location=str(path), size=(height, width))])
            known = Provenance(stage="automatic", author="model", origin="automatic")
            masks = [
                Annotation(id=key, rle=rle.encode(box(height, width, place)), score=score, provenance=known)
                for place, (key, score) in enumerate(scores.items())
            ]
            project.annotations.change(image.id, 0, "auto", [Put(annotation=each) for each in masks])
        quality.open_review(project)
        quality.open_check(project, 2)
        coffee = project.jobs.lease(quality.CHECK, "Pro", seconds=600)
        assert coffee is not None
        while coffee.image_id != 1:
            other = project.jobs.lease(quality.CHECK, "Pro", seconds=600)
            assert other is not None
            project.jobs.give_back(coffee)
            coffee = other
        project.jobs.skip(coffee, "a smaller sample will do")
    return folder


def box(height: int, width: int, place: int) -> np.ndarray:
    """A rectangle in the middle, each a bit further to the left than the one before."""
    mask = np.zeros((height, width), bool)
    mask[height * 3 // 8 : height * 5 // 8, width * (7 - place) // 16 : width * (10 - place) // 16] = True
    return mask


@pytest.mark.long
def test_words_said_in_the_browser_are_in_the_store(in_browser: Callable[..., None], tmp_path: Path) -> None:
    try:
        packaged_page()
    except InputError as error:
        pytest.skip(str(error))
    folder = make_project(tmp_path / "project")
    command = [sys.executable, "-m", "anymask", "serve", folder, "--port", "0", "--json"]
    environment = os.environ | {"ANYMASK_HOME": str(tmp_path / "home")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = json.loads(process.stdout.readline())["url"]
            with httpx.Client(base_url=url, timeout=60) as client:
                answers = (client.get("api/models/prompt.onnx") for _ in range(PATIENCE))
                assert any(answer.status_code == 200 for answer in answers), "prompt.onnx was never there"
            in_browser("judging", ANYMASK_JUDGING=url)
        finally:
            process.send_signal(signal.SIGINT)
    with open_project(folder) as project:
        (_, told), *_ = project.outcomes.history("review")
        assert (told.confirmed, told.fixed, told.rejected, told.added) == (1, 1, 2, 0)
        said = quality.review_report(project)
        assert said.reasons == {"A part is missing": 1, "Seen before": 1}
        now = {each.id: each for each in project.annotations.state(1).annotations}
        assert set(now) == {"right", "wrong"}
        fixed = now["wrong"].provenance
        assert fixed is not None and (fixed.author, fixed.stage, fixed.clicks) == ("Eve", "review", 1)
        assert now["right"].provenance == Provenance(stage="automatic", author="model", origin="automatic")
        checked = quality.check_report(project)
        assert (checked.pairs, checked.over_90, checked.rejected) == (1, 0.0, 0)
