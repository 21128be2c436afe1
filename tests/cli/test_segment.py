from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anymask.checkpoints import load_model
from anymask.cli import segment as verb
from anymask.data.files import write_image_atomic
from anymask.data.images import read_image
from anymask.errors import OutputError
from anymask.geometry import rle
from anymask.inference import Predictor
from anymask.samples import SAMPLES, sample_path

COFFEE = sample_path("coffee")
CLICK = "{},{}".format(*SAMPLES["coffee"].point)


def _grey(path: Path) -> np.ndarray:
    return read_image(path)[..., 0]


def test_a_click_gives_mask_overlay_and_record(
    anymask: Callable[..., Any], tmp_path: Path, smoke_weights: Path
) -> None:
    ran = anymask("segment", COFFEE, "--point", CLICK, "-o", tmp_path / "deep" / "out")
    assert ran.status == 0
    out = tmp_path / "deep" / "out"
    assert sorted(os.listdir(out)) == ["coffee.json", "coffee_mask.png", "coffee_overlay.png"]
    assert all(str(out / name) in ran.out for name in os.listdir(out))

    predictor = Predictor(load_model(smoke_weights))
    predictor.set_image(COFFEE)
    expected = predictor.predict(points=[SAMPLES["coffee"].point])
    mask = _grey(out / "coffee_mask.png")
    assert set(np.unique(mask)) <= {0, 255}
    assert ((mask == 255) == expected.best).all()

    record = json.loads((out / "coffee.json").read_text())
    assert record["image"] == {"image_id": "coffee", "width": 600, "height": 400, "file_name": "coffee.jpg"}
    (annotation,) = record["annotations"]
    assert (rle.decode(annotation["segmentation"]) == expected.best).all()
    assert annotation["area"] == expected.best.sum()
    assert annotation["bbox"] == list(rle.bbox(annotation["segmentation"]))
    assert annotation["predicted_iou"] == pytest.approx(float(expected.scores[0]), abs=1e-5)
    assert 0 <= annotation["stability_score"] <= 1
    assert annotation["point_coords"] == [[290.0, 130.0]]
    assert annotation["point_labels"] == [1]
    assert annotation["file_name"] == "coffee_mask.png"

    overlay = read_image(out / "coffee_overlay.png")
    assert overlay.shape == (400, 600, 3)
    assert (overlay != read_image(COFFEE)).any()


def test_json_prints_the_record_and_nothing_else(anymask: Callable[..., Any], tmp_path: Path) -> None:
    alone = anymask("segment", COFFEE, "--point", CLICK, "--json")
    assert alone.status == 0 and alone.err == ""
    assert "file_name" not in json.loads(alone.out)["annotations"][0]
    both = anymask("segment", COFFEE, "--point", CLICK, "--json", "-o", tmp_path)
    assert json.loads(both.out) == json.loads((tmp_path / "coffee.json").read_text())


