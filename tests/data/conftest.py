"""Small tars in SA-1B's layout, made by hand."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from anymask.data.sample import Sample
from anymask.data.writers.sa1b import pack

Members = Sequence[tuple[str, bytes]]


def draw_sample(index: int, size: tuple[int, int] = (40, 60)) -> Sample:
    """A grey picture with three bright rectangles, each of which is a mask."""
    rng = np.random.default_rng(index)
    image = np.full((*size, 3), 60, np.uint8)
    masks = np.zeros((3, *size), bool)
    for k in range(3):
        top, left = rng.integers(0, size[0] - 20), rng.integers(0, size[1] - 20)
        masks[k, top : top + 15, left : left + 18] = True
        image[masks[k]] = rng.integers(120, 255, 3)
    return Sample(key=f"image-{index}", image=image, masks=masks)


def pair(index: int, size: tuple[int, int] = (40, 60)) -> list[tuple[str, bytes]]:
    return [(f"image-{index}.{suffix}", data) for suffix, data in pack(draw_sample(index, size)).items()]


@pytest.fixture
def sample_of() -> Callable[..., Sample]:
    """The drawn sample of a number."""
    return draw_sample


@pytest.fixture
def pair_of() -> Callable[..., list[tuple[str, bytes]]]:
    """The two members of a drawn sample."""
    return pair


@pytest.fixture
def write_tar(tmp_path: Path) -> Callable[[str, Members], Path]:
    """Write a tar of the given members."""

    def write(name: str, members: Members) -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w") as tar:
            for member, data in members:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    return write
