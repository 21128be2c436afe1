"""The small model of random weights, exported once for all tests here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from anymask.export.onnx import export_onnx
from anymask.model import Sam


@pytest.fixture(scope="session")
def export(stirred: Sam, kept_traces: None, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The model, the folder that holds its files, and what model.json says."""
    folder = tmp_path_factory.mktemp("exported")
    description = export_onnx(stirred, folder, name="stirred", licence="CC0-1.0", int8=True)
    return SimpleNamespace(model=stirred, folder=folder, description=description)
