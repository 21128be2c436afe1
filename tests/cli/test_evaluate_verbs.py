"""`anymask evaluate` and `anymask instances` on a small COCO data set."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import word_models
from anymask.checkpoints import load, places
from anymask.data.open import open_sets
from anymask.evaluation.single_point import ModelSegmenter, evaluate
from anymask.inference import PLAIN
from anymask.inference.instances import Instances

Run = Callable[..., Any]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Four images of a bright box each, in COCO's layout, the annotations of the last of them of no use."""
    (tmp_path / "pictures").mkdir()
    images, annotations = [], []
    for number in range(1, 5):
        pixels = np.full((48, 64, 3), 30, np.uint8)
        pixels[8:30, 4 * number : 4 * number + 24] = 220
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number:03}.png")
        images.append({"id": number, "file_name": f"{number:03}.png", "width": 64, "height": 48})
        left, right = 4 * number, 4 * number + 24
        outline = [left, 8, right, 8, right, 30, left, 30]
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "segmentation": [outline], "iscrowd": 0}
        )
    annotations[3] |= {"segmentation": []}
    path = tmp_path / "boxes-val.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]})
    )
    return path


@pytest.fixture
def detections(tmp_path: Path) -> Path:
    boxes = [{"image_id": n, "category_id": 1, "bbox": [4 * n, 8, 24, 22], "score": 0.9} for n in (1, 2, 3)]
    boxes += [{"image_id": 1, "category_id": 1, "bbox": [70, 8, 10, 10], "score": 0.5}]
    boxes += [{"image_id": 99, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.5}]
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(boxes))
    return path


def test_single_point_takes_coco_and_goes_on_where_it_was(anymask: Run, coco: Path, tmp_path: Path) -> None:
    command = ["evaluate", "single-point", coco, "--images", tmp_path / "pictures", "-o", tmp_path / "out", "--json"]
    ran = anymask(*command, "--first", "both")
    assert ran.status == 0, ran.err
    values = json.loads(ran.out)
    assert values["centre"]["sets"][0]["name"] == "boxes" and values["centre"]["sets"][0]["num_masks"] == 3
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"single_point.json", "single_point.md", "single_point_random.md", "single_point_sets.png"} <= written
    again = anymask(*command)
    assert json.loads(again.out) | {"seconds": 0} == values["centre"] | {"seconds": 0}
    assert "SAM ViT-H (published)" in (tmp_path / "out" / "single_point.md").read_text()


def test_plain_answers_are_measured_by_choice_and_kept_apart(anymask: Run, coco: Path, tmp_path: Path) -> None:
    command = ["evaluate", "single-point", coco, "--images", tmp_path / "pictures", "-o", tmp_path / "out", "--json"]
    plain, refined = (json.loads(anymask(*command, *options).out) for options in (["--plain"], []))
    model = ModelSegmenter(load.load_model("anymask-s"), refinement=PLAIN)
    expected = evaluate(model, open_sets([coco], images=tmp_path / "pictures")).mean
    assert plain["mean"]["miou"]["1"] == pytest.approx(expected.miou[1], abs=1e-6)
    assert plain["mean"]["boundary"]["1"] == pytest.approx(expected.boundary[1], abs=1e-6)
    assert refined["mean"] != plain["mean"]


