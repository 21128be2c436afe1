from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anymask.data.images import read_image
from anymask.data.sample import Sample
from anymask.data.writers.sa1b import write_tar
from anymask.engine.imports import Imported, import_found, read_source, writing
from anymask.engine.store import Delete, Project
from anymask.errors import AnymaskError, DataError, InputError, OutputError
from anymask.geometry import rle
from anymask.server.schemas.annotating import Annotation as Wire

SIZE = (40, 60)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*SIZE, 3), 90, np.uint8))


def take(project: Project, kind: str, path: Path, **more: Any) -> Imported:
    return import_found(project, read_source(kind, str(path), **more), source=path.name)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        picture(tmp_path / "coco" / name)
    values = {
        "images": [
            {"id": n, "file_name": f"{name}.png", "width": 60, "height": 40} for n, name in ((7, "a"), (9, "b"))
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[5, 5, 25, 5, 25, 20, 5, 20]]},
            {"id": 2, "image_id": 7, "category_id": 4, "segmentation": [[30, 5, 50, 5, 50, 30]]},
            {"id": 3, "image_id": 9, "category_id": 3, "segmentation": [[1, 1, 9, 1, 9, 9]]},
        ],
        "categories": [{"id": 3, "name": "leaf"}, {"id": 4, "name": "stem"}],
    }
    path = tmp_path / "coco" / "annotations.json"
    path.write_text(json.dumps(values))
    return path


def test_coco_comes_once_with_its_classes(sqlite_project: Project, coco: Path) -> None:
    project = sqlite_project
    assert take(project, "coco", coco) == Imported(images=2, masks=3, known_images=0, known_masks=0)
    assert take(project, "coco", coco) == Imported(images=0, masks=0, known_images=2, known_masks=3)
    first, _ = project.images.all()
    assert (first.name, first.size, first.num_annotations) == ("a.png", SIZE, 2)
    names = {each.id: each.name for each in project.classes.current().classes}
    masks = project.annotations.state(first.id).annotations
    assert [names[each.class_id or 0] for each in masks] == ["leaf", "stem"]
    assert masks[0].provenance is not None and masks[0].provenance.origin == "imported"


def test_what_people_did_since_stays(sqlite_project: Project, coco: Path) -> None:
    project = sqlite_project
    take(project, "coco", coco)
    project.annotations.change(1, 1, "ann", [Delete(id="annotations-1")])
    values = json.loads(coco.read_text())
    values["annotations"].append({"id": 5, "image_id": 7, "category_id": 3, "segmentation": [[2, 30, 9, 30, 9, 38]]})
    coco.write_text(json.dumps(values))
    assert take(project, "coco", coco).masks == 1
    assert [each.id for each in project.annotations.state(1).annotations] == ["annotations-2", "annotations-5"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: [a.update(segmentation=[[1, 1, 2]]) for a in v["annotations"][1:]], "annotation 2 has"),
        (lambda v: [a.update(image_id=99) for a in v["annotations"][1:]], "annotation 2 is of image 99.* 1 more"),
        (lambda v: v["images"][1].update(file_name="none.png"), "none.png of image 9"),
    ],
)
def test_a_broken_entry_is_named_and_nothing_is_imported(
    sqlite_project: Project, coco: Path, spoil: Callable[[Any], None], message: str
) -> None:
    values = json.loads(coco.read_text())
    spoil(values)
    coco.write_text(json.dumps(values))
    with pytest.raises(DataError, match=message):
        take(sqlite_project, "coco", coco)
    assert sqlite_project.images.all() == []


@pytest.mark.parametrize("name", ["my annotations", "annotations (1)", "标注", "x" * 80])
def test_a_file_of_any_name_gives_masks_that_a_page_may_send_back(
    sqlite_project: Project, coco: Path, name: str
) -> None:
    project = sqlite_project
    path = coco.rename(coco.with_name(f"{name}.json"))
    import_found(project, read_source("coco", str(path)), source=f"{'far/' * 80}{path.name}")
    masks = project.annotations.state(1).annotations
    for each in masks:
        assert Wire.model_validate(each).stored() == each
    assert len({each.id for each in masks}) == 2 and masks[0].id != "annotations-1"
    assert take(project, "coco", path).known_masks == 3


