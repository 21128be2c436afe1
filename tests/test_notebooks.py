"""The notebooks run from top to bottom, and give outputs of the kinds that they are stored with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples" / "notebooks").glob("*.ipynb"))


@pytest.mark.long
@pytest.mark.filterwarnings("default")  # of what runs notebooks; those of their cells are in another process
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_and_shows_what_it_showed(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="notebooks need nbformat, of the group test")
    nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient, of the group test")
    pytest.importorskip("ipykernel", reason="notebooks need ipykernel, of the group test")
    source = str(Path(__file__).parents[1] / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("ANYMASK_OFFLINE", "1")
    stored = nbformat.read(path, as_version=4)
    ran = nbformat.from_dict(stored)
    client = nbclient.NotebookClient(ran, timeout=800, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()  # raises where a cell does
    assert [_kinds(cell) for cell in ran.cells] == [_kinds(cell) for cell in stored.cells]
    assert any(_kinds(cell) for cell in stored.cells), "it is stored with its outputs"


def _kinds(cell: Any) -> list[str]:
    """Return what a cell put out: text, or the richest form of a value."""
    outputs = cell.get("outputs", [])
    return ["picture" if "image/jpeg" in each.get("data", {}) else each["output_type"] for each in outputs]
