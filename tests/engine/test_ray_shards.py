"""Shards on Ray: every image once, whatever is killed; what cannot be done is named."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anymask.data.readers.tars import TarFiles
from anymask.engine.ray_shards import Annotate, annotate_on_ray, plan_shards
from anymask.errors import InputError
from anymask.geometry import rle
from anymask.inference.automatic.masks import MaskRecord

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'anymask[ray]'")
OWN_WARNINGS = (f"ignore::{kind}Warning" for kind in ("Deprecation", "Future", "Resource"))
pytestmark = pytest.mark.filterwarnings(*OWN_WARNINGS)


@dataclass(frozen=True)
class Corner:
    """Answers every image with the mask of one corner; dies once, before the image of that width, where told to."""

    dies_at: int | None = None
    mark: str = ""

    def __call__(self) -> Annotate:
        def annotate(pixels: np.ndarray) -> list[MaskRecord]:
            if pixels.shape[1] == self.dies_at and not os.path.exists(self.mark):
                Path(self.mark).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            mask = np.zeros(pixels.shape[:2], bool)
            mask[:3, :5] = True
            stored = rle.encode(mask)
            return [
                MaskRecord(
                    rle=stored,
                    bbox=(0, 0, 5, 3),
                    area=15,
                    predicted_iou=0.9,
                    stability_score=0.95,
                    point_coords=((1.0, 1.0),),
                    crop_box=(0, 0, pixels.shape[1], pixels.shape[0]),
                )
            ]

        return annotate


@pytest.fixture(scope="module", autouse=True)
def findable() -> Iterator[None]:
    """Let Ray's workers, which it starts with this environment, import this file; stop Ray afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        yield
        ray.shutdown()


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Eleven images, each of a width of its own, one of them broken, one no JPEG."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(11):
        pixels = rng.integers(0, 256, (24, 30 + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}{'.bmp' if i == 2 else '.jpg'}")
    (folder / "05.jpg").write_bytes(b"no picture")
    return [str(path) for path in sorted(folder.iterdir())]


def test_a_plan_depends_on_the_addresses_alone() -> None:
    shards = plan_shards(["c", "a", "e", "b", "d"], per_shard=2)
    assert shards == plan_shards(["e", "d", "c", "b", "a"], per_shard=2)
    assert [(s.name, s.images, s.first) for s in shards] == [
        ("sa_000000.tar", ("a", "b"), 1),
        ("sa_000001.tar", ("c", "d"), 3),
        ("sa_000002.tar", ("e",), 5),
    ]


def test_every_image_has_one_result_though_a_worker_dies_and_the_run_is_repeated(
    images: list[str], tmp_path: Path
) -> None:
    target, shards = tmp_path / "shards", plan_shards(images, per_shard=3)
    build = Corner(dies_at=37, mark=str(tmp_path / "died"))
    first = list(annotate_on_ray(shards[:2], str(target), build, workers=2))
    assert sorted(result.name for result in first) == ["sa_000000.tar", "sa_000001.tar"]
    seen: list[int] = []
    rest = list(annotate_on_ray(shards, str(target), build, workers=2, progress=lambda p: seen.append(p.shards)))
    assert Path(build.mark).exists()
    assert sorted(result.name for result in rest) == ["sa_000002.tar", "sa_000003.tar"] and seen == [1, 2]
    assert not list(annotate_on_ray(shards, str(target), build, workers=2))

    results = first + rest
    assert sum(result.images for result in results) == sum(result.masks for result in results) == 10
    (broken,) = [name for result in results for name in result.failed]
    assert broken.endswith("05.jpg")
    tars = sorted(target.iterdir())
    assert [path.name for path in tars] == [shard.name for shard in shards]
    files = TarFiles(tars)
    assert sorted(files.sample(i).image.shape[1] for i in range(len(files))) == [30 + i for i in range(11) if i != 5]
    for index in range(len(files)):
        mask = files.sample(index).masks[0]
        assert mask.sum() == 15 and mask[:3, :5].all()


def test_a_cluster_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ray.shutdown()
    with pytest.raises(InputError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        next(annotate_on_ray(plan_shards(["a"]), str(tmp_path), Corner(), address="127.0.0.1:1"))
