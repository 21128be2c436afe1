"""Every example runs as its first lines say, with a small model in the place of the embedded one."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anymask.checkpoints import load, places, save_model
from anymask.data.synthetic import SceneConfig
from anymask.data.synthetic.shards import GeneratedScenes
from anymask.data.writers.coco import CocoImage, write_coco
from anymask.geometry import rle
from anymask.model import SIZES, build_sam
from anymask.samples import sample_path

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_model(build_sam(SIZES["smoke"]), path)
    return path


@pytest.fixture
def run(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run an example in this process, in a folder of its own, and return what it prints."""
    monkeypatch.setitem(places.EMBEDDED, "anymask-s", str(small_model))
    monkeypatch.chdir(tmp_path)

    def example(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return example


@pytest.fixture
def coco(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of three scenes, and the COCO file of their masks in it."""
    scenes, folder = GeneratedScenes(3, SceneConfig(size=64)), tmp_path / "scenes"
    folder.mkdir()
    images = []
    for number in range(len(scenes)):
        scene = scenes.sample(number)
        Image.fromarray(scene.image).save(folder / f"{number}.png")
        masks = [rle.encode(mask) for mask in scene.masks if mask.any()]
        annotations = [{"segmentation": m, "bbox": list(rle.bbox(m)), "area": rle.area(m)} for m in masks]
        images.append(CocoImage(id=number + 1, file_name=f"{number}.png", width=64, height=64, annotations=annotations))
    write_coco(folder / "annotations.json", images)
    return folder, folder / "annotations.json"


def test_examples_are_short_and_all_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name in SCRIPTS:
        assert f"({name}.py)" in listed
        assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 40, name


def test_one_click(run: Any) -> None:
    assert "two clicks" in run("one_click")
    with Image.open("out/one_click/mask.png") as mask, Image.open("out/one_click/overlay.png") as overlay:
        assert mask.size == overlay.size == (600, 400)


def test_folder_of_everything(run: Any, coco: tuple[Path, Path]) -> None:
    run("folder_of_everything", coco[0])
    found = json.loads(Path("out/everything.json").read_text())
    assert [image["file_name"] for image in found["images"]] == [f"{number}.png" for number in range(3)]
    assert all((image["width"], image["height"]) == (64, 64) for image in found["images"])
    numbers = [annotation["id"] for annotation in found["annotations"]]
    assert numbers == list(range(1, len(numbers) + 1))


def test_detector_boxes(run: Any) -> None:
    run("detector_boxes")
    first, second = json.loads(Path("out/detector_boxes.json").read_text())
    assert (first["score"], second["score"]) == (0.94, 0.71)
    assert rle.decode(first["segmentation"]).shape == (400, 600)


def test_finetune_coco(run: Any, coco: tuple[Path, Path], small_model: Path) -> None:
    out = run("finetune_coco", *coco, 3)
    assert "2 images to learn from, 1 held out" in out and "after: mean IoU" in out
    before, after = (
        load.load_model(path).state_dict() for path in (small_model, "out/finetune_coco/model.safetensors")
    )
    learned = {name for name in before if not torch.equal(before[name], after[name])}
    assert learned and all(name.startswith("mask_decoder.") for name in learned)


def test_evaluate_two_models(run: Any, coco: tuple[Path, Path], small_model: Path) -> None:
    header, first, second = run("evaluate_two_models", coco[1], "anymask-s", small_model).splitlines()
    assert header.startswith("model") and first.startswith("anymask-s")
    assert first.split()[1:] == second.split()[1:]  # the same weights


def test_words(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    from word_models import owl, scene

    owl(tmp_path / "detector")
    monkeypatch.setenv("DETECTOR", str(tmp_path / "detector"))
    Image.fromarray(scene(0).image).save(tmp_path / "scene.png")
    assert run("words", "scene.png", "red disc", "blue square").rstrip().endswith("objects")
    assert Path("out/words.jpg").is_file()


def test_onnx_without_torch(small_model: Path, kept_traces: None, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from anymask.export.onnx import export_onnx

    model = load.load_model(small_model)
    export_onnx(model, tmp_path / "exported", name="small", parts=("encoder", "decoder"))
    script = EXAMPLES / "onnx_without_torch.py"
    alone = f"import runpy, sys; sys.modules['torch'] = None; sys.modules['anymask'] = None; sys.argv.pop(0)\n{_RUN}"
    call = [sys.executable, "-c", alone, script, tmp_path / "exported", sample_path("coffee"), "290", "130"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "mask.png") as mask:
        found = np.array(mask)
    from anymask import Predictor
    from anymask.inference import PLAIN

    predictor = Predictor(model, refinement=PLAIN)  # the example shows the network's first answer
    predictor.set_image(sample_path("coffee"))
    expected = predictor.predict(points=[(290, 130)]).best
    assert (found == expected).mean() > 0.97  # Pillow's filter at the mask's edge is not torch's


_RUN = "runpy.run_path(sys.argv[0], run_name='__main__')"


def test_serve_project(coco: tuple[Path, Path], small_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    call = [sys.executable, EXAMPLES / "serve_project.py", tmp_path / "project", coco[0], small_model]
    environment = os.environ | {"ANYMASK_HOME": str(tmp_path / "home")}
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        try:
            address = server.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(f"{address}api/info") as answer:
                assert answer.status == 200
        finally:
            server.send_signal(signal.SIGINT)
        rest = server.stdout.read()
    assert server.returncode == 0
    assert rest.count("annotations") == 3
