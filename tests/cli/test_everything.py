"""`anymask everything`: its files, what it goes on with, and what it refuses."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from anymask.cli import build_app
from anymask.data import files
from anymask.data.files import write_image_atomic
from anymask.data.readers.pairs import parse_sample
from anymask.errors import DataError
from anymask.geometry import rle
from anymask.inference import AutomaticOptions
from anymask.workflows import folder_jobs

Run = Callable[..., Any]
ALL = ("--points-per-side", 6, "--pred-iou-thresh", 0, "--stability-score-thresh", 0, "--no-adaptive")
FORMATS = ("--format", "labels", "--format", "overlay", "--format", "coco")
NONE = ("--points-per-side", 4, "--pred-iou-thresh", 1)


def picture(path: Path, size: tuple[int, int] = (60, 80), seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*size, 3), 40, np.uint8)
    image[size[0] // 4 : size[0] // 2 + 1, size[1] // 4 :] = rng.integers(100, 255, 3)
    write_image_atomic(path, image)
    return path


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Five pictures, one of them in a folder, two of one stem; a broken one, and a file that is none."""
    folder = tmp_path / "album"
    for seed, name in enumerate(("a.png", "b.jpg", "same.png", "same.jpg", "inner/c.png")):
        picture(folder / name, seed=seed)
    (folder / "notes.txt").write_text("no image")
    return folder


