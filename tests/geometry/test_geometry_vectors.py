"""The vectors shared with the browser's geometry (tests/vectors)."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anymask.errors import DataError
from anymask.geometry import polygons, rle
from anymask.geometry.frames import Frame
from anymask.geometry.polygons import Polygon

VECTORS = Path(__file__).parents[1] / "vectors"


def read(name: str, group: str = "cases") -> list[dict[str, Any]]:
    return list(json.loads((VECTORS / name).read_text(encoding="utf-8"))[group])


def from_rows(rows: list[str]) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def named(case: dict[str, Any]) -> str:
    return str(case["name"])


def test_the_files_are_what_their_command_writes() -> None:
    spec = importlib.util.spec_from_file_location("vectors_make", VECTORS / "make.py")
    assert spec is not None and spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert make.main(["--check"]) == 0


@pytest.mark.parametrize("case", read("rle.json"), ids=named)
def test_run_lengths(case: dict[str, Any]) -> None:
    mask = from_rows(case["rows"])
    assert rle.encode(mask) == case["rle"]
    np.testing.assert_array_equal(rle.decode(case["rle"]), mask)
    assert rle.runs(case["rle"]).tolist() == case["runs"]
    assert rle.from_uncompressed(case["runs"], mask.shape) == case["rle"]
    assert rle.area(case["rle"]) == case["area"]
    assert list(rle.bbox(case["rle"])) == case["bbox_xywh"]


@pytest.mark.parametrize("case", read("rle.json", "malformed"), ids=lambda case: repr(case["counts"]))
def test_malformed_run_lengths(case: Any) -> None:
    with pytest.raises(DataError):
        rle.checked(case)


@pytest.mark.parametrize("case", read("frames.json"), ids=lambda case: str(case["original"]))
def test_frames(case: dict[str, Any]) -> None:
    frame = Frame((case["original"][0], case["original"][1]), case["model_size"])
    assert list(frame.resized) == case["resized"]
    np.testing.assert_allclose(frame.points_to_model(np.array(case["points"])), case["points_in_model"], rtol=1e-6)
    back = frame.points_to_original(np.array(case["points_in_model"]))
    np.testing.assert_allclose(back, case["points"], rtol=1e-6)


@pytest.mark.parametrize("case", read("polygons.json", "outlines"), ids=named)
def test_outlines(case: dict[str, Any]) -> None:
    mask = from_rows(case["rows"])
    found = polygons.from_mask(mask)
    assert [
        {"exterior": piece.exterior.tolist(), "holes": [hole.tolist() for hole in piece.holes]} for piece in found
    ] == case["polygons"]
    np.testing.assert_array_equal(polygons.to_mask(found, mask.shape), mask)


@pytest.mark.parametrize("case", read("polygons.json", "filled"), ids=named)
def test_filled(case: dict[str, Any]) -> None:
    exterior, *holes = (np.array(ring, float) for ring in (case["polygon"]["exterior"], *case["polygon"]["holes"]))
    mask = from_rows(case["rows"])
    filled = polygons.to_mask([Polygon(exterior=exterior, holes=tuple(holes))], mask.shape)
    np.testing.assert_array_equal(filled, mask)
