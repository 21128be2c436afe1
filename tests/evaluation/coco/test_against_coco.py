"""Recall and precision against pycocotools and lvis on the same random input, and cases known by hand."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from anymask.data.readers.coco import CocoFiles
from anymask.evaluation.coco.average_precision import PrecisionTally, Scored, judge
from anymask.evaluation.coco.matching import THRESHOLDS, match
from anymask.evaluation.coco.proposals import RANGES, Proposals, RecallCounts, count_found
from anymask.evaluation.coco.truth import CocoTruth
from anymask.geometry import rle

SIZE = 200
LIMITS = (3, 10, 100)
Scene = tuple[dict[str, Any], list[dict[str, Any]]]


def _box_mask(x: int, y: int, w: int, h: int) -> rle.RLE:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[max(y, 0) : y + h, max(x, 0) : x + w] = True
    return rle.encode(mask)


def _scene(seed: int, *, num_images: int = 12, crowds: bool = True, lvis: bool = False) -> Scene:
    """Boxes as masks, of every size; detections are jittered copies and noise, with many equal scores."""
    rng = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in rng.permutation(100)[:num_images].tolist():
        image = {"id": image_id, "width": SIZE, "height": SIZE, "file_name": f"{image_id}.jpg"}
        present = set()
        for _ in range(int(rng.integers(0, 7))):
            side = int(rng.choice([12, 60, 140]))
            x, y, w, h = (int(v) for v in rng.integers([0, 0, side // 2, side // 2], [100, 100, side, side]))
            category = int(rng.integers(1, 5))
            present.add(category)
            mask = _box_mask(x, y, w, h)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "segmentation": mask,
                    "bbox": [x, y, w, h],
                    # Not always the mask's own, as in COCO.
                    "area": rle.area(mask) if rng.random() < 0.7 else float(rng.choice([1024, 9216, 500])),
                    "iscrowd": int(crowds and rng.random() < 0.2),
                }
            )
            for _ in range(int(rng.integers(0, 4))):
                dx, dy, dw, dh = (int(v) for v in rng.integers(-4, 5, 4))
                results.append(
                    _result(rng, image_id, category, _box_mask(x + dx, y + dy, max(w + dw, 1), max(h + dh, 1)))
                )
        for _ in range(int(rng.integers(0, 5))):
            noise = _box_mask(*(int(v) for v in rng.integers(5, 90, 4)))
            results.append(_result(rng, image_id, int(rng.integers(1, 5)), noise))
        if lvis:
            image["neg_category_ids"] = [c for c in range(1, 5) if c not in present and rng.random() < 0.5]
            image["not_exhaustive_category_ids"] = [c for c in present if rng.random() < 0.3]
        images.append(image)
    categories = [
        {"id": c, "name": str(c), "frequency": "rccf"[c - 1], "image_count": 1, "instance_count": 1}
        for c in range(1, 5)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def _result(rng: np.random.Generator, image_id: int, category: int, mask: rle.RLE) -> dict[str, Any]:
    score = float(np.round(rng.random(), 1))
    return {"image_id": image_id, "category_id": category, "segmentation": mask, "score": score}


def _of_one_kind(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Proposals have no category."""
    return [{**result, "category_id": 1} for result in results]


def _truth(document: dict[str, Any]) -> CocoTruth:
    options = {"strict": False, "unlabelled": True, "crowds": True}
    return CocoTruth(CocoFiles(Path(), "random.json", document=document, **options))


def _coco_eval(document: dict[str, Any], results: list[dict[str, Any]], *, categories: bool) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = document
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.params.useCats = int(categories)
        if not categories:
            evaluation.params.maxDets = list(LIMITS)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _recall(document: dict[str, Any], results: list[dict[str, Any]]) -> list[list[float | None]]:
    truths = _truth(document)
    total: RecallCounts | None = None
    for index, image_id in enumerate(truths.entry(n).id for n in range(len(truths))):
        mine = [r for r in results if r["image_id"] == image_id]
        proposals = Proposals(masks=[r["segmentation"] for r in mine], scores=[r["score"] for r in mine])
        counts = count_found(proposals, truths.truth(index), truths.frequency, LIMITS)
        if total is None:
            total = counts
        else:
            total += counts
    assert total is not None
    return total.average_recall()


def _tally(document: dict[str, Any], results: list[dict[str, Any]]) -> PrecisionTally:
    truths, tally = _truth(document), PrecisionTally()
    for index, image_id in enumerate(truths.entry(n).id for n in range(len(truths))):
        mine = [
            Scored(mask=r["segmentation"], category=r["category_id"], score=r["score"])
            for r in results
            if r["image_id"] == image_id
        ]
        tally.add(judge(mine, truths.truth(index)))
    return tally


def _mean(values: np.ndarray) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def _close(ours: float | None, theirs: float | None) -> bool:
    return ours is theirs if ours is None or theirs is None else abs(ours - theirs) < 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_recall_is_that_of_pycocotools(seed: int) -> None:
    document, results = _scene(seed)
    results = _of_one_kind(results)
    recall = _coco_eval(document, results, categories=False).eval["recall"]  # (thresholds, 1, areas, limits)
    ours = _recall(document, results)
    for area in range(4):
        for limit in range(len(LIMITS)):
            assert _close(ours[area][limit], _mean(recall[:, 0, area, limit])), (area, limit)


