"""The decoder that comes with the package: for which model, and when it does not count."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import anymask.export.prebuilt as prebuilt
from anymask.checkpoints import load_model
from anymask.checkpoints.load import model_hash
from anymask.export.description import FILE_NAME
from anymask.export.prebuilt import find_prebuilt
from anymask.export.verify import find_files, open_exported, verify


@pytest.fixture
def built(export: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder such as a build leaves."""
    folder = tmp_path / "onnx"
    folder.mkdir()
    for name in (FILE_NAME, "encoder.onnx", "image.onnx", "prompt.onnx"):
        shutil.copy(export.folder / name, folder)
    monkeypatch.setattr(prebuilt, "packaged_folder", lambda: folder)
    return folder


def test_files_are_found_by_the_hash_of_their_model(built: Path, export: SimpleNamespace) -> None:
    assert find_prebuilt(export.description.hash) == built
    assert find_prebuilt("0" * 16) is None


def test_files_of_another_format_or_not_all_of_them_do_not_count(built: Path, export: SimpleNamespace) -> None:
    (built / "image.onnx").unlink()
    assert find_prebuilt(export.description.hash) is None
    shutil.copy(export.folder / "image.onnx", built)
    values = json.loads((built / FILE_NAME).read_text())
    (built / FILE_NAME).write_text(json.dumps(values | {"format": values["format"] - 1}))
    assert find_prebuilt(export.description.hash) is None
    shutil.rmtree(built)
    assert find_prebuilt(export.description.hash) is None


def test_those_of_this_build_answer_as_the_embedded_model_does() -> None:
    model = load_model("anymask-s")
    folder = find_prebuilt(model_hash(model))
    if folder is None:
        pytest.skip("this build has none: `make web` makes them")
    verdicts = list(verify(model, [open_exported(path) for path in find_files([folder])], rounds=1))
    assert len(verdicts) == 3 and all(verdict.passed for verdict in verdicts)