def test_all_masks_keeps_three_best_first(anymask: Callable[..., Any], tmp_path: Path) -> None:
    assert anymask("segment", COFFEE, "--point", CLICK, "--all-masks", "-o", tmp_path).status == 0
    record = json.loads((tmp_path / "coffee.json").read_text())
    scores = [annotation["predicted_iou"] for annotation in record["annotations"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    for number, annotation in enumerate(record["annotations"], start=1):
        assert annotation["id"] == number and annotation["rank"] == number - 1
        stored = _grey(tmp_path / f"coffee_mask_{number}.png") > 0
        assert (stored == rle.decode(annotation["segmentation"])).all()
    assert read_image(tmp_path / "coffee_overlay.png").shape[1] > 3 * 600


def test_several_points_are_one_prompt_and_several_boxes_an_object_each(
    anymask: Callable[..., Any], tmp_path: Path
) -> None:
    clicks = ["--point", CLICK, "--point", "20.5,20,0", "--point", "300,250,1"]
    one = json.loads(anymask("segment", COFFEE, *clicks, "--box", "100,50,400,350", "--json").out)
    (annotation,) = one["annotations"]
    assert annotation["point_coords"] == [[290.0, 130.0], [20.5, 20.0], [300.0, 250.0]]
    assert annotation["point_labels"] == [1, 0, 1]
    assert annotation["prompt_box"] == [100.0, 50.0, 400.0, 350.0]

    boxes = ["--box", "100,50,400,350", "--box", "300,200,600,400"]
    assert anymask("segment", COFFEE, *boxes, "-o", tmp_path).status == 0
    two = json.loads((tmp_path / "coffee.json").read_text())["annotations"]
    assert [annotation["prompt_box"][0] for annotation in two] == [100, 300]
    single = json.loads(anymask("segment", COFFEE, *boxes[2:], "--json").out)["annotations"][0]
    assert two[1]["segmentation"] == single["segmentation"]
    assert (tmp_path / "coffee_mask_2.png").is_file()


def test_a_mask_that_was_written_can_be_handed_back(anymask: Callable[..., Any], tmp_path: Path) -> None:
    assert anymask("segment", COFFEE, "--point", CLICK, "-o", tmp_path).status == 0
    mask = tmp_path / "coffee_mask.png"
    again = anymask("segment", COFFEE, "--mask", mask, "--point", CLICK, "--json")
    assert again.status == 0
    logits = tmp_path / "logits.npy"
    np.save(logits, np.zeros((64, 64), np.float32))
    assert anymask("segment", COFFEE, "--mask", logits, "--json").status == 0
    both = anymask("segment", COFFEE, "--mask", mask, "--mask", logits, "--json")
    assert len(json.loads(both.out)["annotations"]) == 2


def test_the_overlay_may_be_jpeg_or_left_out(anymask: Callable[..., Any], tmp_path: Path) -> None:
    anymask("segment", COFFEE, "--point", CLICK, "-o", tmp_path / "a", "--overlay", "jpg")
    assert (tmp_path / "a" / "coffee_overlay.jpg").read_bytes()[:2] == b"\xff\xd8"
    anymask("segment", COFFEE, "--point", CLICK, "-o", tmp_path / "b", "--overlay", "none")
    assert sorted(os.listdir(tmp_path / "b")) == ["coffee.json", "coffee_mask.png"]


def test_names_with_spaces_dots_and_other_scripts(anymask: Callable[..., Any], tmp_path: Path) -> None:
    photo = tmp_path / "été 2026.final 咖啡.png"
    write_image_atomic(photo, np.full((9, 1, 3), 90, np.uint8))
    assert anymask("segment", photo, "--point", "0,4", "-o", tmp_path / "out").status == 0
    assert (tmp_path / "out" / "été 2026.final 咖啡_mask.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--point", "600.5,10"], "outside the image, which is 600 wide and 400 high"),
        (["--point", "-1,10"], "outside the image"),
        (["--point", "nan,10"], "finite"),
        (["--point", "inf,10"], "finite"),
        (["--point", "10,10,2"], "label is '2'"),
        (["--point", "10,10,"], "label is ''"),
        (["--point", "10"], "X,Y"),
        (["--point", "ten,10"], "X,Y"),
        (["--point", "1,2,1,1"], "X,Y"),
        (["--point", ""], "X,Y"),
        (["--box", "10,10,10,50"], "no area"),
        (["--box", "50,50,10,10"], "no area"),
        (["--box", "0,0,601,400"], "outside"),
        (["--box", "0,0,nan,400"], "finite"),
        (["--box", "0,0,10"], "X0,Y0,X1,Y1"),
        (["--box", "a,b,c,d"], "X0,Y0,X1,Y1"),
        (["--box", "0,0,9,9", "--box", "5,5,20,20", "--point", "7,7"], "2 boxes and 0 masks are an object each"),
        (["--text", "the cup"], "`hf download google/owlv2-base-patch16-ensemble` fetches them"),
        ([], "nothing says what to segment"),
        (["--point", "10,10", "--device", "toaster"], "no device 'toaster'"),
        (["--point", "10,10", "--device", "cuda:99"], "CUDA"),
        (["--point", "10,10", "--overlay", "gif"], "--overlay"),
        (["--point", "10,10", "--colour", "red"], "--colour"),
        (["--point"], "--point"),
    ],
)
def test_bad_prompts(refused: Callable[..., str], tmp_path: Path, arguments: list[str], says: str) -> None:
    out = tmp_path / "out"
    assert says in refused("segment", COFFEE, "-o", out, *arguments)
    assert not out.exists()