@pytest.mark.parametrize("seed", range(8))
def test_precision_is_that_of_pycocotools(seed: int) -> None:
    document, results = _scene(seed + 100)
    precision = _coco_eval(document, results, categories=True).eval["precision"][..., -1]  # (t, recalls, c, areas)
    ours = _tally(document, results).scores()
    expected = [
        *(_mean(part) for part in (precision[..., 0], precision[0, ..., 0], precision[5, ..., 0])),
        *(_mean(precision[..., area]) for area in (1, 2, 3)),
    ]
    found = [ours.ap, ours.ap50, ours.ap75, ours.ap_small, ours.ap_medium, ours.ap_large]
    assert all(map(_close, found, expected)), (found, expected)


@pytest.fixture
def lvis_eval(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    lvis = pytest.importorskip("lvis", reason="lvis is not installed: pip install --no-deps lvis")
    monkeypatch.setattr(np, "float", float, raising=False)  # names that NumPy has dropped since
    monkeypatch.setattr(np, "int", int, raising=False)

    def run(document: dict[str, Any], results: list[dict[str, Any]], *, categories: bool, limit: int) -> Any:
        path = tmp_path / "lvis.json"
        path.write_text(json.dumps(document))
        truth = lvis.LVIS(str(path))
        for result in results:
            result["bbox"] = list(rle.bbox(result["segmentation"]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the logging module, in lvis itself
            found = lvis.LVISResults(truth, [dict(result) for result in results], max_dets=limit)
            evaluation = lvis.LVISEval(truth, found, "segm")
        evaluation.params.use_cats = int(categories)
        evaluation.params.max_dets = limit
        evaluation.evaluate()
        evaluation.accumulate()
        return evaluation

    return run


@pytest.mark.parametrize("seed", range(6))
def test_precision_is_that_of_lvis(seed: int, lvis_eval: Any) -> None:
    document, results = _scene(seed + 200, crowds=False, lvis=True)
    evaluation = lvis_eval(document, results, categories=True, limit=300)
    evaluation.summarize()
    ours = _tally(document, results).scores(_truth(document).frequency)
    theirs = {key: (None if value < 0 else value) for key, value in evaluation.get_results().items()}
    names = {"AP": ours.ap, "AP50": ours.ap50, "AP75": ours.ap75, "APs": ours.ap_small, "APm": ours.ap_medium}
    names |= {"APl": ours.ap_large, "APr": ours.ap_rare, "APc": ours.ap_common, "APf": ours.ap_frequent}
    assert all(_close(value, theirs[name]) for name, value in names.items()), (names, theirs)


@pytest.mark.parametrize("seed", range(6))
def test_recall_by_frequency_is_that_of_lvis_with_the_others_ignored(seed: int, lvis_eval: Any) -> None:
    document, results = _scene(seed + 300, crowds=False)
    results = _of_one_kind(results)
    ours = dict(zip(RANGES, _recall(document, results), strict=True))
    for image in document["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    # lvis finds nothing at all where categories do not count (use_cats=0), so that all are made one here.
    kinds = ["rccf"[annotation["category_id"] - 1] for annotation in document["annotations"]]
    flat = [annotation | {"category_id": 1} for annotation in document["annotations"]]
    order = sorted(range(len(flat)), key=lambda index: document["annotations"][index]["category_id"])
    for name, letters in (("all", "rcf"), ("rare", "r"), ("common", "c"), ("frequent", "f")):
        annotations = [flat[index] | {"ignore": kinds[index] not in letters} for index in order]
        for place, limit in enumerate(LIMITS):
            found = lvis_eval({**document, "annotations": annotations}, results, categories=True, limit=limit)
            assert _close(ours[name][place], _mean(found.eval["recall"][:, 0, 0])), (name, limit)


def test_nothing_annotated_has_no_recall_and_nothing_found_has_none() -> None:
    document, results = _scene(0, crowds=False)
    assert all(value == 0 for value in _recall(document, [])[0])
    assert _tally(document, []).scores().ap == 0
    empty = {**document, "annotations": []}
    assert all(value is None for row in _recall(empty, results) for value in row)
    assert _tally(empty, results).scores().ap is None
    assert _tally(empty, []).num_truths() == 0


def test_what_is_annotated_is_found_whole() -> None:
    document, _ = _scene(1, crowds=False)
    perfect = [{**annotation, "score": 1.0} for annotation in document["annotations"]]
    assert all(value in (1, None) for row in _recall(document, perfect) for value in row[2:])
    assert _tally(document, perfect).scores().ap == pytest.approx(1)


def test_a_crowd_takes_any_number_and_counts_neither_way() -> None:
    ious = np.array([[0.9, 0.6], [0.9, 0.6], [0.2, 0.6]])
    found = match(ious, np.array([False, True]), np.array([[False, True]]))
    at_half = found.hit[0, 0], found.ignored[0, 0]
    assert at_half[0].tolist() == [True, True, True] and at_half[1].tolist() == [False, True, True]
    strict = THRESHOLDS.tolist().index(0.95)
    assert not found.hit[0, strict].any()


def test_of_equal_truths_the_last_goes_first() -> None:
    found = match(np.array([[0.8, 0.8], [0.8, 0.0]]), np.zeros(2, bool), np.zeros((1, 2), bool))
    assert found.hit[0, 0].tolist() == [True, True]
