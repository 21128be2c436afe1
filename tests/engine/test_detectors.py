"""Detectors of transformers, made here from a configuration, behind the engine's interface; what is confident."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from anymask.engine.detectors import Detections
from anymask.engine.detectors.boxes import HuggingFaceDetector
from anymask.engine.pool import run_pool
from anymask.engine.project_model import model_path, set_project_model
from anymask.engine.stages import PREFILL, prefilling, semi_automatic
from anymask.engine.store import Annotation, Project, Put
from anymask.errors import CheckpointError, DataError
from anymask.geometry import rle
from anymask.model import SIZES, Sam, build_sam

transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'anymask[text]'")
SIZE = (48, 64)
Add = Callable[..., list[int]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLOS of two layers and random weights, in a folder as transformers saves it."""
    made = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    config = transformers.YolosConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=[64, 96],
        num_detection_tokens=12,
        use_mid_position_embeddings=False,
        num_labels=3,
    )
    transformers.YolosForObjectDetection(config).save_pretrained(made)
    transformers.YolosImageProcessor(size={"height": 64, "width": 96}).save_pretrained(made)
    return made


@pytest.fixture
def model() -> Sam:
    torch.manual_seed(0)
    return build_sam(dataclasses.replace(SIZES["smoke"], image_size=64)).eval()


def test_a_detector_of_transformers_answers_in_pixels_of_the_image(folder: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    detector = HuggingFaceDetector(folder)
    found = detector.detect(image)
    assert isinstance(found, Detections) and 0 < len(found.boxes) == len(found.scores) <= 12
    assert (np.diff(found.scores) <= 0).all() and found.scores.min() >= 0 and found.scores.max() <= 1
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    assert (centres >= 0).all() and (centres <= (SIZE[1], SIZE[0])).all()
    large = detector.detect(np.repeat(np.repeat(image, 2, 0), 2, 1))
    assert np.abs(large.boxes[0] - 2 * found.boxes[0]).max() < 6


def test_a_folder_without_a_detector_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no detector of transformers"):
        HuggingFaceDetector(tmp_path)


def test_an_image_is_prefilled_with_a_detector_of_transformers(
    sqlite_project: Project, add_images: Add, model: Sam, folder: Path
) -> None:
    add_images(sqlite_project, 2, "train")
    set_project_model(sqlite_project, model)
    sqlite_project.settings.replace(sqlite_project.settings.current().replace({"prefill_score": 0}))
    semi_automatic.open_queue(sqlite_project, sqlite_project.images.all())
    task = prefilling.PrefillTask(model=str(model_path(sqlite_project)), detector=str(folder), least=-9.0)
    done = run_pool(sqlite_project, PREFILL, task, workers=0)
    assert (done.done, done.quarantined) == (2, 0)
    made = [each for image in (1, 2) for each in sqlite_project.annotations.state(image).annotations]
    assert len(made) == done.masks > 0
    assert {each.provenance.origin for each in made if each.provenance} == {"prefilled"}
    semi_automatic.open_people_queue(sqlite_project)
    assert sqlite_project.jobs.counts("semi-automatic")["semi-automatic"] == {"open": 2}


def test_what_is_confident_follows_from_what_was_right() -> None:
    tried = [(0.9, True), (0.8, False), (0.7, True), (0.6, True), (0.5, False), (0.4, False), (0.3, False)]
    assert prefilling.least_score(tried, 0.75) == 0.6
    assert prefilling.least_score(tried, 0.5) == 0.4
    assert prefilling.least_score(tried, 1.0) == 0.9
    assert prefilling.least_score([(0.9, False), (0.2, False)], 0.5) == 1.0
    assert prefilling.least_score([], 0.5) == 1.0


class Boxes:
    """A detector that finds what it is told."""

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        self.boxes = np.array(boxes, np.float64)

    def detect(self, image: np.ndarray) -> Detections:
        return Detections(boxes=self.boxes, scores=np.linspace(0.9, 0.5, len(self.boxes)))


def test_few_masks_and_a_setting_leave_nothing_to_choose(sqlite_project: Project, add_images: Add, model: Sam) -> None:
    project = sqlite_project
    ids = add_images(project, 7, "train")
    mask = np.zeros(SIZE, bool)
    mask[10:30, 20:44] = True
    detector = Boxes((20, 10, 44, 30))

    def mark(count: int) -> None:
        for image in ids:
            state = project.annotations.state(image)
            put = [Put(annotation=Annotation(id=f"m{n}", rle=rle.encode(np.roll(mask, n)))) for n in range(count)]
            project.annotations.change(image, state.revision, "ann", put)

    mark(1)
    assert prefilling.choose_confidence(project, model, detector) is None
    mark(2)
    chosen = prefilling.choose_confidence(project, model, detector)
    assert chosen is not None and 0 <= chosen <= 1
    project.settings.replace(project.settings.current().replace({"prefill_iou": 0.4}))
    assert prefilling.choose_confidence(project, model, detector) is None


def test_masks_that_are_all_held_out_are_named_as_the_reason(
    sqlite_project: Project, add_images: Add, model: Sam
) -> None:
    (image,) = add_images(sqlite_project, 1, "held-out")
    with pytest.raises(DataError, match="no image that may be learned from and can be read has a mask yet"):
        prefilling.train_on_project(sqlite_project, model)
    one = Annotation(id="a", rle=rle.encode(np.ones(SIZE, bool)))
    sqlite_project.annotations.change(image, 0, "ann", [Put(annotation=one)])
    with pytest.raises(DataError, match="all 1 images with masks are held out"):
        prefilling.train_on_project(sqlite_project, model)
