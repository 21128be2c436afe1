"""What is published is loaded again: by us from folders and the Hub, by transformers where it has the kind."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anymask.checkpoints import load_model, repositories
from anymask.checkpoints.load import model_hash
from anymask.checkpoints.publish import Card, publish, read_scores
from anymask.checkpoints.repositories import OWN_FILE, is_repository
from anymask.errors import CheckpointError, DownloadError, InputError, MissingPackageError
from anymask.model import Sam

CARD = Card(name="me/pellets", licence="CC-BY-4.0", base="anymask-s", data="Own photographs.", scores={"1 click": 0.75})


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one function that the pipeline wants of torchvision where that is not installed: here it keeps all boxes."""
    if importlib.util.find_spec("torchvision") is not None:
        return
    import_utils = pytest.importorskip("transformers.utils.import_utils")
    names = ("torchvision", "torchvision.ops", "torchvision.ops.boxes")
    modules = {name: ModuleType(name) for name in names}
    vars(modules["torchvision.ops.boxes"])["batched_nms"] = lambda **given: given["scores"].argsort(descending=True)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(import_utils.BACKENDS_MAPPING, "torchvision", (lambda: True, ""))


def test_a_kind_of_our_own_is_published_with_a_card(stirred: Sam, tmp_path: Path) -> None:
    written = publish(stirred, tmp_path / "out", CARD)
    assert [path.name for path in written] == ["README.md", OWN_FILE, "config.json"]
    assert model_hash(load_model(tmp_path / "out")) == model_hash(stirred)
    text = (tmp_path / "out" / "README.md").read_text()
    head = dict(line.split(": ", 1) for line in text.split("---\n")[1].splitlines())
    assert json.loads(head["license"]) == "cc-by-4.0" and json.loads(head["library_name"]) == "anymask"
    assert "| 1 click | 0.75 |" in text and "tuned from anymask-s" in text and "Own photographs." in text
    assert "transformers" not in text
    with pytest.raises(InputError, match="is not empty"):
        publish(stirred, tmp_path / "out", CARD)


def test_transformers_makes_masks_of_everything_with_the_twin(model: Sam, torchvision: None, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    written = {path.name for path in publish(model, tmp_path / "out", CARD)}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", OWN_FILE, "README.md"} <= written
    assert model_hash(load_model(tmp_path / "out")) == model_hash(model)
    twin = transformers.SamModel.from_pretrained(tmp_path / "out").eval()
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs, ours = twin.get_image_embeddings(pixels), model.encode(pixels).features
    assert float((theirs - ours).abs().max() / ours.abs().max()) < 1e-4
    generate = transformers.pipeline("mask-generation", model=str(tmp_path / "out"), device="cpu")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8))
    found = generate(image, points_per_batch=64, points_per_crop=4, pred_iou_thresh=-100, stability_score_thresh=0.0)
    assert found["masks"] and np.asarray(found["masks"][0]).shape == (48, 64)


def test_names_of_repositories_are_told_from_paths() -> None:
    assert is_repository("me/pellets") and is_repository("me/pellets@v1.0") and is_repository("a-b/c.d_e")
    for path in (
        "pellets",
        "./me/pellets",
        "/me/pellets",
        "me/pellets/mine",
        "me/mine.safetensors",
        "me/a.pth",
        "a b/c",
    ):
        assert not is_repository(path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """A Hub whose one repository is a folder here; what its client was asked."""
    asked: list[dict[str, Any]] = []
    module = ModuleType("huggingface_hub")

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        if not (tmp_path / name).is_dir():
            raise RuntimeError(f"404 of {name}\nmore")
        return str(tmp_path / name)

    module.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    module.__spec__ = SimpleNamespace(name="huggingface_hub")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.delenv("ANYMASK_OFFLINE", raising=False)
    return asked


def test_a_repository_is_loaded_by_its_name(hub: list[dict[str, Any]], model: Sam, tmp_path: Path) -> None:
    publish(model, tmp_path / "me" / "pellets", CARD)
    assert model_hash(load_model("me/pellets@v2")) == model_hash(model)
    assert hub[0]["name"] == "me/pellets" and hub[0]["revision"] == "v2" and not hub[0]["local_files_only"]
    assert "*.safetensors" in hub[0]["allow_patterns"] and "*.bin" not in hub[0]["allow_patterns"]
    (tmp_path / "me" / "pellets" / OWN_FILE).unlink()
    assert model_hash(load_model("me/pellets")) == model_hash(model)  # as the folder of transformers


def test_what_cannot_be_fetched_is_said_on_one_line(
    hub: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(
        DownloadError, match=r"there is no such file or folder, and as a repository.*404 of me/gone more"
    ):
        load_model("me/gone")
    monkeypatch.setenv("ANYMASK_OFFLINE", "1")
    with pytest.raises(DownloadError, match="the network is not to be touched"):
        load_model("me/gone")
    assert hub[-1]["local_files_only"]
    (tmp_path / "me" / "empty").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"holds no \.safetensors"):
        load_model("me/empty")
    monkeypatch.setattr(repositories.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match="pip install huggingface_hub"):
        load_model("me/gone")


def test_scores_are_numbers_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text('{"pellets": {"iou": 0.8, "clicks": [1, 2], "ok": true}, "n": 4}')
    assert read_scores(tmp_path / "scores.json") == {"pellets iou": 0.8, "n": 4.0}
    (tmp_path / "scores.json").write_text("[]")
    with pytest.raises(InputError, match="has no numbers"):
        read_scores(tmp_path / "scores.json")
    with pytest.raises(InputError, match="a name and a licence"):
        Card(name="me/x", licence=" ")
