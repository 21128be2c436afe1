"""A data set's fingerprint: the same while nothing changes, another where an image or a mask does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anymask.data.channels import ChannelMapping
from anymask.data.open import open_images
from anymask.data.readers.coco import CocoFiles
from anymask.data.readers.folder import FolderFiles
from anymask.data.readers.images import Pictures
from anymask.data.readers.pairs import PairFiles
from anymask.data.readers.tars import TarFiles
from anymask.data.sample import InMemorySamples, Sample, SampleSet, Subset
from anymask.data.synthetic import SceneConfig, render_shards
from anymask.data.synthetic.shards import GeneratedScenes
from anymask.evaluation.coco.truth import CocoTruth, SampleTruth
from anymask.geometry import rle


def _touch(path: Path) -> None:
    """Leave a file as it was, but for when it was changed: as an edit does that leaves its size."""
    later = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(later, later))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One image in the layouts of a folder with masks, of a COCO file, of pairs, and of a tar."""
    for name in ("images", "masks", "parts/a", "pairs"):
        (tmp_path / name).mkdir(parents=True)
    mask = np.zeros((12, 16), np.uint8)
    mask[2:6, 3:9] = 255
    for place in ("masks/a.png", "parts/a/1.png"):
        Image.fromarray(mask).save(tmp_path / place)
    for place in ("images/a.png", "pairs/a.png"):
        Image.fromarray(np.full((12, 16, 3), 90, np.uint8)).save(tmp_path / place)
    stored = [{"id": 1, "image_id": 1, "segmentation": rle.encode(mask > 0)}]
    images = [{"id": 1, "file_name": "a.png", "width": 16, "height": 12}]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": stored}))
    (tmp_path / "pairs" / "a.json").write_text(json.dumps({"annotations": stored}))
    list(render_shards(tmp_path / "tars", SceneConfig(size=64), scenes_per_shard=1))
    return tmp_path


KINDS: dict[str, tuple[Callable[[Path], SampleSet], tuple[str, ...]]] = {
    "map": (lambda f: FolderFiles([f / "images"], masks=f / "masks"), ("images/a.png", "masks/a.png")),
    "files": (lambda f: FolderFiles([f / "images"], masks=f / "parts"), ("images/a.png", "parts/a/1.png")),
    "coco": (lambda f: CocoFiles(f / "images", f / "coco.json"), ("images/a.png", "coco.json")),
    "truth": (lambda f: CocoTruth.open(f / "coco.json", f / "images"), ("images/a.png", "coco.json")),  # type: ignore[dict-item, return-value]
    "pairs": (lambda f: PairFiles(f / "pairs"), ("pairs/a.png", "pairs/a.json")),
    "tar": (lambda f: TarFiles(sorted((f / "tars").glob("*.tar"))), ("tars/{tar}",)),
    "part": (lambda f: Subset(CocoFiles(f / "images", f / "coco.json"), [0]), ("coco.json",)),
    "pictures": (lambda f: Pictures(open_images(f / "images")), ("images/a.png",)),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_changes_with_each_file(folder: Path, kind: str) -> None:
    opened, files = KINDS[kind]
    seen = {opened(folder).fingerprint()}
    assert seen == {opened(folder).fingerprint()}
    tar = next((folder / "tars").glob("*.tar")).name
    for number, name in enumerate(files, start=2):
        _touch(folder / name.format(tar=tar))
        seen.add(opened(folder).fingerprint())
        assert len(seen) == number


def test_it_changes_with_the_channels_and_the_part(folder: Path) -> None:
    mapping = ChannelMapping.parse("0:0..9")
    assert FolderFiles([folder]).fingerprint() != FolderFiles([folder], channels=mapping).fingerprint()
    assert PairFiles(folder / "pairs").fingerprint() != PairFiles(folder / "pairs", channels=mapping).fingerprint()
    plain, mapped = (CocoTruth.open(folder / "coco.json", folder / "images", channels=c) for c in (None, mapping))
    assert plain.fingerprint() != mapped.fingerprint()
    scenes = GeneratedScenes(3, SceneConfig(size=64))
    assert Subset(scenes, [0, 1]).fingerprint() != Subset(scenes, [0, 2]).fingerprint()
    assert SampleTruth(scenes).fingerprint() == scenes.fingerprint()


def test_what_is_in_memory_or_generated_has_one_of_its_content() -> None:
    one, other = (GeneratedScenes(2, SceneConfig(size=64), seed=seed) for seed in (0, 1))
    assert one.fingerprint() == GeneratedScenes(2, SceneConfig(size=64)).fingerprint() != other.fingerprint()
    sample = one.sample(0)
    flipped = Sample(key=sample.key, image=sample.image, masks=~sample.masks)
    assert (
        InMemorySamples([sample]).fingerprint()
        == InMemorySamples([one.sample(0)]).fingerprint()
        != InMemorySamples([flipped]).fingerprint()
    )
