from __future__ import annotations

from pathlib import Path

import pytest

from anymask.data.images import read_image
from anymask.errors import InputError
from anymask.samples import SAMPLES, sample_path


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_opens_is_small_and_holds_its_point(name: str) -> None:
    path = sample_path(name)
    assert path.stat().st_size <= 200_000
    height, width, _ = read_image(path).shape
    x, y = SAMPLES[name].point
    assert 0 <= x < width and 0 <= y < height


def test_every_photograph_is_listed_with_its_terms() -> None:
    folder = sample_path("cat").parent
    photographs = {path.name for path in folder.glob("*.jpg")}
    assert photographs == {sample.file for sample in SAMPLES.values()}
    rows = [line for line in Path(folder, "README.md").read_text(encoding="utf-8").splitlines() if ".jpg`" in line]
    for photograph in photographs:
        assert any(f"`{photograph}`" in row and ("CC0" in row or "public domain" in row) for row in rows)


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(InputError, match=r"'dog'.*coffee, cat, rocket"):
        sample_path("dog")