def _bomb() -> bytes:
    """A PNG whose header promises 60000 × 60000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (COFFEE.read_bytes()[:5000], "damaged or incomplete"),
        (b"Dear Sir or Madam,\n" * 100, "not an image"),
        (b"P6\n0 0\n255\n", "photo.jpg"),
        (_bomb(), "3,600,000,000 pixels"),
    ],
    ids=["missing", "empty", "truncated", "no image", "no pixels", "bomb"],
)
def test_bad_images(refused: Callable[..., str], tmp_path: Path, content: bytes | None, says: str) -> None:
    photo, out = tmp_path / "photo.jpg", tmp_path / "out"
    if content is not None:
        photo.write_bytes(content)
    assert says in refused("segment", photo, "--point", "1,1", "-o", out)
    assert not out.exists()


def test_a_folder_is_no_image(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "is a folder" in refused("segment", tmp_path, "--point", "1,1", "--json")


def test_bad_masks(refused: Callable[..., str], tmp_path: Path) -> None:
    def says(path: Path) -> str:
        return refused("segment", COFFEE, "--mask", path, "-o", tmp_path / "out")

    write_image_atomic(tmp_path / "small.png", np.zeros((40, 60), bool))
    assert "mask has shape (40, 60)" in says(tmp_path / "small.png")
    write_image_atomic(tmp_path / "grey.png", np.full((400, 600), 100, np.uint8))
    assert "not binary" in says(tmp_path / "grey.png")
    assert "holds colours" in says(COFFEE)
    assert "no such file" in says(tmp_path / "missing.png")
    np.save(tmp_path / "nan.npy", np.full((64, 64), np.nan, np.float32))
    assert "NaN" in says(tmp_path / "nan.npy")
    np.save(tmp_path / "flat.npy", np.zeros(64, np.float32))
    assert "mask has shape (64,)" in says(tmp_path / "flat.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    assert "objects.npy" in says(tmp_path / "objects.npy")
    assert not (tmp_path / "out").exists()


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path(os.environ["BOMB"]), "boom")


def test_bad_models(
    refused: Callable[..., str], tmp_path: Path, smoke_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    def says(model: object) -> str:
        return refused("segment", COFFEE, "--point", CLICK, "-o", tmp_path / "out", "--model", model)

    assert "anymask-s" in says("sam-vit-huge-no-such")
    assert "did you mean" in says("mobile-samm")
    assert "network may not be used" in says("mobile-sam")
    assert "no such file" in says(tmp_path / "missing.pth")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(smoke_weights.read_bytes()[:-1000])
    assert "truncated" in says(broken)
    broken.write_bytes(b"")
    assert "empty" in says(broken)
    broken.write_bytes(b"not a checkpoint" * 50)
    assert str(broken) in says(broken)
    monkeypatch.setenv("BOMB", str(tmp_path / "crater"))
    broken.write_bytes(pickle.dumps({"model": _Bomb()}))
    assert str(broken) in says(broken)
    assert not (tmp_path / "crater").exists() and not (tmp_path / "out").exists()


def test_places_that_cannot_be_written_to(refused: Callable[..., str], tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for folder in (taken, taken / "deeper" / "out"):
        assert "no folder" in refused("segment", COFFEE, "--point", CLICK, "-o", folder)
    assert taken.read_text() == "mine"
    out = tmp_path / "out"
    (out / "coffee.json").mkdir(parents=True)
    assert "is a folder" in refused("segment", COFFEE, "--point", CLICK, "-o", out)
    assert os.listdir(out) == ["coffee.json"]
    assert "-o DIR" in refused("segment", COFFEE, "--point", CLICK)


def test_a_read_only_folder(refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkdtemp", read_only)  # root may write everywhere, so modes prove nothing
    assert "Read-only file system" in refused("segment", COFFEE, "--point", CLICK, "-o", tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_a_failure_between_two_files_leaves_none(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OutputError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr("anymask.data.files.write_text_atomic", full)
    old = tmp_path / "kept"
    old.mkdir()
    (old / "coffee_mask.png").write_text("an earlier result")
    assert "No space left" in refused("segment", COFFEE, "--point", CLICK, "-o", old)
    assert os.listdir(old) == ["coffee_mask.png"]
    assert (old / "coffee_mask.png").read_text() == "an earlier result"
    assert "No space left" in refused("segment", COFFEE, "--point", CLICK, "-o", tmp_path / "new" / "er")
    assert not (tmp_path / "new").exists()


def test_an_interrupt_leaves_nothing(
    anymask: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "_draw", interrupt)
    ran = anymask("segment", COFFEE, "--point", CLICK, "-o", tmp_path / "out")
    assert ran.status == 130
    assert ran.err == "anymask: interrupted\n"
    assert not (tmp_path / "out").exists()
