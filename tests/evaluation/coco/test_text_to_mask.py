"""Words to masks: every figure against a slow, plain reference, and what cannot be measured."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from anymask.errors import DataError, InputError, PromptError
from anymask.evaluation.coco.report import text_to_dict, text_to_markdown
from anymask.evaluation.coco.text_to_mask import Named, TextProtocolConfig, evaluate_text
from anymask.evaluation.coco.truth import CocoTruth, TruthSet, open_truths
from anymask.evaluation.result_log import ResultLog
from anymask.geometry import rle

HEIGHT, WIDTH = 40, 50
NAMES = {1: "cup", 3: "tea_spoon", 7: "a plate"}
Answers = dict[tuple[int, str], list[rle.RLE]]


def _box(rng: np.random.Generator) -> np.ndarray:
    x, y, w, h = rng.integers([0, 0, 8, 8], [30, 20, 30, 25])
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def _shifted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.roll(mask, rng.integers(-4, 5, 2), (0, 1)) if rng.random() < 0.8 else _box(rng)


def _write(folder: Path, seed: int, *, crowds: bool = False) -> Path:
    """Write ten small images, whose pixels are their numbers, with boxes of three classes."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for number in range(1, 11):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), number, np.uint8)).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT})
        for _ in range(int(rng.integers(0, 5))):
            mask = rle.encode(_box(rng))
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": int(rng.choice([*NAMES]))}
            entry |= {"segmentation": mask, "area": rle.area(mask), "bbox": list(rle.bbox(mask))}
            annotations.append(entry | {"iscrowd": int(crowds and rng.random() < 0.2)})
    categories = [{"id": key, "name": name} for key, name in NAMES.items()]
    path = folder / "things.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


class Known:
    """Answers words with what it was given; what was asked is kept."""

    def __init__(self, alone: Answers, together: dict[int, list[Named]] | None) -> None:
        self.alone, self.together, self.asked = alone, together, list[tuple[int, str]]()

    def __call__(self, image: np.ndarray) -> Known:
        self.number = int(image[0, 0, 0])
        return self

    def one(self, phrase: str) -> list[rle.RLE]:
        self.asked.append((self.number, phrase))
        return self.alone.get((self.number, phrase), [])

    def several(self, phrases: Sequence[str]) -> list[Named] | None:
        assert set(phrases) == {"cup", "tea spoon", "a plate"}
        return None if self.together is None else self.together.get(self.number, [])


def _answers(document: dict[str, Any], seed: int) -> Known:
    """For each object up to two masks that are near it, or anywhere; all of a name in random order."""
    rng = np.random.default_rng(seed)
    alone: Answers = {}
    together: dict[int, list[Named]] = {}
    for entry in document["annotations"]:
        phrase = NAMES[entry["category_id"]].replace("_", " ")
        for _ in range(int(rng.integers(0, 3))):
            mask = rle.encode(_shifted(rle.decode(entry["segmentation"]), rng))
            alone.setdefault((entry["image_id"], phrase), []).append(mask)
            named = Named(phrase=phrase, score=round(rng.random(), 2), rle=mask)
            together.setdefault(entry["image_id"], []).append(named)
    return Known(alone, together)


def _reference(document: dict[str, Any], alone: Answers) -> dict[str, Any]:
    """Go through images and names one by one, on pixels."""

    def iou(a: np.ndarray, b: np.ndarray) -> float:
        return float((a & b).sum() / max((a | b).sum(), 1))

    best, union, chance = [], [], []
    for image in document["images"]:
        entries = [e for e in document["annotations"] if e["image_id"] == image["id"]]
        for category, name in NAMES.items():
            own = [e for e in entries if e["category_id"] == category]
            if not own or any(e["iscrowd"] for e in own):
                continue
            truths = [rle.decode(e["segmentation"]) for e in own]
            found = [rle.decode(m) for m in alone.get((image["id"], name.replace("_", " ")), [])]
            best.append(max(iou(found[0], truth) for truth in truths) if found else 0.0)
            union.append(iou(np.any(found, 0), np.any(truths, 0)) if found else 0.0)
            chance.append(len(own) / sum(not e["iscrowd"] for e in entries))
    hits = [value >= 0.5 for value in best]
    means = {"best": best, "hit": hits, "union": union, "chance": chance}
    return {name: float(np.mean(values)) for name, values in means.items()} | {"num_phrases": len(best)}


