from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

import word_models
from anymask.data.images import read_image
from anymask.engine.project_model import embedding_cache
from anymask.engine.store import Project
from anymask.geometry import rle
from anymask.geometry.masks import pair_iou
from anymask.inference import AutomaticMasks, Predictor, Prompt
from anymask.inference.similar import SimilarOptions
from anymask.model import SIZES, Sam, build_sam
from anymask.server.context import DetectorWords

ALL = {"preset": "fast", "points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


def test_everything_is_what_automatic_masks_find(
    client: TestClient, smoke_sam: Sam, upload: Callable[..., Any], image_file: Callable[..., bytes]
) -> None:
    upload(client)
    records = client.post("/api/images/1/everything", json=ALL).json()["records"]
    options = {name: value for name, value in ALL.items() if name != "preset"}
    expected = AutomaticMasks(smoke_sam, adaptive=True, **options).generate(read_image(image_file()))
    assert [record["rle"] for record in records] == [record.rle for record in expected] and records
    for index, record in enumerate(records):
        assert record["area"] == rle.area(record["rle"]) and record["bbox"] == list(rle.bbox(record["rle"]))
        assert record["parent"] is None or (0 <= record["parent"] < len(records) and record["parent"] != index)


@pytest.mark.parametrize(
    ("bad", "words"),
    [({"preset": "fastest"}, "fast, balanced, paper"), ({"points_per_side": 1000}, "points_per_side"), ({"x": 1}, "x")],
)
def test_unknown_options_are_refused(
    client: TestClient, upload: Callable[..., Any], bad: dict[str, Any], words: str
) -> None:
    upload(client)
    answer = client.post("/api/images/1/everything", json=bad)
    assert answer.status_code == 422 and words in answer.json()["error"]


def test_searches_are_bounded(make_client: Callable[..., TestClient], upload: Callable[..., Any]) -> None:
    client = make_client(max_searches=1)
    upload(client)
    upload(client)
    worker = client.app.state.context.worker  # type: ignore[attr-defined]
    hold, held = threading.Event(), threading.Event()
    worker.submit("hold", "hold", lambda: (held.set(), hold.wait(60)))
    assert held.wait(60)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/api/images/1/everything", json=ALL)
        while not worker.num_waiting:
            pass
        refused = client.post("/api/images/2/everything", json=ALL)
        hold.set()
        assert first.result().status_code == 200
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1


def test_without_a_text_model_the_answer_is_501(client: TestClient, upload: Callable[..., Any]) -> None:
    upload(client)
    answer = client.post("/api/images/1/text", json={"phrases": ["a cup"]})
    assert answer.status_code == 501 and "anymask[text]" in answer.json()["error"]


class Quarter:
    """Finds the top left quarter of any image for any word."""

    def find(self, image: np.ndarray, phrases: list[str], box_threshold: float) -> list[tuple[np.ndarray, float, str]]:
        mask = np.zeros(image.shape[:2], bool)
        mask[: mask.shape[0] // 2, : mask.shape[1] // 2] = True
        return [(mask, box_threshold, phrase) for phrase in phrases]


def test_a_text_model_is_asked(make_client: Callable[..., TestClient], upload: Callable[..., Any]) -> None:
    client = make_client(text=Quarter())
    upload(client)
    assert client.get("/api/info").json()["text"] is True
    answer = client.post("/api/images/1/text", json={"phrases": ["cup", "spoon"], "box_threshold": 0.5})
    first, second = answer.json()["records"]
    assert (first["phrase"], second["phrase"], first["score"]) == ("cup", "spoon", 0.5)
    assert first["bbox"] == [0, 0, 40, 30] and rle.area(first["rle"]) == 1200
    assert client.post("/api/images/1/text", json={"phrases": []}).status_code == 422


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("owl")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        word_models.owl(folder)
    return str(folder)


def test_words_are_found_by_a_detector(
    make_client: Callable[..., TestClient], upload: Callable[..., Any], smoke_sam: Sam, owl: str
) -> None:
    client = make_client(text=DetectorWords(smoke_sam, owl))
    upload(client)
    answer = client.post("/api/images/1/text", json={"phrases": ["red disc", "blue disc"], "box_threshold": 0.0})
    records = answer.json()["records"]
    assert records and {record["phrase"] for record in records} <= {"red disc", "blue disc"}
    assert [record["score"] for record in records] == sorted((record["score"] for record in records), reverse=True)
    long = client.post("/api/images/1/text", json={"phrases": ["a very long phrase indeed, too long"]})
    assert long.status_code == 422 and "tokens long" in long.json()["error"]


def test_words_take_the_embedding_that_the_page_has_and_leave_theirs(
    make_client: Callable[..., TestClient],
    upload: Callable[..., Any],
    until: Callable[..., Any],
    project: Project,
    smoke_sam: Sam,
    owl: str,
    image_file: Callable[..., bytes],
) -> None:
    asked, calls = {"phrases": ["red disc"], "box_threshold": 0.0}, []
    handle = smoke_sam.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        client = make_client(text=DetectorWords(smoke_sam, owl, embedding_cache(project)))
        first = upload(client)["id"]
        client.post(f"/api/images/{first}/encode")
        until(client, first, "ready")
        assert len(calls) == 1
        kept = client.post(f"/api/images/{first}/text", json=asked).json()["records"]
        assert kept and len(calls) == 1
        second = upload(client, image_file(read_image(image_file())[::-1]))["id"]
        client.post(f"/api/images/{second}/text", json=asked)
        assert len(calls) == 2
        client.post(f"/api/images/{second}/encode")
        until(client, second, "ready")
        assert len(calls) == 2
    finally:
        handle.remove()
    anew = DetectorWords(smoke_sam, owl).find(read_image(image_file()), ["red disc"], 0.0)
    assert [record["score"] for record in kept] == [score for _, score, _ in anew]
    pairs = list(zip(kept, anew, strict=True))
    assert min(pair_iou(rle.decode(record["rle"]), mask) for record, (mask, _, _) in pairs) > 0.98


def test_what_is_like_examples_is_what_the_predictor_finds(
    make_client: Callable[..., TestClient], upload: Callable[..., Any], image_file: Callable[..., bytes]
) -> None:
    torch.manual_seed(0)
    keeping = build_sam(replace(SIZES["smoke"], pred_iou_thresh=0, stability_score_thresh=0)).eval()
    client = make_client(model=keeping)
    upload(client)
    upload(client)
    predictor = Predictor(keeping)
    predictor.set_image(read_image(image_file()))
    mask = np.zeros(predictor.image.frame.original, bool)
    mask[4:20, 4:20] = True
    options = SimilarOptions(min_similarity=-1)
    expected = predictor.similar(predictor.example(Prompt(mask=mask)), options=options)
    asked = {"examples": [{"image": "1", "rle": rle.encode(mask)}], "min_similarity": -1}
    for id in (1, 2):  # the same picture
        records = client.post(f"/api/images/{id}/similar", json=asked).json()["records"]
        assert [record["rle"] for record in records] == [region.rle for region in expected]
        assert [record["similarity"] for record in records] == pytest.approx([r.similarity for r in expected], abs=0.02)
        assert records


@pytest.mark.parametrize(
    ("examples", "status", "words"),
    [
        ([], 422, "examples"),
        ([{"image": "1", "rle": {"size": [3, 3], "counts": "9"}}], 422, "3 x 3"),
        ([{"image": "9", "rle": {"size": [3, 3], "counts": "9"}}], 404, "no image 9"),
    ],
)
def test_examples_that_are_none_are_refused(
    client: TestClient, upload: Callable[..., Any], examples: list[Any], status: int, words: str
) -> None:
    upload(client)
    answer = client.post("/api/images/1/similar", json={"examples": examples})
    assert answer.status_code == status and words in answer.json()["error"]
