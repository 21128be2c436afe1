from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anymask.data.listing import list_images
from anymask.engine import quality
from anymask.engine.store import MEANINGS, EngineSettings, open_project
from anymask.geometry import rle
from data_kinds import KINDS
from data_kinds import masks as known_masks

Call = Callable[..., Any]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures of a bright square, and its mask beside each."""
    folder = tmp_path / "pictures"
    (folder / "masks").mkdir(parents=True)
    for number in range(4):
        image = np.full((48, 64, 3), 30, np.uint8)
        mask = np.zeros((48, 64), np.uint8)
        image[10:30, 20 + number : 44] = 220
        mask[10:30, 20 + number : 44] = 1
        cv2.imwrite(str(folder / f"p{number}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"p{number}.png"), mask)
    return folder


@pytest.fixture
def project(anymask: Call, tmp_path: Path) -> Path:
    made = tmp_path / "project"
    ran = anymask("engine", "init", made, "--set", "held_out=0", "--set", "prefill_score=0")
    assert ran.status == 0, ran.err
    return made


def test_a_project_goes_through_its_verbs(anymask: Call, project: Path, pictures: Path, tmp_path: Path) -> None:
    def run(verb: str, *more: object) -> Any:
        ran = anymask("engine", verb, project, *more, "--json")
        assert ran.status == 0, ran.err
        return json.loads(ran.out.splitlines()[-1])

    found = run("import", "masks", pictures, "--images-only")
    assert found == {"images": 4, "masks": 0, "known_images": 0, "known_masks": 0}
    assert run("import", "masks", pictures, "--images-only")["known_images"] == 4
    found = run("assist", "--simulate", pictures, "--limit", 3)
    assert (found["queued"], found["images"], found["masks"]) == (4, 3, 3)
    found = run("prefill", "--simulate", pictures, "--workers", 0, "--steps", 3)
    assert found["prefilled_images"] == 1
    found = run("auto", "--workers", 0, "--points-per-side", 2, "--crop-n-layers", 0)
    assert (found["images"], found["quarantined"]) == (4, 0)
    found = run("check", "--sample", 2, "--simulate", pictures)
    assert found["queued"] == 2 and found["pairs"] + found["rejected"] >= 1
    found = run("review", "--limit", 3)
    assert found["queued"] == found["open"] == 3 and found["accepted"] == found["rejected"] == 0
    assert run("review")["open"] == 4
    found = run("release", "-o", tmp_path / "release", "--format", "coco", "--blur", "none")
    assert found["images"] == 4 and (tmp_path / "release" / "SHA256SUMS").exists()
    assert run("retrain", "--if-due")["verdict"] == "not due"
    found = run("status")
    assert found["images"] == 4 and found["stages"]["assisted"]["images"] == 3
    said = anymask("engine", "status", project)
    assert "assisted" in said.out and "model 1*" in said.out


def test_what_cannot_be_is_refused_on_one_line(
    refused: Call, anymask: Call, project: Path, pictures: Path, tmp_path: Path
) -> None:
    assert "a project already" in refused("engine", "init", project)
    assert "no setting 'colour'" in refused("engine", "init", tmp_path / "new", "--set", "colour=red")
    assert "NAME=VALUE" in refused("engine", "init", tmp_path / "new", "--set", "colour")
    assert "no such file" in refused("engine", "init", tmp_path / "new", "--model", "none/of.safetensors")
    assert "sqlite or postgresql" in refused("engine", "init", tmp_path / "new", "--database", "mysql://h/n")
    assert not (tmp_path / "new").exists()
    assert "holds no project" in refused("engine", "status", tmp_path / "nowhere")
    assert "there is no folder" in refused("engine", "import", project, "images", tmp_path / "nowhere")
    assert "no image has a mask" in refused("engine", "release", project, "-o", tmp_path / "r")
    assert "no earlier model" in refused("engine", "retrain", project, "--roll-back")
    assert "no preset 'none'" in refused("engine", "auto", project, "--preset", "none")
    broken = tmp_path / "broken.json"
    broken.write_text('{"images": [],\n"annotations": [}')
    assert "line 2" in refused("engine", "import", project, "coco", broken)


def test_settings_are_shown_and_changed(anymask: Call, refused: Call, project: Path) -> None:
    said = anymask("engine", "settings", project)
    assert "mask_seconds       30.0   An annotator is asked to move on once per mask takes longer.\n" in said.out
    changed = anymask("engine", "settings", project, "--set", "mask_seconds=45", "--set", "asks_classes=yes", "--json")
    assert json.loads(changed.out) | {"mask_seconds": 45, "asks_classes": True} == json.loads(changed.out)
    assert "held_out is 2" in refused("engine", "settings", project, "--set", "mask_seconds=9", "--set", "held_out=2")
    assert "a number of 0 or more" in refused("engine", "settings", project, "--set", "mask_seconds=inf")
    again = json.loads(anymask("engine", "settings", project, "--json").out)
    assert again == dataclasses.asdict(EngineSettings(mask_seconds=45, asks_classes=True, held_out=0, prefill_score=0))


def test_the_docs_list_every_setting() -> None:
    text = (Path(__file__).parents[2] / "docs" / "guides" / "data-engine.md").read_text()
    for name, default in dataclasses.asdict(EngineSettings()).items():
        value = str(default).lower() if isinstance(default, bool) else f"{default:g}"
        assert f"| `{name}` | {value} | {MEANINGS[name]} |" in text


def test_what_was_set_aside_comes_back_by_retry(anymask: Call, project: Path, pictures: Path) -> None:
    def run(verb: str, *more: object) -> tuple[int, Any]:
        ran = anymask("engine", verb, project, *more, "--json")
        return ran.status, json.loads(ran.out)

    prefill = ("prefill", "--workers", 0, "--steps", 1)
    run("import", "masks", pictures, "--images-only")
    run("assist", "--simulate", pictures, "--limit", 3)
    whole = (pictures / "p3.png").read_bytes()
    (pictures / "p3.png").write_bytes(b"no image any more")
    status, found = run(*prefill)
    assert (status, found["quarantined"], found["prefilled_images"]) == (1, 1, 0)
    assert "1 in quarantine" in anymask("engine", *prefill[:1], project, *prefill[1:]).out
    (pictures / "p3.png").write_bytes(whole)
    assert run(*prefill)[0] == 1
    status, found = run(*prefill, "--retry")
    assert (status, found["quarantined"], found["prefilled_images"]) == (0, 0, 1)
    run("check")
    run("review")
    with open_project(project, exclusive=False) as opened:
        for kind in ("assisted", "check", "review", "semi-automatic"):
            lease = opened.jobs.lease(kind, "ann", seconds=60)
            assert lease is not None
            opened.jobs.skip(lease, "blurred")
    assert run("assist")[1]["reopened"] == run("check")[1]["reopened"] == run("review")[1]["reopened"] == 0
    assert [run(verb, "--retry")[1]["reopened"] for verb in ("assist", "check", "review")] == [1, 1, 1]
    run(*prefill, "--retry")
    with open_project(project, exclusive=False) as opened:
        assert opened.jobs.in_state("skipped") == []


def test_status_names_reviewers(anymask: Call, project: Path, pictures: Path) -> None:
    anymask("engine", "import", project, "masks", pictures)
    anymask("engine", "check", project, "--sample", 1, "--simulate", pictures)
    anymask("engine", "review", project)
    with open_project(project, exclusive=False) as opened:
        lease = opened.jobs.lease(quality.REVIEW, "eve", seconds=60)
        assert lease is not None
        quality.judge(opened, lease, [quality.Judgement(key="mask-0", verdict="accept")])
    people = json.loads(anymask("engine", "status", project, "--json").out)["people"]
    assert people["review"]["eve"]["confirmed"] == people["check"]["professional"]["images"] == 1
    said = anymask("engine", "status", project).out
    assert "eve (review): 1 images, 1 confirmed\n" in said and "professional (check): 1 images" in said


def test_an_image_that_cannot_be_read_is_named(anymask: Call, project: Path, pictures: Path) -> None:
    assert anymask("engine", "import", project, "images", pictures).status == 0
    (pictures / "p2.png").write_bytes(b"no image any more")
    ran = anymask("engine", "auto", project, "--workers", 0, "--points-per-side", 1, "--crop-n-layers", 0, "--json")
    assert ran.status == 1 and json.loads(ran.out)["quarantined"] == 1
    assert "quarantined  p2.png (automatic, 3 tries)" in anymask("engine", "status", project).out


@pytest.mark.parametrize("kind", KINDS)
def test_a_honeypot_is_made_of_any_data(anymask: Call, project: Path, tmp_path: Path, kind: str) -> None:
    """New images come to the project, their masks where no annotator sees them; a second time changes nothing."""
    place = KINDS[kind](tmp_path / "known")
    first = json.loads(anymask("engine", "honeypot", project, place, "--json").out)
    assert first == {"images": 3, "masks": 6, "known": 0, "shown": 0}
    again = json.loads(anymask("engine", "honeypot", project, place, "--json").out)
    assert again == {"images": 0, "masks": 0, "known": 3, "shown": 0}
    with open_project(project, exclusive=False) as opened:
        assert [image.num_annotations for image in opened.images.all()] == [0, 0, 0]
        hidden = opened.reviews.hidden(quality.HONEYPOT)
        assert sorted(len(masks) for masks in hidden.values()) == [2, 2, 2]
        counts = sorted(mask["counts"] for mask in rle.encode_many(known_masks()))
        assert all(sorted(mask["counts"] for mask in masks) == counts for masks in hidden.values())
        assert opened.jobs.counts()["assisted"] == {"open": 3}


def test_honeypots_lie_among_the_images_of_their_stage(anymask: Call, project: Path, pictures: Path) -> None:
    for number in range(4, 12):
        for folder in (pictures, pictures / "masks"):
            (folder / f"p{number}.png").write_bytes((folder / "p0.png").read_bytes())
    others = pictures.with_name("others")
    others.mkdir()
    for number in range(12):
        (others / f"q{number}.png").write_bytes((pictures / f"p{number}.png").read_bytes())
    anymask("engine", "import", project, "images", others)
    anymask("engine", "assist", project)
    anymask("engine", "honeypot", project, pictures)
    with open_project(project, exclusive=False) as opened:
        names = {image.id: image.name for image in opened.images.all()}
        order = []
        while lease := opened.jobs.lease("assisted", "ann", seconds=60):
            order.append(names[lease.image_id])
    assert len(order) == 24 and order[-1] == "q9.png"  # the last of those that were there before
    assert [name for name in order if name.startswith("q")] == [each.name for each in list_images(others)]


def test_an_image_whose_masks_people_see_is_no_honeypot(
    anymask: Call, refused: Call, project: Path, pictures: Path, tmp_path: Path
) -> None:
    assert anymask("engine", "import", project, "masks", pictures).status == 0
    said = anymask("engine", "honeypot", project, pictures)
    assert "new      0 images" in said.out and "left out 4 images" in said.out
    said = json.loads(anymask("engine", "honeypot", project, pictures, "--stage", "semi-automatic", "--json").out)
    assert said["shown"] == 4
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "p.png").write_bytes((pictures / "p0.png").read_bytes())
    assert "has masks: x.jpg needs" in refused("engine", "honeypot", project, tmp_path / "plain")
    assert "no file or folder" in refused("engine", "honeypot", project, tmp_path / "nowhere")