def test_classes_are_such_as_a_page_can_show(
    sqlite_project: Project, coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = sqlite_project
    values = json.loads(coco.read_text())

    def named(*names: str) -> None:
        values["categories"] = [{"id": id, "name": name} for id, name in zip((3, 4), names, strict=True)]
        coco.write_text(json.dumps(values))

    named("y" * 201, "stem")
    with pytest.raises(DataError, match=r"\.json: the name of the class y+… has 201 characters; at most 200"):
        take(project, "coco", coco)
    named("leaf", "stem")
    with monkeypatch.context() as patched, pytest.raises(DataError, match="would have 2 classes; at most 1 can be"):
        patched.setattr(writing, "MAX_CLASSES", 1)
        take(project, "coco", coco)
    assert project.images.all() == []
    named(" ", "a\tstem")
    assert take(project, "coco", coco).masks == 3
    assert [each.name for each in project.classes.current().classes] == ["a stem"]
    assert [each.class_id for each in project.annotations.state(1).annotations] == [None, 1]


def test_values_that_no_page_could_be_told_come_in_mended_or_not_at_all(
    sqlite_project: Project, coco: Path, tmp_path: Path
) -> None:
    values = json.loads(coco.read_text())
    values["categories"][0]["name"] = "le\ud800f"
    coco.write_text(json.dumps(values))
    assert take(sqlite_project, "coco", coco).masks == 3
    assert [each.name for each in sqlite_project.classes.current().classes] == ["le\ufffdf", "stem"]
    picture(tmp_path / "pairs" / "x.png")
    mask = rle.encode(np.pad(np.ones((5, 5), bool), ((0, 35), (0, 55))))
    document = json.dumps({"annotations": [{"id": 1, "segmentation": mask, "predicted_iou": 7}]})
    (tmp_path / "pairs" / "x.json").write_text(document.replace("7}", "1e999}"))
    take(sqlite_project, "sa1b", tmp_path / "pairs")
    (image,) = (each for each in sqlite_project.images.all() if each.name == "x.png")
    assert sqlite_project.annotations.state(image.id).annotations[0].score is None


def test_two_tars_of_one_name_keep_their_own_pictures(sqlite_project: Project, tmp_path: Path) -> None:
    masks = np.zeros((1, *SIZE), bool)
    masks[0, 5:20, 5:20] = True
    for place, value in (("one", 50), ("other", 200)):
        (tmp_path / place).mkdir()
        sample = Sample(key="a", image=np.full((*SIZE, 3), value, np.uint8), masks=masks)
        write_tar(tmp_path / place / "t.tar", [sample])
        for new in (1, 0):
            assert take(sqlite_project, "sa1b", tmp_path / place / "t.tar").images == new
    read = [read_image(sqlite_project.path(image.location)).mean() for image in sqlite_project.images.all()]
    assert len(read) == 2 and abs(read[0] - 50) < 2 and abs(read[1] - 200) < 2


def test_an_import_that_fails_while_it_is_written_leaves_no_image(
    sqlite_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = np.ones((1, *SIZE), bool)
    pictures = [Sample(key=key, image=np.full((*SIZE, 3), 9, np.uint8), masks=masks) for key in "abc"]
    write_tar(tmp_path / "t.tar", pictures)
    whole, written = writing.write_bytes_atomic, []

    def full(path: Path, data: bytes) -> None:
        if len(written) == 2:
            raise OutputError("no space left")
        written.append(path)
        whole(path, data)

    monkeypatch.setattr(writing, "write_bytes_atomic", full)
    with pytest.raises(OutputError):
        take(sqlite_project, "sa1b", tmp_path / "t.tar")
    assert len(written) == 2 and list((sqlite_project.folder / "images").iterdir()) == []


def test_images_without_masks_come_along_and_broken_ones_do_not(sqlite_project: Project, coco: Path) -> None:
    values = json.loads(coco.read_text())
    coco.write_text(json.dumps(values | {"annotations": values["annotations"][:2]}))
    assert take(sqlite_project, "coco", coco) == Imported(images=2, masks=2, known_images=0, known_masks=0)
    (coco.parent / "._b.png").write_bytes(b"x")
    (coco.parent / "broken.png").write_bytes(b"x")
    assert take(sqlite_project, "images", coco.parent).known_images == 2


def test_broken_json_is_named_by_its_line(sqlite_project: Project, coco: Path) -> None:
    coco.write_text('{"images": [],\n"annotations": [}\n')
    with pytest.raises(DataError, match="line 2"):
        take(sqlite_project, "coco", coco)


def test_sa1b_tars_bring_their_images_along(sqlite_project: Project, tmp_path: Path) -> None:
    project = sqlite_project
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 5:20, 5:20], masks[1, 25:35, 30:50] = True, True
    sample = Sample(key="one", image=np.full((*SIZE, 3), 120, np.uint8), masks=masks)
    write_tar(tmp_path / "t.tar", [sample])
    alone = import_found(
        project, read_source("sa1b", str(tmp_path / "t.tar"), masks=False), source="t", split="held-out"
    )
    assert alone == Imported(images=1, masks=0, known_images=0, known_masks=0)
    assert take(project, "sa1b", tmp_path / "t.tar").masks == 2
    (image,) = project.images.all()
    assert image.split == "held-out" and project.path(image.location).is_file()


def test_a_broken_sa1b_mask_is_named(sqlite_project: Project, tmp_path: Path) -> None:
    picture(tmp_path / "pairs" / "a.png")
    bad = {"annotations": [{"id": 41, "segmentation": {"size": [3, 3], "counts": "9"}}]}
    (tmp_path / "pairs" / "a.json").write_text(json.dumps(bad))
    with pytest.raises(DataError, match=r"a\.json: annotation 41"):
        take(sqlite_project, "sa1b", tmp_path / "pairs")
    assert sqlite_project.images.all() == []


def test_labelme_shapes(sqlite_project: Project, tmp_path: Path) -> None:
    project = sqlite_project
    picture(tmp_path / "lm" / "a.png")
    shapes = [
        {"label": "leaf", "points": [[5, 5], [25, 5], [25, 20]], "shape_type": "polygon"},
        {"label": "stem", "points": [[30, 5], [50, 25]], "shape_type": "rectangle"},
        {"label": "leaf", "points": [[30, 30], [30, 35]], "shape_type": "circle"},
        {"label": "vein", "points": [[1, 1], [2, 2]], "shape_type": "line"},
    ]
    path = tmp_path / "lm" / "a.json"
    path.write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    assert take(project, "labelme", tmp_path / "lm").masks == 3
    path.write_text(json.dumps({"imagePath": "a.png", "shapes": [{"label": "x", "points": [[1]]}]}))
    with pytest.raises(DataError, match=r"a\.json: shape 0"):
        take(project, "labelme", tmp_path / "lm")


def test_folders_of_masks_and_of_images(sqlite_project: Project, tmp_path: Path) -> None:
    project = sqlite_project
    picture(tmp_path / "m" / "images" / "a.png")
    values = np.zeros(SIZE, np.uint8)
    values[:10, :10], values[20:30, 20:30] = 1, 2
    (tmp_path / "m" / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "m" / "masks" / "a.png"), values)
    assert take(project, "masks", tmp_path / "m").masks == 2
    picture(tmp_path / "i" / "deep" / "b.png")
    assert take(project, "images", tmp_path / "i").images == 1
    assert {image.name for image in project.images.all()} == {"images/a.png", "deep/b.png"}
    with pytest.raises(AnymaskError):
        take(project, "images", tmp_path / "nowhere")
    with pytest.raises(InputError, match="no format"):
        read_source("yolo", "x")
