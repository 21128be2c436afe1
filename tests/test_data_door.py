"""Every kind of data opens for whatever takes data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from anymask.data.open import open_data, open_images, open_sets
from anymask.data.regions.stable import write_regions
from anymask.data.synthetic import load_cutouts, load_pictures
from anymask.data.writers.sa1b import write_tar
from anymask.engine.imports import read_source
from anymask.engine.stages.annotator import Truth
from anymask.errors import DataError
from anymask.evaluation.coco.truth import open_truths
from anymask.training.config import ModelConfig, Recipe, RunConfig, SourceConfig
from anymask.training.finetuning.finetune import FinetuneConfig
from anymask.training.objectives.mae import build_image_stream
from anymask.training.sources import build_stream
from anymask.workflows.finetune import open_finetune_sets
from data_kinds import CORNERS, KINDS, NAMES, SIZE, masks

FORMATS = {"coco": "coco", "folder with coco": "coco", "masks": "masks", "labelme": "labelme", "pairs": "sa1b"}


def recipe(where: Path) -> Recipe:
    return Recipe(
        run=RunConfig(steps=1, batch_size=3, num_masks=2),
        sources=(SourceConfig(data=(str(where),)),),
        model=ModelConfig(size="smoke", image_size=64),
    )


def door(where: Path) -> list[int]:
    files = open_data(where)
    return [int(mask.sum()) for index in range(len(files)) for mask in files.sample(index).masks]


def annotations(where: Path) -> list[int]:
    files = open_data(where)
    found = [files.annotations(index) for index in range(len(files))]
    assert {each.size for each in found} == {SIZE}
    assert open_data([where, where]).fingerprint() != files.fingerprint()
    return door(where)


def train(where: Path) -> list[int]:
    batch = build_stream(recipe(where)).batch(0)
    assert batch.masks.any(dim=(2, 3)).all() and not batch.skipped
    return door(where)


def pretrain(where: Path) -> list[int]:
    assert build_image_stream(recipe(where)).batch(0).images.any()
    return door(where)


def finetune(where: Path) -> list[int]:
    opened = open_finetune_sets(
        where, None, str(where), [str(where)], [], FinetuneConfig(), SimpleNamespace(channels=None)
    )
    assert len(opened.new) == 2 and len(opened.old[0]) == 1
    return door(where)


def evaluate(where: Path) -> list[int]:
    (files,) = open_sets([where]).values()
    return [int(mask.sum()) for index in range(len(files)) for mask in files.sample(index).masks]


def evaluate_by_class(where: Path) -> list[int]:
    (truths,) = open_truths([where]).values()
    return [int(area) for index in range(len(truths)) for area in truths.read(index)[1].areas]


def simulate(where: Path) -> list[int]:
    truth = Truth([where])
    images = [SimpleNamespace(name=f"{name}.png", size=SIZE) for name in NAMES]
    return [int(mask.sum()) for image in images for mask in truth.masks(image)]


def take_in(where: Path) -> list[int]:
    kind = next((name for name, words in FORMATS.items() if name in str(where)), "")
    found = list(read_source(FORMATS.get(kind, "labelme" if "labelme" in str(where) else "sa1b"), str(where)))
    assert [(each.size, len(each.masks)) for each in found] == [(SIZE, 2)] * len(NAMES)
    assert len({each.location for each in found}) == len(NAMES)
    return door(where)


def regions(where: Path) -> list[int]:
    files = open_images(where)
    (shard,) = write_regions(files, where.parent / "regions", find=lambda image: masks())
    return door(shard)


def render(where: Path) -> list[int]:
    assert [each.shape for each in load_pictures(where)] == [(*SIZE, 3)] * len(NAMES)
    with pytest.raises(DataError, match="no object"):  # mere boxes, and so no cut-outs: the masks were read
        load_cutouts(where)
    return door(where)


CALLERS: dict[str, Callable[[Path], list[int]]] = {
    each.__name__: each
    for each in (
        *(
            door,
            annotations,
            train,
            pretrain,
            finetune,
            evaluate,
            evaluate_by_class,
            simulate,
            take_in,
            regions,
            render,
        ),
    )
}


@pytest.mark.parametrize("caller", list(CALLERS))
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_opens_for_every_caller(kind: str, caller: str, tmp_path: Path) -> None:
    where = KINDS[kind](tmp_path / kind)
    areas = sorted((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in CORNERS)
    assert sorted(CALLERS[caller](where)) == sorted(areas * len(NAMES))


def test_places_of_several_kinds_are_one_set(tmp_path: Path) -> None:
    places = [make(tmp_path / kind) for kind, make in KINDS.items() if kind != "folder of tars"]
    files = open_data(places)
    assert len(files) == len(NAMES) * len(places) == len({files.key(index) for index in range(len(files))})
    assert all(np.array_equal(files.sample(index).masks, masks()) for index in range(len(files)))


def test_annotations_may_lie_apart_in_either_order(tmp_path: Path) -> None:
    beside = KINDS["coco"](tmp_path / "coco")
    moved = beside.rename(tmp_path / "moved.json")
    assert len(open_data(tmp_path / "coco", moved)) == len(open_data(moved, tmp_path / "coco")) == 3
    with pytest.raises(DataError, match="there is no file or folder"):
        open_data(tmp_path / "coco", tmp_path / "gone.json")
    for kind in ("labelme", "pairs"):
        folder, apart = KINDS[kind](tmp_path / kind), tmp_path / f"{kind} apart"
        apart.mkdir()
        for path in folder.glob("*.json"):
            path.rename(apart / path.name)
        assert len(open_data(folder, apart)) == 3


def test_a_folder_of_images_and_masks_is_one_whatever_json_lies_there(tmp_path: Path) -> None:
    where = KINDS["masks"](tmp_path / "masks")
    (where / "annotations.json").write_text('{"images": [], "annotations": []}')
    (where / "images" / "a.json").write_text("not JSON at all")
    assert len(open_data(where)) == 3


def test_what_is_no_data_is_told_with_what_would_be(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no image in .*empty has masks"):
        open_data(tmp_path / "empty")
    with pytest.raises(DataError, match="no image in"):
        open_images(tmp_path / "empty")
    with pytest.raises(DataError, match="no place"):
        open_images([])
    write_tar(tmp_path / "a-val.tar", [])
    with pytest.raises(DataError, match=r"no image with its JSON in .*a-val\.tar"):
        open_sets([tmp_path / "a-val.tar"])
