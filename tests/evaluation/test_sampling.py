from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anymask.data.channels import ChannelMapping
from anymask.data.open import open_sets
from anymask.errors import DataError
from anymask.geometry import rle


def _pair(folder: Path, name: str, seed: int) -> np.ndarray:
    folder.mkdir(exist_ok=True, parents=True)
    mask = np.random.default_rng(seed).random((12, 16)) < 0.5
    Image.fromarray(np.full((12, 16, 3), 90, np.uint8)).save(folder / f"{name}.png")
    (folder / f"{name}.json").write_text(json.dumps({"annotations": [{"segmentation": rle.encode(mask)}]}))
    return mask


def test_a_folder_of_pairs_is_a_set_named_by_the_folder(tmp_path: Path) -> None:
    masks = [_pair(tmp_path / "things-val", name, seed) for seed, name in enumerate("ab")]
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "things-val" / "alone.png")
    sets = open_sets([tmp_path / "things-val"])
    (found,) = sets.values()
    assert list(sets) == ["things"] and len(found) == 2
    for index, mask in enumerate(masks):
        assert (found.sample(index).masks == mask).all()


def test_deep_images_are_read_by_their_channels_whatever_the_layout(tmp_path: Path) -> None:
    deep = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) * 100
    for folder in ("pairs", "pictures/images", "pictures/masks"):
        (tmp_path / folder).mkdir(parents=True)
    _pair(tmp_path / "pairs", "a", 0)
    Image.fromarray(np.full((12, 16), 255, np.uint8)).save(tmp_path / "pictures" / "masks" / "a.png")
    for path in ("pairs/a.png", "pictures/images/a.png"):
        Image.fromarray(deep).save(tmp_path / path)
    mapping = ChannelMapping.parse("0:0..60000")
    sets = open_sets([tmp_path / "pairs", tmp_path / "pictures"], channels=mapping)
    assert list(sets) == ["pairs", "pictures"]
    for found in sets.values():
        assert (found.sample(0).image == mapping.apply(deep)).all()


def test_a_folder_of_images_and_masks_is_a_set(tmp_path: Path) -> None:
    for part, value in (("images", 90), ("masks", 255)):
        (tmp_path / part).mkdir()
        Image.fromarray(np.full((12, 16), value, np.uint8)).save(tmp_path / part / "a.png")
    (found,) = open_sets([tmp_path]).values()
    assert found.sample(0).masks.all()


def test_what_is_no_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file or folder"):
        open_sets([tmp_path / "absent.tar"])
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"notes\.txt is not a readable tar"):
        open_sets([tmp_path / "notes.txt"])
