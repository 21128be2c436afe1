from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from anymask.data.readers.tars import TarFiles
from anymask.engine.release import ReleasePlan, release
from anymask.engine.release.blurring import blur, blurrer
from anymask.engine.release.measures import concavity
from anymask.engine.store import Annotation, Class, Project, Provenance, Put
from anymask.errors import DataError, InputError, OutputError
from anymask.geometry import rle

SIZE = (48, 64)


@pytest.fixture
def filled(sqlite_project: Project, add_images: Callable[..., list[int]]) -> Project:
    project = sqlite_project
    for split in ("train", "held-out"):
        for image in add_images(project, 3, split):
            mask = np.zeros(SIZE, bool)
            mask[10:30, 20:44] = True
            known = Provenance(stage="automatic", author="model", origin="automatic")
            each = Annotation(id="a", rle=rle.encode(mask), score=0.9, provenance=known)
            project.annotations.change(image, 0, "model", [Put(annotation=each)])
    return project


def test_every_format_holds_every_mask(filled: Project, tmp_path: Path) -> None:
    plan = ReleasePlan(formats=("sa1b", "coco", "webdataset", "parquet"), blur="none", images_per_tar=2)
    done = release(filled, tmp_path / "out", plan)
    assert (done.images, done.masks) == (6, 6)
    for folder in ("sa1b/train", "sa1b/val"):
        tars = sorted((done.folder / folder).glob("*.tar"))
        files = TarFiles(tars)
        assert (len(tars), len(files)) == (2, 3)
        assert files.sample(0).masks.sum() == 20 * 24
    values = json.loads((done.folder / "coco" / "val.json").read_text())
    assert len(values["images"]) == len(values["annotations"]) == 3
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(done.folder / "parquet" / "train.parquet").to_pylist()
    assert [row["area"] for row in table] == [480] * 3 and table[0]["origin"] == "automatic"
    with tarfile.open(done.folder / "webdataset" / "train-000000.tar") as shard:
        names = shard.getnames()
    assert [Path(name).suffix for name in names] == [".png", ".json", ".png", ".json"]
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=done.folder, check=True)
    card = (done.folder / "README.md").read_text()
    assert "6 images with 6 masks" in card and "| automatic | 6 |" in card
    assert len(list((done.folder / "card").glob("*.png"))) == 4


def test_a_class_that_is_not_in_the_list_any_more_counts_as_none(filled: Project, tmp_path: Path) -> None:
    filled.classes.replace(0, "me", [Class(id=3, name="leaf", color="#123456")])
    for image, class_id in zip(filled.images.all(), (3, 9, None, 3, 3, 3), strict=True):
        (each,) = filled.annotations.state(image.id).annotations
        filled.annotations.change(image.id, 1, "me", [Put(annotation=replace(each, class_id=class_id))])
    done = release(filled, tmp_path / "out", ReleasePlan(formats=("coco", "parquet"), blur="none"))
    values = json.loads((done.folder / "coco" / "train.json").read_text())
    assert [each["category_id"] for each in values["annotations"]] == [3, 4, 4]
    assert {each["id"] for each in values["categories"]} == {3, 4}
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(done.folder / "parquet" / "train.parquet").to_pylist()
    assert [row["category_id"] for row in table] == [3, None, None]


def test_images_and_masks_are_made_small_together(filled: Project, tmp_path: Path) -> None:
    done = release(filled, tmp_path / "out", ReleasePlan(formats=("sa1b",), short_side=24, blur="none"))
    sample = TarFiles(sorted((done.folder / "sa1b/train").glob("*.tar"))).sample(0)
    assert sample.image.shape == (24, 32, 3)
    assert sample.masks[0, 5:15, 10:22].all() and sample.masks.sum() == 120


def test_a_release_is_whole_or_absent(filled: Project, tmp_path: Path) -> None:
    filled.path(filled.images.all()[4].location).unlink()
    with pytest.raises(InputError):
        release(filled, tmp_path / "out", ReleasePlan(blur="none"))
    assert list(tmp_path.glob("*out*")) == []
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(OutputError, match="not empty"):
        release(filled, tmp_path / "taken")


def test_nothing_is_no_release(sqlite_project: Project, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to release"):
        release(sqlite_project, tmp_path / "out")
    with pytest.raises(InputError, match="no format"):
        ReleasePlan(formats=("pascal",))


def test_blurring_is_by_any_detector() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (40, 40, 3), np.uint8)
    blurred = blur(image, np.array([[5.0, 5, 25, 25]]))
    assert np.array_equal(blurred[30:], image[30:])
    assert blurred[8:22, 8:22].std() < 0.5 * image[8:22, 8:22].std()
    assert blurrer("none") == (None, "Nothing was blurred.")
    _, said = blurrer("auto")
    assert "blurred" in said
    with pytest.raises(InputError, match="--blur nobody"):
        blurrer("nobody")
    if not hasattr(cv2, "CascadeClassifier"):
        with pytest.raises(InputError, match="ships no cascades"):
            blurrer("opencv")


def test_concavity() -> None:
    full, notched = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    full[2:18, 2:18] = True
    notched[2:18, 2:6], notched[2:18, 14:18], notched[14:18, 2:18] = True, True, True
    assert concavity(rle.encode(full)) == 0
    assert 0.3 < concavity(rle.encode(notched)) < 0.5


def test_concavity_is_that_of_the_hull_of_every_pixel() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        noise = cv2.GaussianBlur(rng.random((40, 50)).astype(np.float32), (0, 0), rng.uniform(0.5, 4))
        mask = (noise > np.quantile(noise, rng.uniform(0.3, 0.99))).astype(np.uint8)
        hull = np.zeros_like(mask)
        cv2.fillConvexPoly(hull, cv2.convexHull(cv2.findNonZero(mask)), 1)
        expected = 1 - mask.sum() / max(hull.sum(), mask.sum())
        assert concavity(rle.encode(mask > 0)) == pytest.approx(float(expected))
