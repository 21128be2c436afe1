from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from anymask.errors import AnymaskError, InputError
from anymask.model import Sam
from anymask.server.decoder_files import PARTS, Exporter


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """An exporter that writes a few bytes; what it was asked is in the list."""
    requests: list[Any] = []

    def export(_: Exporter, model: object, folder: Path, name: str, parts: list[str]) -> None:
        requests.append((name, parts))
        for part in parts:
            (folder / f"{part}.onnx").write_bytes(f"the {part} part".encode())

    monkeypatch.setattr(Exporter, "export", export)
    return requests


def test_parts_are_exported_once_for_all_projects(
    make_client: Callable[..., TestClient], asked: list[Any], tmp_path: Path
) -> None:
    for at_start in (False, True):
        client = make_client(parts=tmp_path / "parts", export_at_start=at_start)
        for part in PARTS:
            answer = client.get(f"/api/models/{part}.onnx")
            assert answer.status_code == 200 and answer.content == f"the {part} part".encode()
            tag = {"If-None-Match": answer.headers["etag"]}
            assert client.get(f"/api/models/{part}.onnx", headers=tag).status_code == 304
    assert asked == [("smoke", ["image", "prompt"])]
    assert client.get("/api/models/encoder.onnx").status_code == 422


def test_parts_that_came_with_the_package_are_not_exported(
    make_client: Callable[..., TestClient], asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in PARTS:
        (tmp_path / f"{part}.onnx").write_bytes(b"ready-made")
    hashes: list[str] = []
    monkeypatch.setattr("anymask.server.decoder_files.find_prebuilt", lambda model: hashes.append(model) or tmp_path)
    client = make_client(export_at_start=True)
    assert client.get("/api/models/prompt.onnx").content == b"ready-made"
    assert asked == [] and hashes == [client.get("/api/info").json()["model"]["hash"]]


def test_an_export_that_fails_is_said_plainly(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise InputError("install anymask[onnx]")

    monkeypatch.setattr(Exporter, "export", fail)
    answer = client.get("/api/models/image.onnx")
    assert answer.status_code == 503 and answer.json()["error"].endswith("be exported: install anymask[onnx]")
    assert answer.headers["retry-after"] == "10"


def test_the_other_process_says_what_failed(smoke_sam: Sam, tmp_path: Path) -> None:
    with pytest.raises(AnymaskError):
        Exporter().export(smoke_sam, tmp_path, "smoke", ["no-part"])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="the packages that export are not here")
def test_the_real_exporter(client: TestClient) -> None:
    client.app.state.context.parts.make().result(timeout=300)  # type: ignore[attr-defined]
    for part in PARTS:
        answer = client.get(f"/api/models/{part}.onnx")
        assert answer.status_code == 200, answer.text
        assert len(answer.content) > 10_000