def documents(folder: Path) -> dict[str, Any]:
    return {
        path.relative_to(folder).as_posix(): json.loads(path.read_bytes())
        for path in sorted(folder.rglob("*.json"))
        if path.name not in (folder_jobs.RUN_FILE, folder_jobs.COCO_FILE)
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def opened(folder: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(folder / folder_jobs.COCO_FILE))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_flags_are_the_options() -> None:
    (command,) = [c for c in build_app().registered_commands if c.callback and c.callback.__name__ == "everything"]
    assert command.callback is not None
    flags = set(command.callback.__annotations__)
    assert {field.name for field in dataclasses.fields(AutomaticOptions)} <= flags


def test_one_image_in_every_format(anymask: Run, tmp_path: Path) -> None:
    path, out = picture(tmp_path / "a.jpg"), tmp_path / "out"
    ran = anymask("everything", path, "-o", out, *ALL, *FORMATS, "--tree")
    assert ran.status == 0, ran.err
    assert sorted(contents(out)) == [
        "a.json",
        "a_labels.png",
        "a_overlay.jpg",
        "annotations.coco.json",
        "anymask-run.json",
    ]
    for name in ("a.json", "a_labels.png", "a_overlay.jpg", "annotations.coco.json"):
        assert str(out / name) in ran.out
    document = documents(out)["a.json"]
    described, annotations = document["image"], document["annotations"]
    assert list(described) == ["image_id", "width", "height", "file_name"]
    assert described | {"image_id": 0} == {"image_id": 0, "width": 80, "height": 60, "file_name": "a.jpg"}
    assert annotations and [a["id"] for a in annotations] == list(range(len(annotations)))
    masks = [rle.decode(rle.checked(a["segmentation"], (60, 80))) for a in annotations]
    for annotation, mask in zip(annotations, masks, strict=True):
        assert annotation["area"] == mask.sum() and annotation["bbox"] == list(rle.bbox(annotation["segmentation"]))
        assert annotation["crop_box"] == [0, 0, 80, 60] and len(annotation["point_coords"]) == 1
        parent = annotation["parent"]
        assert annotation["level"] == 0 if parent < 0 else (mask & masks[parent]).sum() >= 0.9 * mask.sum()
    with Image.open(out / "a_labels.png") as image:
        labels = np.asarray(image)
        assert image.mode == ("P" if len(annotations) < 256 else "I;16") and labels.shape == (60, 80)
    assert ((labels > 0) == np.any(masks, axis=0)).all()
    assert pixels(out / "a_overlay.jpg").shape == (60, 80, 3)
    data = opened(out)
    assert len(data.getAnnIds()) == len(annotations) and data.getImgIds() == [described["image_id"]]


def test_the_json_is_sa1bs_and_trains(anymask: Run, tmp_path: Path) -> None:
    path, out = picture(tmp_path / "a.jpg"), tmp_path / "out"
    assert anymask("everything", path, "-o", out, *ALL).status == 0
    text = (out / "a.json").read_bytes()
    document = json.loads(text)
    assert list(document) == ["image", "annotations"]
    keys = {"id", "segmentation", "bbox", "area", "predicted_iou", "stability_score", "crop_box", "point_coords"}
    assert all(set(annotation) == keys for annotation in document["annotations"])
    assert all(set(annotation["segmentation"]) == {"size", "counts"} for annotation in document["annotations"])
    sample = parse_sample("a", path.read_bytes(), text)
    assert len(sample.masks) == len(document["annotations"]) and sample.masks.any((1, 2)).all()


def test_a_folder(anymask: Run, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = anymask("everything", album, "-o", out, *ALL, "--json", "--recursive", "--format", "coco")
    assert ran.status == 0, ran.err
    told = json.loads(ran.out)
    assert (told["made"], told["found"], told["failed"]) == (5, 0, [])
    made = documents(out)
    assert list(made) == ["a.json", "b.json", "inner/c.json", "same.jpg.json", "same.png.json"]
    assert told["masks"] == sum(len(document["annotations"]) for document in made.values()) > 0
    data = opened(out)
    assert {image["file_name"] for image in data.loadImgs(data.getImgIds())} == {
        *("a.png", "b.jpg", "inner/c.png", "same.jpg", "same.png")
    }
    again = json.loads(anymask("everything", album, "-o", out, *ALL, "--json", "--recursive").out)
    assert (again["made"], again["found"]) == (0, 5)


def test_results_beside_the_images(anymask: Run, album: Path) -> None:
    for made in (4, 0):  # what was drawn is taken for no image the second time
        ran = anymask("everything", album, "-o", album, *ALL, "--json", "--format", "overlay", "--format", "labels")
        assert json.loads(ran.out)["made"] == made


def test_a_format_asked_for_later_needs_no_model(
    anymask: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anymask.inference import AutomaticMasks

    one, other = tmp_path / "one", tmp_path / "other"
    assert anymask("everything", album, "-o", one, *ALL, *FORMATS).status == 0
    assert anymask("everything", album, "-o", other, *ALL).status == 0
    monkeypatch.setattr(AutomaticMasks, "_records", None)
    (other / "a.json").stat()
    assert anymask("everything", album, "-o", other, *ALL, *FORMATS).status == 0
    assert contents(one) == contents(other)


def test_damaged_results_are_made_again(anymask: Run, album: Path, tmp_path: Path) -> None:
    call = ("everything", album, "-o", tmp_path / "out", *ALL, *FORMATS)
    assert anymask(*call).status == 0
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "a.json").write_bytes(whole["a.json"][:-20])
    (tmp_path / "out" / "b.json").write_bytes(whole["a.json"])  # another image's
    (tmp_path / "out" / "same.jpg_overlay.jpg").write_bytes(b"")
    ran = anymask(*call, "--json")
    assert json.loads(ran.out)["made"] == 2
    assert contents(tmp_path / "out") == whole


def test_another_image_of_the_same_name_is_another(anymask: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    one, other = picture(tmp_path / "a.png"), picture(tmp_path / "elsewhere" / "a.png", seed=1)
    copy = tmp_path / "moved" / "a.png"
    copy.parent.mkdir()
    copy.write_bytes(other.read_bytes())
    for path, made in ((one, 1), (other, 1), (copy, 0), (one, 1)):
        ran = anymask("everything", path, "-o", tmp_path / "out", *ALL, "--json")
        assert json.loads(ran.out)["made"] == made


def test_an_image_without_masks(anymask: Run, tmp_path: Path) -> None:
    path, out = picture(tmp_path / "a.jpg"), tmp_path / "out"
    assert anymask("everything", path, "-o", out, *NONE, *FORMATS, "--cover", "--tree").status == 0
    text = (out / "a.json").read_bytes()
    assert json.loads(text)["annotations"] == []
    with pytest.raises(DataError, match="has no masks"):  # training leaves it out, as any such pair
        parse_sample("a", path.read_bytes(), text)
    assert not pixels(out / "a_labels.png").any()
    assert pixels(out / "a_overlay.jpg").shape == (60, 80, 3)
    assert opened(out).getAnnIds() == [] and len(opened(out).getImgIds()) == 1


@pytest.mark.parametrize("size", [(1, 70), (70, 1), (1, 1), (40, 50)])
def test_thin_and_black_images(anymask: Run, tmp_path: Path, size: tuple[int, int]) -> None:
    write_image_atomic(tmp_path / "a.png", np.zeros((*size, 3), np.uint8))
    out = tmp_path / "out"
    ran = anymask(
        "everything", tmp_path / "a.png", "-o", out, *ALL, *FORMATS, "--crop-n-layers", 1, "--tree", "--cover"
    )
    assert ran.status == 0, ran.err
    for annotation in documents(out)["a.json"]["annotations"]:
        assert annotation["segmentation"]["size"] == list(size)
    assert pixels(out / "a_labels.png").shape == size
    assert pixels(out / "a_overlay.jpg").shape == (*size, 3)


def test_crops_tiles_and_the_mask_nms(anymask: Run, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", (120, 150))
    crops = anymask("everything", path, "-o", tmp_path / "crops", *ALL, "--crop-n-layers", 1, "--nms", "mask")
    tiles = anymask("everything", path, "-o", tmp_path / "tiles", *ALL, "--tile", 64, "--format", "labels", "--cover")
    assert crops.status == tiles.status == 0
    settings = {name: json.loads((tmp_path / name / "anymask-run.json").read_bytes()) for name in ("crops", "tiles")}
    assert settings["crops"]["crop_n_layers"] == 1 and settings["crops"]["nms"] == "mask"
    assert settings["tiles"]["tile"] == 64 and settings["tiles"]["overlap"] == 16
    assert pixels(tmp_path / "tiles" / "a_labels.png").all()


def test_point_grids(anymask: Run, refused: Callable[..., str], tmp_path: Path) -> None:
    path, out, grids = picture(tmp_path / "a.png"), tmp_path / "out", tmp_path / "grids.json"
    options = (*ALL[2:], "--point-grids", grids)
    grids.write_text("[[[0.5, 0.25]]]")
    assert anymask("everything", path, "-o", out, *options).status == 0
    points = {tuple(p) for a in documents(out)["a.json"]["annotations"] for p in a["point_coords"]}
    assert points == {(40.0, 15.0)}
    assert "one of them" in refused("everything", path, "-o", out, *ALL, "--point-grids", grids)
    for text in ("[[[0.5, 0.25", "3"):
        grids.write_text(text)
        assert "grids.json" in refused("everything", path, "-o", out, *options)


def test_other_settings_are_told(anymask: Run, refused: Callable[..., str], album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert anymask("everything", album, "-o", out, *ALL).status == 0
    before = contents(out)
    line = refused("everything", album, "-o", out, *ALL, "--box-nms-thresh", 0.5, "--tree")
    assert (
        "box_nms_thresh was 0.7 and is 0.5" in line and "tree was False and is True" in line and "--overwrite" in line
    )
    assert contents(out) == before
    assert anymask("everything", album, "-o", out, *ALL, "--memory-limit", 1 << 24).status == 0  # how, not what
    ran = anymask("everything", album, "-o", out, *ALL, "--box-nms-thresh", 0.5, "--tree", "--overwrite", "--json")
    assert json.loads(ran.out)["made"] == 4
    assert "parent" in documents(out)["a.json"]["annotations"][0]
    (out / folder_jobs.RUN_FILE).write_text("[]")
    assert "no record" in refused("everything", album, "-o", out, *ALL)


def test_files_of_others_are_left(refused: Callable[..., str], album: Path) -> None:
    (album / "a.json").write_text("precious")
    assert "a.json" in refused("everything", album, "-o", album, *ALL)
    assert (album / "a.json").read_text() == "precious"


def test_what_cannot_be_read_is_passed_over(anymask: Run, album: Path, tmp_path: Path) -> None:
    (album / "broken.jpg").write_bytes((album / "b.jpg").read_bytes()[:300])
    (album / "aa.png").write_bytes(b"")
    ran = anymask("everything", album, "-o", tmp_path / "out", *ALL, "--json", "--format", "coco")
    told = json.loads(ran.out)
    assert ran.status == 1 and told["made"] == 4
    assert [Path(failure["file"]).name for failure in told["failed"]] == ["aa.png", "broken.jpg"]
    assert "passed over" in ran.err and "broken.jpg" in ran.err and "Traceback" not in ran.err
    assert len(opened(tmp_path / "out").getImgIds()) == 4


def test_bad_places(refused: Callable[..., str], album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no such file or folder" in refused("everything", tmp_path / "absent", "-o", out)
    assert "no image" in refused("everything", empty, "-o", out)
    (album / "bad.png").write_bytes(b"no image")
    assert "bad.png" in refused("everything", album / "bad.png", "-o", out)
    assert not out.exists()
    (tmp_path / "file").write_text("mine")
    for taken in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "file" in refused("everything", album, "-o", taken)
    assert "side of a tile" in refused("everything", album, "-o", out, "--overlap", 3)
    assert "overlap 9" in refused("everything", album, "-o", out, "--tile", 9, "--overlap", 9)
    assert "points_per_side is 0" in refused("everything", album, "-o", out, "--points-per-side", 0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    assert "No space left" in refused("everything", album, "-o", out, *ALL)


def test_a_folder_that_cannot_be_written_to(
    refused: Callable[..., str], album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", deny)  # root could write anywhere
    assert "Permission denied" in refused("everything", album, "-o", tmp_path / "out", *ALL)


def test_killed_and_resumed_gives_the_same_files(anymask: Run, smoke_weights: Path, tmp_path: Path) -> None:
    album = tmp_path / "album"
    for seed in range(12):
        picture(album / f"{seed:02d}.png", (90, 120), seed)
    options = [str(part) for part in (*ALL, *FORMATS, "--model", smoke_weights)]
    assert anymask("everything", album, "-o", tmp_path / "whole", *options).status == 0
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "anymask", "everything", str(album), "-o", str(killed), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(documents_there(killed)) < 3 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    left = len(documents_there(killed))
    assert 3 <= left < 12
    ran = anymask("everything", album, "-o", killed, *options, "--json")
    assert ran.status == 0 and json.loads(ran.out)["made"] == 12 - left
    whole, resumed = contents(tmp_path / "whole"), contents(killed)
    abandoned = {name for name in resumed if name.endswith(".tmp")}  # at most the file it was killed over
    assert len(abandoned) <= 1
    assert {name: data for name, data in resumed.items() if name not in abandoned} == whole


def documents_there(folder: Path) -> list[Path]:
    return [path for path in folder.glob("[0-9]*.json") if path.is_file()]
