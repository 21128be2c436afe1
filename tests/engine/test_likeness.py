from __future__ import annotations

import cv2
import numpy as np
import pytest

import anymask
from anymask.engine.pool import run_pool
from anymask.engine.project_model import model_path, set_project_model
from anymask.engine.stages import SEMI_AUTOMATIC, likeness
from anymask.engine.stages.semi_automatic import awaits
from anymask.engine.store import Annotation, Class, NewImage, Project, Provenance, Put
from anymask.errors import DataError, InputError
from anymask.geometry import rle
from anymask.model import Sam

SIZE = (160, 240)


def disc(x: int, y: int) -> np.ndarray:
    drawn = np.zeros(SIZE, np.uint8)
    cv2.circle(drawn, (x, y), 28, 1, -1)
    return drawn > 0


RED, BLUE = disc(60, 75), disc(175, 80)


@pytest.fixture(scope="module")
def model() -> Sam:
    return anymask.load("anymask-s")


@pytest.fixture
def discs(sqlite_project: Project, model: Sam) -> Project:
    """Six images with a red and a blue disc each; on the first two the red one was confirmed, and named."""
    project = sqlite_project
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(90, 110, (*SIZE, 3), np.uint8)
        pixels[RED], pixels[BLUE] = (30, 30, 230), (230, 30, 30)
        cv2.imwrite(str(project.folder / "images" / f"{number}.png"), pixels)
        project.images.add([NewImage(name=f"{number}.png", location=f"images/{number}.png", size=SIZE)])
    project.classes.replace(
        0, "me", [Class(id=3, name="red", color="#ff0000"), Class(id=4, name="none", color="#000000")]
    )
    people = Provenance(stage="assisted", author="ann")
    for image_id in (1, 2):
        made = Annotation(id="a", rle=rle.encode(RED), class_id=3, name="red", provenance=people)
        project.annotations.change(image_id, 0, "ann", [Put(annotation=made)])
    set_project_model(project, model)
    return project


def test_a_confirmed_class_is_proposed_by_name_on_other_images(discs: Project, model: Sam) -> None:
    wanted = likeness.class_named(discs, "red")
    assert 0 < likeness.least_similarity(discs, model, wanted) <= 1
    assert likeness.open_queue(discs, wanted) == 4
    task = likeness.LikeTask(model=str(model_path(discs)), wanted=wanted, least=0.6)
    done = run_pool(discs, likeness.kind_of(wanted), task, workers=0)
    assert (done.done, done.quarantined) == (4, 0) and done.masks > 0
    assert not any(each.id.startswith("like") for each in discs.annotations.state(1).annotations)
    with_masks = [image.id for image in discs.images.all()[2:] if image.num_annotations]
    for image_id in with_masks:
        for each in discs.annotations.state(image_id).annotations:
            assert (each.class_id, each.name) == (3, "red") and awaits(each)
            assert each.prompts is not None and each.prompts["similarity"] >= 0.6  # type: ignore[operator]
        found = discs.annotations.state(image_id).annotations
        overlap = rle.pairwise_iou([each.rle for each in found], [rle.encode(RED), rle.encode(BLUE)])
        alike = [float(each.prompts["similarity"]) for each in found if each.prompts]  # type: ignore[arg-type]
        assert overlap[:, 0].max() > 0.8
        blue = [alike[index] for index in np.flatnonzero(overlap[:, 1] > 0.8)]
        assert alike[int(overlap[:, 0].argmax())] > max(blue, default=0.0)
    assert likeness.open_people_queue(discs, wanted) == len(with_masks)
    assert discs.jobs.counts(SEMI_AUTOMATIC)[SEMI_AUTOMATIC] == {"open": len(with_masks)}
    assert likeness.open_queue(discs, wanted) == 0


def test_a_class_needs_a_name_and_an_example(discs: Project, model: Sam) -> None:
    with pytest.raises(InputError, match="'blue' is no class of this project; its classes: red, none"):
        likeness.class_named(discs, "blue")
    with pytest.raises(DataError, match="nobody has confirmed a mask of this class yet"):
        likeness.least_similarity(discs, model, likeness.class_named(discs, "none"))
