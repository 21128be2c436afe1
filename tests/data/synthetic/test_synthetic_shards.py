"""Shards: SA-1B's layout, whole or absent, never rendered twice, the same from any number of processes."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anymask.data.sample import Sample
from anymask.data.synthetic import SceneConfig, generate, load_cutouts, load_pictures, render_shards
from anymask.data.writers.sa1b import pack, write_tar
from anymask.errors import DataError
from anymask.geometry import rle

CONFIG = SceneConfig(size=64)


def test_pack_holds_image_masks_and_hierarchy() -> None:
    sample = generate(np.random.default_rng(4), CONFIG, key="scene")
    files = pack(sample)
    with Image.open(io.BytesIO(files["jpg"])) as image:
        difference = np.abs(np.array(image).astype(int) - sample.image)
    assert difference.mean() < 8
    document = json.loads(files["json"])
    assert document["image"] == {"image_id": "scene", "width": 64, "height": 64, "file_name": "scene.jpg"}
    assert sample.levels is not None and sample.parents is not None
    for index, annotation in enumerate(document["annotations"]):
        mask = rle.decode(annotation["segmentation"])
        assert np.array_equal(mask, sample.masks[index])
        assert annotation["area"] == mask.sum()
        assert (annotation["level"], annotation["parent"]) == (sample.levels[index], sample.parents[index])
        ((x, y),) = annotation["point_coords"]
        assert mask[y, x]


def test_shards_are_resumed_and_do_not_depend_on_order(tmp_path: Path) -> None:
    first = list(render_shards(tmp_path / "a", CONFIG, name="s", num_shards=2, scenes_per_shard=3, seed=9))
    assert [path.name for path in first] == ["s-00000.tar", "s-00001.tar"]
    assert not list(render_shards(tmp_path / "a", CONFIG, name="s", num_shards=2, scenes_per_shard=3, seed=9))
    wanted = first[1].read_bytes()
    first[1].unlink()
    assert list(render_shards(tmp_path / "a", CONFIG, name="s", num_shards=2, scenes_per_shard=3, seed=9)) == [first[1]]
    assert first[1].read_bytes() == wanted
    assert first[0].read_bytes() != wanted
    with tarfile.open(first[0]) as tar:
        assert tar.getnames() == [f"s-00000-0000{index}.{suffix}" for index in range(3) for suffix in ("jpg", "json")]


def test_pictures_are_read_back_from_a_tar(tmp_path: Path) -> None:
    (path,) = render_shards(tmp_path, CONFIG, scenes_per_shard=3)
    assert [image.shape for image in load_pictures(path, limit=2)] == [(64, 64, 3)] * 2
    assert load_pictures(path, alpha=True)[0].shape == (64, 64, 4)
    with pytest.raises(DataError, match="nothing"):
        load_pictures(tmp_path / "nothing.tar")


def labelled_tar(path: Path, masks: list[tuple[int, int, int, int]]) -> Path:
    """A tar with one photograph of 160 × 200 and discs in the boxes (top, left, bottom, right) as its masks."""
    rows, columns = np.mgrid[:160, :200]
    discs = [
        ((rows - (t + b) / 2) / ((b - t) / 2)) ** 2 + ((columns - (left + r) / 2) / ((r - left) / 2)) ** 2 < 1
        for t, left, b, r in masks
    ]
    image = np.random.default_rng(1).integers(0, 255, (160, 200, 3), dtype=np.uint8)
    write_tar(path, [Sample(key="one", image=image, masks=np.stack(discs))])
    return path


def test_objects_of_labelled_photographs_are_cut_out(tmp_path: Path) -> None:
    whole, other, cropped, tiny = (10, 10, 80, 90), (20, 110, 90, 180), (100, -30, 160, 60), (120, 100, 140, 120)
    path = labelled_tar(tmp_path / "labelled.tar", [whole, other, cropped, tiny])
    cut = load_cutouts(path)
    assert sorted(c.shape for c in cut) == [(73, 73, 4), (73, 83, 4)]
    areas = sorted(int((c[:, :, 3] > 127).sum()) for c in cut)
    assert areas == [pytest.approx(np.pi * 35 * 35, rel=0.02), pytest.approx(np.pi * 35 * 40, rel=0.02)]
    assert len(load_cutouts(path, per_image=1)) == 1
    with pytest.raises(DataError, match="no object in"):
        load_cutouts(labelled_tar(tmp_path / "none.tar", [cropped, tiny]))


def test_cutouts_with_alpha_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "alpha.tar"
    encoded = io.BytesIO()
    Image.fromarray(np.full((20, 30, 4), 99, np.uint8)).save(encoded, "PNG")
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("a.png")
        member.size = len(encoded.getvalue())
        tar.addfile(member, io.BytesIO(encoded.getvalue()))
    assert [c.tolist() for c in load_cutouts(path)] == [np.full((20, 30, 4), 99, np.uint8).tolist()]
    with pytest.raises(DataError, match="nothing"):
        load_cutouts(tmp_path / "nothing.tar")


def test_worker_processes_make_the_same_shards(tmp_path: Path) -> None:
    def render(folder: str, workers: int) -> dict[str, bytes]:
        paths = render_shards(tmp_path / folder, CONFIG, num_shards=2, scenes_per_shard=2, seed=5, workers=workers)
        return {path.name: path.read_bytes() for path in paths}

    assert render("here", 0) == render("there", 2)
