from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pycocotools.coco import COCO
from starlette.testclient import TestClient

from anymask.data.images import read_image
from anymask.engine.formats.item import stems
from anymask.engine.formats.outlines import one_ring
from anymask.engine.store import Annotation, NewImage, Project, Put, StoredImage
from anymask.geometry import polygons, rle
from anymask.geometry.polygons import Polygon

SIZE = (60, 80)


def _masks() -> dict[str, np.ndarray]:
    """A plain one, one with a hole, one in two pieces, noise; the second lies within the first."""
    masks = {name: np.zeros(SIZE, bool) for name in ("plain", "holed", "pieces", "empty")}
    masks["plain"][5:50, 10:60] = True
    masks["holed"][10:30, 20:40] = True
    masks["holed"][15:20, 25:30] = False
    masks["pieces"][40:45, 2:8] = True
    masks["pieces"][50:55, 70:79] = True
    masks["noise"] = np.random.default_rng(0).random(SIZE) > 0.5
    return masks


@pytest.fixture
def annotated(client: TestClient, upload: Callable[..., Any], annotation: Any, change: Any) -> TestClient:
    """Two images; the first with four masks, of which the first two have classes."""
    upload(client, name="first.png")
    upload(client, name="second.png")
    classes = [{"id": 0, "name": "cup", "color": "#ff0000"}, {"id": 7, "name": "spoon", "color": "#00ff00"}]
    client.put("/api/classes", json={"base_revision": 0, "client": "t", "classes": classes})
    masks = _masks()
    put = [
        annotation("plain", masks["plain"], class_id=7, score=0.9),
        annotation("holed", masks["holed"], class_id=0, name="the cup"),
        annotation("pieces", masks["pieces"]),
        annotation("noise", masks["noise"]),
        annotation("empty", masks["empty"]),
    ]
    assert change(client, "1", 0, put=put).status_code == 200
    return client


def unzipped(answer: httpx.Response) -> dict[str, bytes]:
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # inside pycocotools
@pytest.mark.parametrize("as_polygons", [False, True])
def test_coco_is_read_by_pycocotools_pixel_for_pixel(annotated: TestClient, tmp_path: Path, as_polygons: bool) -> None:
    answer = annotated.get(f"/api/export?format=coco&polygons={as_polygons}")
    assert 'filename="project-coco.json"' in answer.headers["content-disposition"]
    (tmp_path / "coco.json").write_bytes(answer.content)
    coco = COCO(str(tmp_path / "coco.json"))
    masks = _masks()
    assert coco.getImgIds() == [1, 2]
    for record in coco.loadAnns(coco.getAnnIds(imgIds=[1])):
        expected = masks[record["key"]]
        np.testing.assert_array_equal(coco.annToMask(record), expected)
        assert record["area"] == expected.sum()
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == {0: "cup", 7: "spoon", 8: "object"}
    kinds = {a["key"]: type(a["segmentation"]).__name__ for a in coco.loadAnns(coco.getAnnIds())}
    assert kinds["holed"] == "dict"  # COCO's polygons know no holes
    assert kinds["plain"] == ("list" if as_polygons else "dict")


def test_coco_of_single_images(annotated: TestClient) -> None:
    assert [i["id"] for i in annotated.get("/api/export?format=coco&ids=2").json()["images"]] == [2]
    missing = annotated.get("/api/export?format=coco&ids=1,9")
    assert missing.status_code == 404 and "no image 9" in missing.json()["error"]
    assert annotated.get("/api/export?format=coco&ids=1;2").status_code == 422
    assert annotated.get("/api/export?format=pascal").status_code == 422


def test_sa1b(annotated: TestClient) -> None:
    files = unzipped(annotated.get("/api/export?format=sa1b"))
    assert sorted(files) == ["first.json", "second.json"]
    document = annotated.get("/api/export?format=sa1b&ids=1").json()
    assert document == json.loads(files["first.json"])
    assert document["image"] == {"image_id": 1, "width": 80, "height": 60, "file_name": "first.png"}
    masks = list(_masks().items())
    records = {record["area"]: record for record in document["annotations"]}
    for _, mask in masks:
        record = records[int(mask.sum())]
        np.testing.assert_array_equal(rle.decode(record["segmentation"]), mask)
        if mask.any():
            [(x, y)] = record["point_coords"]
            assert mask[int(y), int(x)]
    assert document["annotations"][0]["predicted_iou"] == 0.9