@pytest.mark.parametrize(("seed", "crowds"), [(0, False), (1, False), (2, True), (3, True)])
def test_every_figure_is_that_of_a_plain_reference(tmp_path: Path, seed: int, crowds: bool) -> None:
    path = _write(tmp_path, seed, crowds=crowds)
    document = json.loads(path.read_text())
    known = _answers(document, seed)
    result = evaluate_text(known, "things", CocoTruth.open(path))
    for name, value in _reference(document, known.alone).items():
        assert getattr(result, name) == pytest.approx(value, abs=1e-12), name
    assert known.together is not None and result.scores is not None
    by_phrase = {name.replace("_", " "): category for category, name in NAMES.items()}
    rows = [
        {"image_id": i, "category_id": by_phrase[f.phrase], "segmentation": f.rle, "score": f.score}
        for i, found in known.together.items()
        for f in found
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        theirs = COCOeval(truth, truth.loadRes(rows), "segm")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    assert result.scores.ap == pytest.approx(theirs.stats[0], abs=1e-9)
    assert result.scores.ap50 == pytest.approx(theirs.stats[1], abs=1e-9)


def test_perfect_masks_and_none(tmp_path: Path) -> None:
    path = _write(tmp_path, 0)
    document = json.loads(path.read_text())
    alone: Answers = {}
    for entry in document["annotations"]:
        key = entry["image_id"], NAMES[entry["category_id"]].replace("_", " ")
        alone.setdefault(key, []).append(entry["segmentation"])
    perfect = evaluate_text(Known(alone, None), "things", CocoTruth.open(path))
    assert (perfect.best, perfect.hit, perfect.union) == (1, 1, 1) and 0 < (perfect.chance or 0) < 1
    assert perfect.scores is None and "AP" not in text_to_markdown([perfect]).splitlines()[0]
    blind = evaluate_text(Known({}, {}), "things", CocoTruth.open(path))
    assert (blind.best, blind.hit, blind.union) == (0, 0, 0) and blind.scores is not None and blind.scores.ap == 0
    assert text_to_dict([blind])["sets"][0]["num_phrases"] == perfect.num_phrases


def test_lvis_is_asked_about_what_it_knows(tmp_path: Path) -> None:
    path = _write(tmp_path, 0)
    document = json.loads(path.read_text())
    for image in document["images"]:
        own = {e["category_id"] for e in document["annotations"] if e["image_id"] == image["id"]}
        image |= {"neg_category_ids": [3] if 3 not in own else [], "not_exhaustive_category_ids": sorted(own)}
    path.write_text(json.dumps(document))
    truths, asked = CocoTruth.open(path), []

    class Listens(Known):
        def several(self, phrases: Sequence[str]) -> list[Named]:
            asked.append((self.number, set(phrases)))
            return []

    result = evaluate_text(Listens({}, {}), "things", truths)
    assert result.union is None and result.best == 0
    for number, phrases in asked:
        present = {e["category_id"] for e in document["annotations"] if e["image_id"] == number}
        assert phrases == {NAMES[category].replace("_", " ") for category in present | {3}}


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    path = _write(tmp_path, 0)
    known = _answers(json.loads(path.read_text()), 0)
    whole = evaluate_text(known, "things", CocoTruth.open(path))
    result_log = tmp_path / "result_log.jsonl"
    first = evaluate_text(known, "things", CocoTruth.open(path), result_log=ResultLog(result_log, {}))
    result_log.write_text("\n".join(result_log.read_text().splitlines()[:6]))  # five of ten images, the last cut short
    known.asked.clear()
    heard: list[tuple[str, int, int]] = []
    again = evaluate_text(
        known,
        "things",
        CocoTruth.open(path),
        result_log=ResultLog(result_log, {}),
        progress=lambda *told: heard.append(told),
    )
    assert whole == first == again and heard == [("things", n, 10) for n in range(1, 11)]
    assert {number for number, _ in known.asked} <= set(range(5, 11))


def test_words_that_cannot_be_read_find_nothing_and_are_counted(tmp_path: Path) -> None:
    path = _write(tmp_path, 0)

    class Strict(Known):
        def one(self, phrase: str) -> list[rle.RLE]:
            if phrase == "tea spoon":
                raise PromptError("too long")
            return super().one(phrase)

    result = evaluate_text(Strict({}, None), "things", CocoTruth.open(path), TextProtocolConfig(max_images=8))
    (reason,) = result.left_out
    assert "too long to be read" in reason and 0 < result.left_out[reason] < result.num_phrases
    assert result.num_images == 8 and reason in text_to_markdown([result])


def test_phrases_come_from_names_by_a_template(tmp_path: Path) -> None:
    path = _write(tmp_path, 0)
    known = Known({}, None)
    known.several = lambda phrases: None  # type: ignore[method-assign, assignment]
    evaluate_text(known, "things", CocoTruth.open(path), TextProtocolConfig(template="a photo of a {}"))
    assert {phrase for _, phrase in known.asked} == {f"a photo of a {n}" for n in ("cup", "tea spoon", "a plate")}
    for template in ("thing", "{} and {}"):
        with pytest.raises(InputError, match="must hold"):
            TextProtocolConfig(template=template)
    with pytest.raises(InputError, match="max_images"):
        TextProtocolConfig(max_images=0)


def test_classes_need_names_and_different_ones(tmp_path: Path) -> None:
    path = _write(tmp_path, 0)

    def refused(truths: TruthSet) -> str:
        with pytest.raises(DataError) as caught:
            evaluate_text(Known({}, None), "things", truths)
        return str(caught.value)

    document = json.loads(path.read_text())
    for categories, words in (
        (None, "no names"),
        ([{"id": 1, "name": "tea cup"}, {"id": 3, "name": "tea_cup"}], "two of its classes are named 'tea cup'"),
        ([{"id": 9, "name": "fork"}], "can be evaluated"),
    ):
        path.write_text(json.dumps(document | {"categories": categories}))
        if words == "can be evaluated":
            document["annotations"] = [dict(document["annotations"][0], image_id=n + 1) for n in range(10)]
            path.write_text(json.dumps(document | {"categories": categories}))
        assert words in refused(CocoTruth.open(path))
    masks = np.zeros((HEIGHT, WIDTH), np.uint8)
    masks[3:9, 3:9] = 255
    (tmp_path / "pairs" / "images").mkdir(parents=True)
    (tmp_path / "pairs" / "masks").mkdir()
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "pairs" / "images" / "a.png")
    Image.fromarray(masks).save(tmp_path / "pairs" / "masks" / "a.png")
    (pairs,) = open_truths([tmp_path / "pairs"]).values()
    assert "no names" in refused(pairs)
