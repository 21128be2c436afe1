from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from anymask.checkpoints import load_model, model_hash, save_model
from anymask.checkpoints.catalogue import CATALOGUE, ModelEntry, RemoteFile
from anymask.model import build_sam
from anymask.samples import sample_path
from sam2_models import small_config


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(smoke_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelEntry]:
    """A server on this machine that has the small model under the name mobile-sam."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(smoke_weights.parent)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    content = smoke_weights.read_bytes()
    file = RemoteFile(
        url=f"http://127.0.0.1:{server.server_port}/{smoke_weights.name}",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )
    entry = ModelEntry(name="mobile-sam", kind="mobile_sam", files=(file,), licence="none", description="a test")
    monkeypatch.setitem(CATALOGUE, "mobile-sam", entry)
    yield entry
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_prints_the_path_and_segment_finds_it(
    anymask: Callable[..., Any], served: ModelEntry, smoke_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANYMASK_OFFLINE")
    ran = anymask("models", "download", "mobile-sam")  # the example of its help
    assert ran.status == 0
    path = Path(ran.out.strip())
    assert path.read_bytes() == smoke_weights.read_bytes()
    call = ["segment", sample_path("cat"), "--point", "215,185", "--model", "mobile-sam", "--json"]
    assert anymask(*call, "--offline").status == 0
    listed = {row["name"]: row for row in json.loads(anymask("models", "list", "--json").out)}
    assert listed["mobile-sam"]["path"] == str(path)
    assert listed["sam-vit-h"]["path"] is None


def test_segment_downloads_what_is_named(
    anymask: Callable[..., Any], served: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANYMASK_OFFLINE")
    call = ["segment", sample_path("cat"), "--point", "215,185", "--model", "mobile-sam", "--json"]
    ran = anymask(*call)
    assert ran.status == 0
    assert json.loads(ran.out)["model"] == "mobile-sam"


def test_offline_reaches_nothing(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANYMASK_OFFLINE")
    assert "network may not be used" in refused("models", "download", "mobile-sam", "--offline")
    call = ["segment", sample_path("cat"), "--point", "215,185", "--model", "mobile-sam", "--json"]
    assert "network may not be used" in refused(*call, "--offline")


def test_the_embedded_model_needs_no_download(anymask: Callable[..., Any], smoke_weights: Path) -> None:
    assert anymask("models", "download", "anymask-s").out == f"{smoke_weights}\n"


def test_list_is_a_table_of_every_name(anymask: Callable[..., Any]) -> None:
    out = anymask("models", "list").out
    assert "anymask-s" in out
    assert all(name in out for name in CATALOGUE)
    rows = {row["name"]: row for row in json.loads(anymask("models", "list", "--json").out)}
    licences = {name: rows[name]["licence"] for name in ("sam-vit-b", "sam2.1-hiera-tiny", "vit_b_lm", "medsam2")}
    assert list(licences.values()) == ["Apache-2.0", "Apache-2.0", "CC-BY-4.0", "CC-BY-SA-4.0"]


def test_convert_keeps_the_model(anymask: Callable[..., Any], smoke_weights: Path, tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    assert anymask("models", "convert", smoke_weights, "-o", whole).status == 0
    assert model_hash(load_model(whole)) == model_hash(load_model(smoke_weights))
    assert anymask("models", "convert", "anymask-s", "-o", half, "--dtype", "float16").status == 0
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    load_model(half)


def test_what_videos_need_is_kept_on_request(
    anymask: Callable[..., Any], refused: Callable[..., str], tmp_path: Path
) -> None:
    """From Meta's file to ours and back to Meta's: not a tensor is lost."""
    model = build_sam(dataclasses.replace(small_config("repvit"), image_size=256))
    save_model(
        model,
        tmp_path / "edgetam_256.pt",
        "meta",
        memory={"memory_encoder.x": torch.ones(3), "no_obj_ptr": torch.ones(1, 4)},
    )
    there, without, back = (tmp_path / name for name in ("ours.safetensors", "less.safetensors", "again_256.pt"))
    anymask("models", "convert", tmp_path / "edgetam_256.pt", "-o", there, "--keep-memory")
    anymask("models", "convert", there, "-o", back, "--format", "meta", "--keep-memory")
    first, last = (torch.load(path, weights_only=True)["model"] for path in (tmp_path / "edgetam_256.pt", back))
    assert first.keys() == last.keys() and all(torch.equal(first[name], last[name]) for name in first)
    anymask("models", "convert", there, "-o", without)
    assert "holds no memory" in refused("models", "convert", without, "-o", back, "--format", "meta", "--keep-memory")


def test_bad_conversions(refused: Callable[..., str], smoke_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pth"
    assert "missing.pth" in refused("models", "convert", tmp_path / "missing.pth", "-o", out)
    assert refused("models", "convert", smoke_weights, "-o", out, "--format", "meta")
    assert "--format" in refused("models", "convert", smoke_weights, "-o", out, "--format", "onnx")
    assert refused("models", "convert", smoke_weights, "-o", tmp_path / "no" / "folder" / "x.safetensors")
    assert "did you mean" in refused("models", "download", "mobilesam")
    assert sorted(tmp_path.glob("*.pth")) == []
