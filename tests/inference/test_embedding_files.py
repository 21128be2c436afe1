from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from anymask.errors import ImageError, OutputError
from anymask.inference import Predictor
from anymask.inference.embeddings import read_npy, write_npy
from anymask.model import Embedding, Sam


@pytest.mark.parametrize("has_hq", [False, True])
def test_what_was_written_is_read(tmp_path: Path, has_hq: bool) -> None:
    hq = torch.randn(1, 4, 8, 8) if has_hq else None
    embedding = Embedding(features=torch.randn(1, 8, 4, 4), hq=hq)
    paths = write_npy(tmp_path / "x.npy", embedding)
    assert [path.name for path in paths] == (["x.npy", "x_hq.npy"] if has_hq else ["x.npy"])
    found = read_npy(tmp_path / "x.npy")
    np.testing.assert_array_equal(found.features, embedding.features.numpy())
    assert (found.hq is None) == (hq is None)
    if hq is not None and found.hq is not None:
        np.testing.assert_array_equal(found.hq, hq.numpy())


def test_half_precision_is_read_as_single(tmp_path: Path, small_sam: Sam) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 64, 16, 16), np.float16))
    assert read_npy(tmp_path / "x.npy").features.dtype == np.float32
    predictor = Predictor(small_sam)
    predictor.set_embedding(tmp_path / "x.npy", (20, 30))
    assert predictor.predict(points=[(3, 4)]).masks.shape == (3, 20, 30)


def _text(path: Path) -> None:
    path.write_text("nothing")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flat(path: Path) -> None:
    np.save(path, np.zeros((64, 16), np.float32))


def _whole_numbers(path: Path) -> None:
    np.save(path, np.zeros((1, 64, 16, 16), np.int32))


def _pickle(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def _nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize("make", [_text, _empty, _flat, _whole_numbers, _pickle, _nothing])
def test_what_is_no_embedding_is_refused(tmp_path: Path, small_sam: Sam, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.npy")
    with pytest.raises(ImageError, match=r"x\.npy: (cannot be read as \.npy|holds no embedding)"):
        Predictor(small_sam).set_embedding(tmp_path / "x.npy", (20, 30))


def test_an_embedding_of_another_size_is_refused(tmp_path: Path, small_sam: Sam) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 256, 64, 64), np.float32))
    with pytest.raises(ImageError, match=r"have shape \(1, 256, 64, 64\), but this model's have \(1, 64, 16, 16\)"):
        Predictor(small_sam).set_embedding(tmp_path / "x.npy", (20, 30))


def test_other_names_than_npy_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="give a name that ends so"):
        write_npy(tmp_path / "x.bin", Embedding(features=torch.zeros(1, 1, 1, 1)))
