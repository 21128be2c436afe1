"""The single-point protocol over data sets: averages, draws, models, reports."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anymask.data.open import open_sets
from anymask.data.sample import Sample
from anymask.errors import DataError, InputError
from anymask.evaluation import report
from anymask.evaluation.protocol import Reply, Request
from anymask.evaluation.result_log import ResultLog
from anymask.evaluation.single_point import (
    ModelSegmenter,
    SinglePointConfig,
    evaluate,
    evaluate_set,
    quick_validation,
    settings,
)
from anymask.geometry import rle
from anymask.inference import Predictor
from anymask.model import SIZES, Sam, build_sam

SIZE = (48, 64)


@dataclass
class Scenes:
    """Images of flat discs; image i has i + 1 masks. Those in `broken` cannot be read."""

    num_images: int
    seed: int = 0
    broken: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.num_images

    def key(self, index: int) -> str:
        return f"scenes-{self.seed}/{index}"

    def fingerprint(self) -> str:
        return f"{self}"

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        if index in self.broken:
            raise DataError(f"{self.key(index)} is broken")
        draw = np.random.default_rng([self.seed, index])
        y, x = np.mgrid[: SIZE[0], : SIZE[1]]
        image = np.full((*SIZE, 3), 40, np.uint8)
        masks = []
        for _ in range(index + 1):
            cx, cy, radius = draw.uniform(12, 52), draw.uniform(12, 36), draw.uniform(4, 11)
            masks.append((x - cx) ** 2 + (y - cy) ** 2 < radius**2)
            image[masks[-1]] = draw.integers(80, 256, 3)
        if max_masks is not None and len(masks) > max_masks:
            assert rng is not None
            masks = [masks[i] for i in sorted(rng.choice(len(masks), max_masks, replace=False))]
        return Sample(key=self.key(index), image=image, masks=np.stack(masks))


class Disc:
    """Answers every click with a disc of 7 pixels round the first, a box with itself; keeps what it saw."""

    def __init__(self) -> None:
        self.first_clicks: list[tuple[float, ...]] = []

    def prepare(self, image: np.ndarray) -> Disc:
        self.size = image.shape[:2]
        return self

    def segment(self, requests: Sequence[Request]) -> Iterator[Reply]:
        y, x = np.mgrid[: self.size[0], : self.size[1]]
        for request in requests:
            if request.box is not None:
                x0, y0, x1, y1 = request.box
                mask = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
            else:
                cx, cy = request.points[0]
                mask = (x - cx) ** 2 + (y - cy) ** 2 < 49
                if len(request.labels) == 1:
                    self.first_clicks.append((float(cx), float(cy)))
            yield Reply(masks=mask[None])


@pytest.fixture(scope="module")
def model() -> Sam:
    torch.manual_seed(0)
    return build_sam(SIZES["smoke"]).eval()


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_means_are_over_masks_then_over_sets() -> None:
    sets = {"few": Scenes(2, seed=1), "many": Scenes(4, seed=2)}
    result = evaluate(Disc(), sets, SinglePointConfig(clicks=(1, 2), max_clicks=2))
    expected = []
    for scenes in sets.values():
        boxes = []
        for index in range(len(scenes)):
            for mask in scenes.sample(index).masks:
                rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
                filled = np.zeros_like(mask)
                filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
                boxes.append(plain_iou(filled, mask))
        expected.append(float(np.mean(boxes)))
    assert [found.scores.box for found in result.sets] == pytest.approx(expected)
    assert result.mean.box == pytest.approx(np.mean(expected))
    assert [(found.name, found.num_images, found.num_masks) for found in result.sets] == [
        ("few", 2, 3),
        ("many", 4, 10),
    ]
    assert result.mean.miou[1] == pytest.approx(np.mean([found.scores.miou[1] for found in result.sets]))
    assert result.mean.oracle == pytest.approx(result.mean.miou[1])  # one candidate a click
    assert result.calibration is None


def test_unreadable_images_are_skipped_and_counted() -> None:
    config = SinglePointConfig(clicks=(1,), max_clicks=1)
    result = evaluate(Disc(), {"scenes": Scenes(4, broken=(1, 3))}, config)
    assert (result.sets[0].num_images, result.sets[0].num_masks, result.sets[0].num_skipped) == (2, 4, 2)
    with pytest.raises(DataError, match="none of its 2 images"):
        evaluate(Disc(), {"scenes": Scenes(2, broken=(0, 1))}, config)
    with pytest.raises(DataError, match="no data set"):
        evaluate(Disc(), {}, config)


def test_the_draw_is_the_same_for_every_segmenter_and_changes_with_the_seed() -> None:
    def clicked(seed: int, **others: Scenes) -> list[tuple[float, ...]]:
        segmenter = Disc()
        config = SinglePointConfig(clicks=(1,), max_clicks=1, max_images=5, max_masks=2, seed=seed)
        evaluate(segmenter, {**others, "scenes": Scenes(12)}, config)
        return segmenter.first_clicks

    clicks = clicked(0)
    assert 5 <= len(clicks) <= 10
    assert clicks == clicked(0) == clicked(0, before=Scenes(3, seed=5))[-len(clicks) :]
    assert clicks != clicked(1)


def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    class Counted(Disc):
        prepared = 0

        def prepare(self, image: np.ndarray) -> Disc:
            self.prepared += 1
            if self.prepared > self.most:
                raise KeyboardInterrupt
            return super().prepare(image)

        def __init__(self, most: int) -> None:
            super().__init__()
            self.most = most

    scenes = Scenes(5, broken=(1,))
    config = SinglePointConfig(clicks=(1, 3), max_clicks=3)

    def journal(config: SinglePointConfig = config) -> ResultLog:
        return ResultLog(tmp_path / "scenes.jsonl", settings("disc", scenes, config))

    with pytest.raises(KeyboardInterrupt):
        evaluate_set(Counted(2), "scenes", scenes, config, result_log=journal())
    second = Counted(2)
    resumed = evaluate_set(second, "scenes", scenes, config, result_log=journal())
    assert second.prepared == 2
    whole = evaluate_set(Disc(), "scenes", scenes, config)
    assert resumed.outcome.to_dict() == whole.outcome.to_dict()
    assert resumed.places.tolist() == whole.places.tolist() == [[i, j] for i in (0, 2, 3, 4) for j in range(i + 1)]
    assert (resumed.num_images, resumed.num_skipped) == (4, 1)
    other = Counted(9)
    evaluate_set(other, "scenes", scenes, config, result_log=journal(SinglePointConfig(seed=1)))
    assert other.prepared == 4
    changed = settings("disc", Scenes(5, seed=1), config)
    assert changed["images"] != settings("disc", Scenes(5), config)["images"]


def test_a_random_first_click_lies_on_its_mask_and_is_the_seeds() -> None:
    def clicked(seed: int) -> list[tuple[float, ...]]:
        segmenter = Disc()
        config = SinglePointConfig(clicks=(1,), max_clicks=1, seed=seed, first="random")
        evaluate(segmenter, {"scenes": Scenes(4)}, config)
        return segmenter.first_clicks

    masks = [mask for index in range(4) for mask in Scenes(4).sample(index).masks]
    assert all(mask[int(y), int(x)] for mask, (x, y) in zip(masks, clicked(0), strict=True))
    assert clicked(0) == clicked(0) != clicked(1)
    with pytest.raises(InputError, match="centre or random"):
        SinglePointConfig(first="left")  # type: ignore[arg-type]


def test_the_histogram_counts_every_mask() -> None:
    result = evaluate(Disc(), {"scenes": Scenes(4)}, SinglePointConfig(clicks=(1,), max_clicks=1)).sets[0]
    assert sum(result.histogram) == 10 and len(result.histogram) == 20
    middles = (np.arange(20) + 0.5) / 20
    assert np.average(middles, weights=result.histogram) == pytest.approx(result.scores.miou[1], abs=0.025)


def test_progress_and_time_are_told() -> None:
    heard: list[tuple[str, int, int]] = []
    ticks = count()
    found = evaluate_set(
        Disc(),
        "scenes",
        Scenes(3, broken=(0,)),
        SinglePointConfig(clicks=(1,), max_clicks=1),
        progress=lambda *args: heard.append(args),
        clock=lambda: float(next(ticks)),
    )
    assert heard == [("scenes", 1, 3), ("scenes", 2, 3), ("scenes", 3, 3)]
    assert found.seconds == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clicks": (1, 11)}, "max_clicks, 10"),
        ({"clicks": ()}, "one or more"),
        ({"max_images": 0}, "max_images is 0"),
        ({"max_masks": -1}, "max_masks is -1"),
    ],
)
def test_impossible_configs_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SinglePointConfig(**values)  # type: ignore[arg-type]


def test_a_random_model_runs_and_repeats_itself(model: Sam) -> None:
    config = SinglePointConfig(clicks=(1, 3), max_clicks=3)
    first, second = (evaluate(ModelSegmenter(model), {"scenes": Scenes(4)}, config) for _ in range(2))
    assert report.to_dict(first) | {"seconds": 0} == report.to_dict(second) | {"seconds": 0}
    assert first.calibration is not None
    assert first.mean.oracle >= first.mean.miou[1]
    # Three masks for each of ten first clicks; one for each later click and for each box.
    assert sum(b.count for b in first.calibration.bins) == 10 * (3 + 1 + 1 + 1)


def test_the_model_answers_as_its_predictor_does(model: Sam) -> None:
    sample = Scenes(12).sample(11)
    predictor = Predictor(model)
    predictor.set_image(sample.image)
    image = ModelSegmenter(model).prepare(sample.image)
    points = np.array([[[10 + 3 * i, 8 + 2 * i]] for i in range(12)], np.float32)
    requests = [Request(points=p, labels=np.array([1])) for p in points]
    replies = list(image.segment(requests))
    later = [
        Request(points=np.concatenate([p, [[5, 5]]]), labels=np.array([1, 0]), memory=reply.memory)
        for p, reply in zip(points, replies, strict=True)
    ]
    for request, reply, request2, reply2 in zip(requests, replies, later, image.segment(later), strict=True):
        alone = predictor.predict(points=request.points, labels=request.labels)
        assert (
            reply.masks.shape == (3, *SIZE)
            and reply.scores is not None
            and sorted(reply.scores)[::-1] == list(reply.scores)
        )
        assert reply.scores == pytest.approx(alone.scores, abs=1e-4)
        assert (reply.masks != alone.masks).mean() < 1e-3
        alone2 = predictor.predict(points=request2.points, labels=request2.labels, mask=alone.logits[0])
        assert reply2.masks.shape == (1, *SIZE)
        assert reply2.scores == pytest.approx(alone2.scores, abs=1e-3)
        assert (reply2.masks != alone2.masks).mean() < 1e-2
    box = Request(points=points[0, :0], labels=np.zeros(0, np.int64), box=np.array([5.0, 5, 40, 30]))
    (reply,) = image.segment([box])
    assert (reply.masks == predictor.predict(box=[5, 5, 40, 30]).masks).all()


def test_quick_validation_is_a_flat_dict_and_leaves_the_mode(model: Sam) -> None:
    model.train()
    values = quick_validation(model, {"a": Scenes(3), "b": Scenes(2, seed=1)}, num_images=2, num_masks=2)
    assert model.training and model.mask_decoder.training
    model.eval()
    assert list(values) == ["miou_1", "miou_3", "miou_5", "box", "oracle", "iou_correlation"]
    assert all(np.isfinite(value) for value in values.values())
    assert values == quick_validation(model, {"a": Scenes(3), "b": Scenes(2, seed=1)}, num_images=2, num_masks=2)


def test_report_is_json_and_markdown(model: Sam, tmp_path: Path) -> None:
    config = SinglePointConfig(clicks=(1, 2), max_clicks=2)
    result = evaluate(ModelSegmenter(model), {"one": Scenes(2), "two": Scenes(3, seed=1)}, config)
    report.write(result, tmp_path)
    values = json.loads((tmp_path / "single_point.json").read_text())
    assert values == report.to_dict(result)
    assert values["mean"]["miou"]["2"] == result.mean.miou[2]
    assert values["sets"][1]["scores"]["noc"]["85"] == result.sets[1].scores.noc[85]
    lines = (tmp_path / "single_point.md").read_text().splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == [
        *("set", "images", "masks", "1 click", "2 clicks", "box", "oracle", "NoC@85", "NoC@90", "boundary@1"),
    ]
    mean = [cell.strip() for cell in lines[4].split("|")[1:-1]]
    assert mean[:4] == ["**mean**", "5", "9", f"{result.mean.miou[1]:.3f}"]
    assert len({len(line) for line in lines[:5]}) == 1


def _write_tar(path: Path, num_images: int) -> None:
    scenes = Scenes(num_images)
    with tarfile.open(path, "w") as archive:
        for index in range(num_images):
            sample = scenes.sample(index)
            encoded = io.BytesIO()
            Image.fromarray(sample.image).save(encoded, "PNG")
            masks = [{"segmentation": found} for found in rle.encode_many(sample.masks)]
            for suffix, data in ((".png", encoded.getvalue()), (".json", json.dumps({"annotations": masks}).encode())):
                member = tarfile.TarInfo(f"{index}{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def test_tars_are_sets_named_by_their_files(tmp_path: Path) -> None:
    _write_tar(tmp_path / "discs-val.tar", 3)
    sets = open_sets([tmp_path / "discs-val.tar"])
    assert list(sets) == ["discs"]
    config = SinglePointConfig(clicks=(1,), max_clicks=1)
    from_tar, from_memory = (evaluate(Disc(), source, config).mean for source in (sets, {"discs": Scenes(3)}))
    assert from_tar == from_memory
    with pytest.raises(DataError, match="two data sets"):
        open_sets([tmp_path / "discs-val.tar", tmp_path / "discs-train.tar"])


def _shared_data() -> Path | None:
    folder = Path(os.environ.get("ANYMASK_DATA") or Path(__file__).parents[3] / "shared" / "data")
    return folder if (folder / "labelled").is_dir() else None


@pytest.mark.skipif(_shared_data() is None, reason="no data: set ANYMASK_DATA to the folder that holds labelled/")
def test_real_photographs_are_evaluated(model: Sam) -> None:
    folder = _shared_data()
    assert folder is not None
    sets = open_sets(sorted((folder / "labelled").glob("*-val.tar")))
    assert len(sets) >= 2
    config = SinglePointConfig(clicks=(1,), max_clicks=2, max_images=1, max_masks=2)
    result = evaluate(ModelSegmenter(model), sets, config)
    assert [found.name for found in result.sets] == sorted(sets)
    assert all(1 <= found.num_masks <= 2 and found.num_skipped == 0 for found in result.sets)