def test_without_matplotlib_tables_are_written_and_plots_are_not(
    anymask: Run, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    common = [coco, "--images", tmp_path / "pictures", "-o", tmp_path / "out"]
    ran = anymask("evaluate", "single-point", *common)
    assert ran.status == 0 and "no plots: plots need matplotlib" in ran.err and "| 1 click" in ran.out
    ran = anymask("evaluate", "all", *common, "--proposal-images", 0, "--num-cases", 0)
    assert ran.status == 0 and "no plots" in ran.err and "<img" not in (tmp_path / "out" / "index.html").read_text()
    assert not list((tmp_path / "out").glob("*.png"))


def test_proposals_of_coco_and_of_folders(anymask: Run, coco: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = ["evaluate", "proposals", coco, "--images", tmp_path / "pictures", "--points-per-side", 2, "-o", output]
    ran = anymask(*command)
    assert ran.status == 0, ran.err
    assert "AR@1000" in ran.out and "1 without a mask" in ran.out and "SAM ViT-H on LVIS v1 (published)" in ran.out
    first = json.loads((output / "proposals.json").read_text())
    assert first["sets"][0]["num_images"] == 4 and first["sets"][0]["num_masks"] == 3
    assert 0 <= first["sets"][0]["recall"]["all"]["1000"] <= 1 and first["sets"][0]["recall"]["rare"]["10"] is None
    assert json.loads(anymask(*command, "--json").out)["sets"] == first["sets"]


def test_instances_are_evaluated_with_counts_of_what_is_left_out(
    anymask: Run, coco: Path, detections: Path, tmp_path: Path
) -> None:
    command = ["evaluate", "instances", coco, detections, "--images", tmp_path / "pictures", "-o", tmp_path / "out"]
    ran = anymask(*command)
    assert ran.status == 0, ran.err
    assert "1 boxes of images that are not in the file" in ran.out and "1 boxes without an area" in ran.out
    values = json.loads((tmp_path / "out" / "instances.json").read_text())["sets"][0]
    assert (values["num_images"], values["num_boxes"], values["num_masks"]) == (4, 3, 3)
    assert 0 <= values["scores"]["ap"] <= 1
    assert values["left_out"]["annotations without a mask"] == 1
    assert json.loads(anymask(*command, "--json").out)["sets"][0] == values


@pytest.mark.parametrize("protocol", ["single-point", "proposals", "instances", "text"])
def test_what_was_measured_before_the_data_changed_is_not_taken_up(
    anymask: Run, coco: Path, detections: Path, tmp_path: Path, protocol: str
) -> None:
    boxes = [detections] if protocol == "instances" else []
    words = ["--detector", tmp_path / "owl", "--threshold", 0] if protocol == "text" else []
    if words:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            word_models.owl(tmp_path / "owl")
    command = ["evaluate", protocol, coco, *boxes, "--images", tmp_path / "pictures", "-o", tmp_path / "out", *words]
    command += ["--points-per-side", 2] if protocol == "proposals" else []

    def journal() -> list[str]:
        (path,) = (tmp_path / "out" / "journal").iterdir()
        return path.read_text().splitlines()

    assert anymask(*command).status == 0
    head, *before = journal()
    values = json.loads(coco.read_text())
    more = [{**annotation, "id": annotation["id"] + 4} for annotation in values["annotations"][:3]]
    coco.write_text(json.dumps({**values, "annotations": [*values["annotations"], *more]}))
    assert anymask(*command).status == 0
    other, *after = journal()
    assert other != head and len(after) == len(before) and after != before


def test_boxes_become_masks_in_cocos_layout(anymask: Run, coco: Path, detections: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "masks.json"
    ran = anymask("instances", tmp_path / "pictures", detections, "-o", output, "--json", "--batch-size", 2)
    assert ran.status == 0, ran.err
    record = json.loads(ran.out)
    assert (record["images"], record["masks"]) == (3, 3)
    assert (record["boxes_without_area"], record["boxes_without_image"]) == (1, 1)
    entries = json.loads(output.read_text())
    assert [entry["image_id"] for entry in entries] == [1, 2, 3]
    assert all(entry["segmentation"]["size"] == [48, 64] and entry["score"] == 0.9 for entry in entries)
    named = anymask("instances", tmp_path / "pictures", detections, "-o", output, "--annotations", coco)
    assert named.status == 0 and "1 boxes without an area" in named.out
    assert json.loads(output.read_text()) == entries


def test_images_that_cannot_be_read_cost_no_other_its_masks(
    anymask: Run, refused: Run, coco: Path, detections: Path, tmp_path: Path
) -> None:
    output = tmp_path / "masks.json"
    command = ["instances", tmp_path / "pictures", detections, "-o", output]
    (tmp_path / "pictures" / "002.png").write_bytes(b"no image")
    ran = anymask(*command, "--json")
    assert ran.status == 1
    assert ran.err.count("passed over") == 1 and "002.png: not an image" in ran.err
    record = json.loads(ran.out)
    assert (record["images"], record["masks"], record["boxes_without_area"]) == (2, 2, 1)
    assert [Path(failure["file"]).name for failure in record["failed"]] == ["002.png"]
    assert [entry["image_id"] for entry in json.loads(output.read_text())] == [1, 3]
    for number in (1, 3):
        (tmp_path / "pictures" / f"{number:03}.png").write_bytes(b"no image")
    output.unlink()
    assert "none of 3 images can be used; the first" in refused(*command)
    assert not output.exists() and not list(tmp_path.glob(".masks*"))


def test_masks_that_were_made_before_a_failure_are_not_lost(
    anymask: Run, coco: Path, detections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, asked = tmp_path / "masks.json", 0
    command = ["instances", tmp_path / "pictures", detections, "-o", output, "--batch-size", 1]
    segment = Instances.segment_encoded

    def failing(self: Instances, *arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise RuntimeError("CUDA out of memory")
        return segment(self, *arguments)

    monkeypatch.setattr(Instances, "segment_encoded", failing)
    assert anymask(*command).status == 2
    assert not output.exists()
    assert anymask(*command).status == 0 and asked == 4
    assert [entry["image_id"] for entry in json.loads(output.read_text())] == [1, 2, 3]
    assert not list(tmp_path.glob(".masks*"))


def test_words_are_evaluated_and_go_on_where_they_were(anymask: Run, refused: Run, coco: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        word_models.owl(tmp_path / "owl")
    command = ["evaluate", "text", coco, "--images", tmp_path / "pictures", "-o", tmp_path / "out"]
    ran = anymask(*command, "--detector", tmp_path / "owl", "--threshold", 0)
    assert ran.status == 0, ran.err
    assert "AP50" in ran.out and "no published row" in ran.out and "1 annotations without a mask" in ran.out
    values = json.loads((tmp_path / "out" / "text.json").read_text())["sets"][0]
    assert (values["num_images"], values["num_phrases"], values["chance"]) == (4, 3, 1.0)
    assert 0 <= values["best"] <= 1 and values["scores"]["ap"] is not None
    (result_log,) = (tmp_path / "out" / "journal").iterdir()
    assert len(result_log.read_text().splitlines()) == 5
    again = anymask(*command, "--detector", tmp_path / "owl", "--threshold", 0, "--json")
    assert json.loads(again.out)["sets"][0] == values
    assert "`hf download owner/none` fetches them" in refused(*command, "--detector", "owner/none")
    assert "must hold {} once" in refused(*command, "--template", "a photo")


def test_bad_input_is_refused_on_one_line(refused: Run, coco: Path, detections: Path, tmp_path: Path) -> None:
    pictures, output = tmp_path / "pictures", tmp_path / "out.json"
    assert "is an annotation file" in refused("instances", pictures, coco, "-o", output)
    assert "there is no image or folder" in refused("instances", tmp_path / "no", detections, "-o", output)
    (tmp_path / "empty").mkdir()
    assert "such as 1" in refused("instances", tmp_path / "empty", detections, "-o", output)
    assert not output.exists()
    assert "no COCO file but a list" in refused("evaluate", "proposals", detections, "--images", pictures)
    assert "there is no file or folder" in refused("evaluate", "single-point", coco, "--images", tmp_path / "nowhere")
    assert "there is no file or folder" in refused("evaluate", "single-point", tmp_path / "absent")
    strange = tmp_path / "strange.json"
    strange.write_text('{"images": [{"id": 1}], "annotations": []}')
    assert "image 1 has neither file_name nor coco_url" in refused(
        "evaluate", "instances", strange, detections, "--images", pictures
    )


def test_the_whole_report_is_one_page_with_everything_on_it(anymask: Run, coco: Path, tmp_path: Path) -> None:
    pictures, output = tmp_path / "pictures", tmp_path / "report"
    other = tmp_path / "other.safetensors"
    other.write_bytes(Path(places.EMBEDDED["anymask-s"]).read_bytes())
    command = ["evaluate", "all", coco, "--images", pictures, "--model", "anymask-s", "--model", other, "-o", output]
    command += ["--points-per-side", 2, "--num-cases", 2, "--boxes", coco]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 1, "bbox": [4, 8, 24, 22]}]))
    ran = anymask(*command, boxes)
    assert ran.status == 0, ran.err
    page = (output / "index.html").read_text()
    for words in ("Clicks and boxes", "Proposals", "Instances", "SAM ViT-H (published)", "Worst of each set", "other"):
        assert words in page
    # Two models: three shared plots, two of calibration, and five rows of two cases.
    assert page.count("<img") == 15 and "http:" not in page and "https:" not in page
    values = json.loads((output / "report.json").read_text())
    assert list(values["single_point"]) == ["anymask-s", "other"]
    assert values["single_point"]["other"]["mean"] == values["single_point"]["anymask-s"]["mean"]
    assert "## Instances: other" in (output / "report.md").read_text()


def test_two_models_of_one_name_are_refused(refused: Run, coco: Path, tmp_path: Path) -> None:
    for verb in (("all",), ("rating", "sheet")):
        said = refused(
            *("evaluate", *verb, coco, "--images", tmp_path / "pictures", "-o", tmp_path / "report"),
            *("--model", "a/sam.pth", "--model", "b/sam.pth"),
        )
        assert "called the same" in said


def test_a_sheet_and_its_key_are_of_the_same_masks(anymask: Run, refused: Run, coco: Path, tmp_path: Path) -> None:
    coco.write_text(coco.read_text().replace("30]]", "48]]").replace(", 30, ", ", 48, "))
    command = ["evaluate", "rating", "sheet", coco, "--images", tmp_path / "pictures", "-o", tmp_path / "study"]
    names, ratings = [], tmp_path / "ratings.json"
    for seed in (0, 1):
        assert anymask(*command, "--seed", seed).status == 0
        names.append(json.loads((tmp_path / "study" / "key.json").read_text())["sheet"])
        assert f'data-sheet="{names[-1]}"' in (tmp_path / "study" / "sheet.html").read_text()
    assert names[0] != names[1] and all(name.startswith("study-") for name in names)
    summary = ["evaluate", "rating", "summary", tmp_path / "study" / "key.json", ratings]
    ratings.write_text(json.dumps({"sheet": names[1], "ratings": {"1": 7}}))
    assert json.loads(anymask(*summary, "--json").out)[0]["mean"] == 7
    ratings.write_text(json.dumps({"sheet": names[0], "ratings": {"1": 7}}))
    assert f"ratings of the sheet {names[0]}, the key is that of {names[1]}" in refused(*summary)
    assert "is no key of a sheet" in refused(*summary[:3], coco, ratings)


def test_similar_things_are_written_with_an_overlay(anymask: Run, refused: Run, coco: Path, tmp_path: Path) -> None:
    pictures, output = tmp_path / "pictures", tmp_path / "similar"
    (pictures / "broken.jpg").write_bytes(b"no image")
    command = ["similar", pictures / "001.png", pictures, "--box", "4,8,28,30", "-o", output, "--min-similarity", -1]
    ran = anymask(*command, "--json")
    assert ran.status == 0
    record = json.loads(ran.out)
    assert record["skipped"] == 1 and len(record["images"]) == 4 and "broken.jpg" in ran.err
    assert json.loads((output / "similar.json").read_text()) == record
    for entry in record["images"]:
        assert bool(entry["annotations"]) == (entry["overlay"] is not None)
    assert "give one thing" in refused(*command, "--box", "1,1,5,5")
    mask = np.zeros((48, 64), np.uint8)
    mask[8:30, 4:28] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    ran = anymask("similar", pictures / "001.png", pictures / "002.png", "--mask", tmp_path / "mask.png", "-o", output)
    assert ran.status == 0, ran.err
    assert "there is no image" in refused(
        "similar", pictures / "001.png", tmp_path / "no", "--point", "9,9", "-o", output
    )
