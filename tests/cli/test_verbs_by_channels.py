"""A model with a mapping of channels sees, by every verb, of deep pictures what one without sees of their RGB."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from anymask.checkpoints import load, load_model, save_model
from anymask.data.channels import ChannelMapping

tifffile = pytest.importorskip("tifffile")

Run = Callable[..., Any]
MAPPING = ChannelMapping.parse("3,2,0:0..10000")
GREY = ChannelMapping.parse("0:0..20000")


@pytest.fixture
def tuned(smoke_weights: Path, tmp_path: Path) -> Path:
    """The small model with a mapping of four bands."""
    return _with(smoke_weights, MAPPING, tmp_path / "tuned.safetensors")


def _with(weights: Path, mapping: ChannelMapping, path: Path) -> Path:
    model = load_model(weights)
    model.channels = mapping.to_dict()
    save_model(model, path)
    return path


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of TIFFs of four bands of 16 bits, and one of the same pictures as RGB; each with its COCO file."""
    y, x = np.mgrid[:48, :64]
    deep, plain = tmp_path / "deep", tmp_path / "plain"
    images, annotations = [], []
    for folder in (deep, plain):
        folder.mkdir()
    for number in (1, 2):
        bands = np.stack([100 * x, 0 * x + 60000, 9000 - 150 * y, 150 * (x + y) % 9000], -1).astype(np.uint16)
        bands[8:30, 4 * number : 4 * number + 24, :] //= 3
        tifffile.imwrite(deep / f"{number}.tif", bands, photometric="minisblack", planarconfig="contig")
        Image.fromarray(MAPPING.apply(bands)).save(plain / f"{number}.png")
        left, right = 4 * number, 4 * number + 24
        images.append({"id": number, "width": 64, "height": 48})
        outline = [left, 8, right, 8, right, 30, left, 30]
        annotations.append({"id": number, "image_id": number, "category_id": 1, "segmentation": [outline]})
    for folder, suffix in ((deep, "tif"), (plain, "png")):
        named = [{**image, "file_name": f"{image['id']}.{suffix}"} for image in images]
        (folder / "boxes-val.json").write_text(json.dumps({"images": named, "annotations": annotations}))
    boxes = [{"image_id": n, "bbox": [4 * n, 8, 24, 22]} for n in (1, 2)]
    (tmp_path / "detections.json").write_text(json.dumps(boxes))
    return deep, plain


def test_one_image(anymask: Run, places: tuple[Path, Path], tuned: Path, tmp_path: Path) -> None:
    deep, plain = places
    for command in (
        ("segment", "{image}", "--point", "20,20", "--json"),
        ("edges", "{image}", "-o", "{out}.png", "--points-per-side", 2, "--json"),
        ("everything", "{image}", "-o", "{out}", "--points-per-side", 3, "--pred-iou-thresh", 0,
         "--stability-score-thresh", 0, "--json"),
        ("everything", "{image}", "-o", "{out}t", "--points-per-side", 3, "--pred-iou-thresh", 0,
         "--stability-score-thresh", 0, "--tile", 40, "--json"),
    ):  # fmt: skip
        found = []
        for image, model in ((deep / "1.tif", tuned), (plain / "1.png", "anymask-s")):
            out = tmp_path / f"out-{image.suffix[1:]}"
            ran = anymask(*(str(part).format(image=image, out=out) for part in command), "--model", model)
            assert ran.status == 0, ran.err
            record = json.loads(ran.out)
            if command[0] == "edges":
                found.append(Path(f"{out}.png").read_bytes())
            elif command[0] == "segment":
                found.append([{**entry, "file_name": ""} for entry in record["annotations"]])
            else:
                found.append(json.loads((Path(record["output"]) / "1.json").read_text())["annotations"])
        assert found[0] and found[0] == found[1], command


def test_many_images(anymask: Run, places: tuple[Path, Path], tuned: Path, tmp_path: Path) -> None:
    results: dict[str, list[Any]] = {"instances": [], "similar": []}
    for folder, suffix, model in ((places[0], "tif", tuned), (places[1], "png", "anymask-s")):
        out = tmp_path / f"masks-{suffix}.json"
        ran = anymask("instances", folder, tmp_path / "detections.json", "-o", out, "--model", model)
        assert ran.status == 0, ran.err
        results["instances"].append(json.loads(out.read_text()))
        given = [folder / f"1.{suffix}", folder / f"2.{suffix}", "--box", "4,8,28,30", "--min-similarity", -1]
        ran = anymask("similar", *given, "-o", tmp_path / f"similar-{suffix}", "--model", model, "--json")
        assert ran.status == 0, ran.err
        results["similar"].append([image["annotations"] for image in json.loads(ran.out)["images"]])
    for deep, plain in results.values():
        assert deep and deep == plain


@pytest.mark.parametrize(
    "command",
    [
        ("single-point", "{data}"),
        ("proposals", "{data}", "--points-per-side", "2"),
        ("instances", "{data}", "{boxes}"),
    ],
)
def test_evaluation(
    anymask: Run, places: tuple[Path, Path], tuned: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    found = []
    for folder, model in ((places[0], tuned), (places[1], "anymask-s")):
        given = [part.format(data=folder / "boxes-val.json", boxes=tmp_path / "detections.json") for part in command]
        ran = anymask("evaluate", *given, "--images", folder, "--model", model, "--json")
        assert ran.status == 0, ran.err
        found.append(json.loads(ran.out) | {"seconds": 0})
    assert found[0]["sets"][0]["num_images"] == 2 and found[0] == found[1]


def test_a_report_on_models_with_and_without(anymask: Run, smoke_weights: Path, tmp_path: Path) -> None:
    """Grey of 16 bits, which a model without a mapping stretches by what each picture holds."""
    for part in ("images", "masks"):
        (tmp_path / "data" / part).mkdir(parents=True)
    y, x = np.mgrid[:48, :64]
    cv2.imwrite(str(tmp_path / "data/images/a.png"), (30 * x + 20 * y + 9000).astype(np.uint16))
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:40] = 255
    Image.fromarray(mask).save(tmp_path / "data/masks/a.png")
    tuned = _with(smoke_weights, GREY, tmp_path / "tuned.safetensors")
    models = ["--model", "anymask-s", "--model", tuned]
    common = [tmp_path / "data", "--proposal-images", 1, "--points-per-side", 2, "--num-cases", 1]
    ran = anymask("evaluate", "all", *common, *models, "-o", tmp_path / "both", "--json")
    assert ran.status == 0, ran.err
    both = json.loads(ran.out)["single_point"]
    ran = anymask("evaluate", "single-point", tmp_path / "data", "--model", tuned, "--json")
    assert both["tuned"]["mean"] == json.loads(ran.out)["mean"] != both["anymask-s"]["mean"]


def test_results_of_other_channels_are_not_taken_up(
    anymask: Run, smoke_weights: Path, places: tuple[Path, Path], tuned: Path, tmp_path: Path
) -> None:
    command = ["everything", places[0], "-o", tmp_path / "out", "--points-per-side", 2, "--model"]
    assert anymask(*command, tuned).status == 0
    other = _with(smoke_weights, ChannelMapping.parse("0,1,2:0..9000"), tmp_path / "other.safetensors")
    assert load.model_hash(load_model(other)) == load.model_hash(load_model(tuned))
    assert "channels was" in anymask(*command, other).err
