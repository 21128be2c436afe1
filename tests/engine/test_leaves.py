from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from anymask.data.readers.tars import TarFiles
from anymask.engine.demo.images import SIZE, leaf_tars, sheet


def test_a_sheets_masks_are_its_leaves() -> None:
    for seed in range(8):
        pixels, masks = sheet(np.random.default_rng(seed))
        assert pixels.shape == (*SIZE, 3) and 3 <= len(masks) <= 7
        assert np.sum(masks, axis=0).max() == 1
        paper = ~np.any(masks, axis=0)
        for mask in masks:
            assert cv2.connectedComponents(mask.astype(np.uint8))[0] == 2
            assert pixels[mask].mean() < pixels[paper].mean() - 20


def test_the_same_seed_draws_the_same_tars(tmp_path: Path) -> None:
    train, held_out = leaf_tars(tmp_path / "a", train=3, held_out=2)
    again = leaf_tars(tmp_path / "b", train=3, held_out=2)
    assert [path.read_bytes() for path in again] == [train.read_bytes(), held_out.read_bytes()]
    assert leaf_tars(tmp_path / "c", train=3, held_out=2, seed=1)[0].read_bytes() != train.read_bytes()
    files = TarFiles([train])
    assert len(files) == 3 and len(TarFiles([held_out])) == 2
    assert files.sample(0).masks.shape[1:] == SIZE