def test_yolo_rings_enclose_the_masks(annotated: TestClient) -> None:
    files = unzipped(annotated.get("/api/export?format=yolo"))
    assert sorted(files) == ["data.yaml", "labels/first.txt", "labels/second.txt"]
    assert files["labels/second.txt"] == b""
    assert '0: "cup"\n  1: "spoon"\n  2: "object"' in files["data.yaml"].decode()
    lines = files["labels/first.txt"].decode().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "0", "2", "2"]
    for line, name in zip(lines, ("plain", "holed", "pieces", "noise"), strict=True):
        ring = np.array(line.split()[1:], float).reshape(-1, 2) * (80, 60)
        drawn = polygons.to_mask([Polygon(exterior=ring.round(3))], SIZE)
        np.testing.assert_array_equal(drawn, _masks()[name], err_msg=name)


def test_one_ring_of_nothing_is_empty() -> None:
    assert one_ring([]).shape == (0, 2)


def test_label_maps(annotated: TestClient) -> None:
    from PIL import Image

    by_instance = np.asarray(Image.open(io.BytesIO(annotated.get("/api/export?format=labels&ids=1").content)))
    by_class = np.asarray(Image.open(io.BytesIO(annotated.get("/api/export?format=labels&ids=1&values=class").content)))
    masks = _masks()
    assert by_instance.shape == SIZE and by_instance.dtype == np.uint8
    smallest_first = sorted(("plain", "holed", "pieces", "noise"), key=lambda name: masks[name].sum())
    expected = np.zeros(SIZE, int)
    for name in reversed(smallest_first):
        expected[masks[name]] = ["plain", "holed", "pieces", "noise"].index(name) + 1
    np.testing.assert_array_equal(by_instance, expected)
    np.testing.assert_array_equal(by_class, np.array([0, 2, 1, 3, 3])[expected])


def test_cut_outs(annotated: TestClient, image_file: Callable[..., bytes]) -> None:
    from PIL import Image

    files = unzipped(annotated.get("/api/export?format=cutouts"))
    assert sorted(files) == ["first_1_spoon.png", "first_2_the cup.png", "first_3.png", "first_4.png"]
    cut = np.asarray(Image.open(io.BytesIO(files["first_2_the cup.png"])))
    mask, pixels = _masks()["holed"][10:30, 20:40], read_image(image_file())[10:30, 20:40]
    np.testing.assert_array_equal(cut[..., 3] > 0, mask)
    np.testing.assert_array_equal(cut[mask][:, :3], pixels[mask])
    assert not cut[~mask].any()


def test_an_export_that_fails_midway_says_so_in_the_zip(annotated: TestClient, project: Project) -> None:
    annotated.post(
        "/api/images/2/changes",
        json={
            "base_revision": 0,
            "client": "t",
            "changes": [{"op": "put", "annotation": {"id": "x", "rle": rle.encode(_masks()["plain"])}}],
        },
    )
    second = project.images.get(2)
    assert second is not None
    project.path(second.location).unlink()
    files = unzipped(annotated.get("/api/export?format=cutouts"))
    assert b"there is no such file" in files.pop("INCOMPLETE.txt") and len(files) == 4


def test_only_cut_outs_fetch_images_from_elsewhere(client: TestClient, project: Project) -> None:
    project.images.add([NewImage(name="far.png", location="memory://bucket/gone.png", size=SIZE)])
    for format in ("coco", "sa1b", "yolo", "labels", "cutouts"):
        assert client.get(f"/api/export?format={format}").status_code == 200, format
    mask = Annotation(id="a", rle=rle.encode(_masks()["plain"]))
    project.annotations.change(1, 0, "t", [Put(annotation=mask)])
    assert len(client.get("/api/export?format=coco").json()["annotations"]) == 1
    refused = client.get("/api/export?format=cutouts")
    assert refused.status_code == 422 and "gone.png" in refused.json()["error"]


def test_a_project_without_images_exports_nothing(client: TestClient) -> None:
    assert client.get("/api/export?format=coco").json()["images"] == []
    assert unzipped(client.get("/api/export?format=sa1b")) == {}


def test_stems_are_distinct_and_stay_inside() -> None:
    names = ["a.jpg", "A.png", "trip/b.jpg", "../../etc/passwd", "/abs/c.png", "..\\..\\d.png", "..", ""]
    images = [
        StoredImage(id=n, name=name, location=str(n), size=SIZE, revision=0, num_annotations=0)
        for n, name in enumerate(names, 1)
    ]
    assert list(stems(images).values()) == ["a-1", "A-2", "trip/b", "etc/passwd", "abs/c", "d", "image-7", "image-8"]
