from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from anymask.engine import quality
from anymask.engine.store import Annotation, Class, Project, Provenance
from anymask.engine.store.classes import ensure_classes
from anymask.geometry import rle
from anymask.server import schemas
from anymask.server.schemas.engine import Judgement
from anymask.server.schemas.wire import ApiModel


@pytest.fixture
def ready(client: TestClient, upload: Callable[..., Any]) -> TestClient:
    upload(client)
    return client


def test_changes_are_kept_by_revision(ready: TestClient, annotation: Any, change: Any) -> None:
    full = annotation(
        "b", class_id=3, name="left cup", visible=False, score=0.5, source="brush", prompts={"p": [1, None]}, parent="a"
    )
    full["provenance"] = None
    empty = {"class_id": None, "name": None, "visible": True, "score": None, "source": "click"}
    bare = annotation("a") | empty | {"prompts": None, "parent": None, "provenance": None}
    assert change(ready, "1", 0, put=[annotation("a"), full]).json() == {"revision": 1}
    assert ready.get("/api/images/1/annotations").json() == {"revision": 1, "annotations": [bare, full]}
    assert change(ready, "1", 1, delete=["a"]).json() == {"revision": 2}
    assert ready.get("/api/images/1/annotations").json() == {"revision": 2, "annotations": [full]}
    assert ready.get("/api/images/1/annotations?revision=1").json() == {"revision": 1, "annotations": [bare, full]}
    image = ready.get("/api/images").json()["images"][0]
    assert (image["revision"], image["num_annotations"]) == (2, 1)


def test_a_conflict_brings_the_current_state(ready: TestClient, annotation: Any, change: Any) -> None:
    change(ready, "1", 0, put=[annotation("a")])
    conflict = change(ready, "1", 0, put=[annotation("b")], by="tab-2")
    assert conflict.status_code == 409
    assert conflict.json() == ready.get("/api/images/1/annotations").json() | {"error": conflict.json()["error"]}
    assert "revision 1" in conflict.json()["error"]


def test_a_request_repeated_after_a_lost_answer_is_no_conflict(ready: TestClient, annotation: Any, change: Any) -> None:
    for _ in range(2):
        assert change(ready, "1", 0, put=[annotation("a")]).json() == {"revision": 1}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"rle": rle.encode(np.ones((80, 60), bool))}, "does not fit its image"),
        ({"rle": {"size": [60, 80], "counts": "0"}}, "counts for"),
        ({"rle": {"size": [60, 80], "counts": "~~~"}}, "counts"),
        ({"rle": {"size": [60, 80]}}, "counts: Field required"),
        ({"id": "../../etc/passwd"}, "annotation.id"),
        ({"id": ""}, "annotation.id"),
        ({"score": float("inf")}, "score"),
        ({"class_id": -1}, "class_id"),
        ({"class_id": "1"}, "class_id"),
        ({"class_id": 2**63}, "class_id"),
        ({"source": "guess"}, "source"),
        ({"name": "bell\x07"}, "name"),
        ({"name": "\ud800"}, "no JSON"),
        ({"prompts": {"x": float("nan")}}, "prompts"),
        ({"prompts": {"x": "y" * 300_000}}, "prompts"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(
    ready: TestClient, annotation: Any, bad: dict[str, Any], words: str
) -> None:
    import json

    wrong = annotation("a") | bad
    body = {"base_revision": 0, "client": "tab", "changes": [{"op": "put", "annotation": wrong}]}
    answer = ready.post("/api/images/1/changes", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert set(answer.json()) == {"error"} and words in answer.json()["error"] and "\n" not in answer.json()["error"]
    assert ready.get("/api/images/1/annotations").json() == {"revision": 0, "annotations": []}


def test_a_deep_nest_is_refused(ready: TestClient, annotation: Any) -> None:
    for depth in (500, 3_000, 100_000):
        nest = '{"a":' * depth + "1" + "}" * depth
        body = (
            '{"base_revision":0,"client":"tab","changes":[{"op":"put","annotation":'
            '{"id":"a","rle":{"size":[60,80],"counts":""},"prompts":' + nest + "}}]}"
        )
        answer = ready.post("/api/images/1/changes", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), answer.text


def test_unknown_ids_are_404(client: TestClient, annotation: Any, change: Any) -> None:
    assert client.get("/api/images/7/annotations").status_code == 404
    assert change(client, "7", 0, put=[annotation()]).status_code == 404
    for id in ("0", "-1", "x", "..%2f..", "99999999999999999999"):
        assert client.get(f"/api/images/{id}/annotations").status_code in (404, 422)


def test_classes(client: TestClient) -> None:
    assert client.get("/api/classes").json() == {"revision": 0, "classes": []}
    cat = {"id": 0, "name": "cat", "color": "#ff8800", "key": "1"}
    new = {"base_revision": 0, "client": "tab", "classes": [cat, {"id": 1, "name": "dog", "color": "#0088ff"}]}
    assert client.put("/api/classes", json=new).json() == {"revision": 1}
    conflict = client.put("/api/classes", json=new | {"client": "other"})
    assert conflict.status_code == 409 and conflict.json()["classes"][0] == cat and conflict.json()["revision"] == 1
    twice = {"base_revision": 1, "client": "tab", "classes": [cat, cat]}
    refused = client.put("/api/classes", json=twice)
    assert refused.status_code == 422 and "two classes have one id" in refused.json()["error"]
    assert client.put("/api/classes", json={"base_revision": 1, "client": "tab", "classes": []}).json() == {
        "revision": 2
    }


def test_no_id_of_a_class_is_given_twice(client: TestClient, project: Project) -> None:
    def put(base: int, *ids: int) -> None:
        classes = [{"id": id, "name": f"class {id}", "color": "#0088ff"} for id in ids]
        answer = client.put("/api/classes", json={"base_revision": base, "client": "tab", "classes": classes})
        assert answer.status_code == 200

    def fresh() -> int:
        return int(client.post("/api/classes/id").json()["id"])

    assert [fresh(), fresh()] == [1, 2]  # to two people at once
    put(0, 1, 2, 7)
    put(1, 1)
    assert [fresh(), fresh()] == [8, 9]  # masks of class 7 are still about
    put(2)
    assert fresh() == 10


def test_an_import_takes_no_id_of_a_class_that_is_gone(project: Project) -> None:
    project.classes.replace(0, "me", [Class(id=4, name="cat", color="#ff0000")])
    project.classes.replace(1, "me", [])
    with project.database.writing() as connection:
        assert ensure_classes(connection, ["dog", "cup"], client="import", at=0.0) == {"dog": 5, "cup": 6}


@pytest.mark.parametrize(
    ("wire", "stored", "own"),
    [
        (schemas.Annotation, Annotation, set()),
        (schemas.Provenance, Provenance, {"derived_from"}),  # which the store finds by itself
        (schemas.Class, Class, set()),
        (Judgement, quality.Judgement, set()),
    ],
)
def test_the_wire_has_the_stores_fields_and_defaults(wire: type[ApiModel], stored: Any, own: set[str]) -> None:
    fields = {each.name: each for each in dataclasses.fields(stored)}
    assert set(wire.model_fields) == set(fields) - own
    for name, field in wire.model_fields.items():
        without = fields[name].default is dataclasses.MISSING
        assert field.is_required() == without and (without or field.default == fields[name].default), name


def test_what_the_store_has_comes_back_from_the_wire_as_it_was() -> None:
    known = Provenance(stage="review", author="Ann", origin="prefilled", model="ab", seconds=1.5, clicks=2, strokes=1)
    mask = rle.encode(np.eye(8, 9, dtype=bool))
    prompts = {"points": [[1, 2.5]], "nested": {"a": None}}
    full = Annotation(id="a", rle=mask, class_id=3, name="x", score=0.5, prompts=prompts, parent="b", provenance=known)
    for each in (full, Annotation(id="b", rle=mask)):
        assert schemas.Annotation.model_validate(each).stored() == each
    leaf = Class(id=1, name="leaf", color="#123456", key="l")
    assert schemas.Class.model_validate(leaf).stored() == leaf


def test_the_least_sure_mask_of_each_image_is_told(
    ready: TestClient, upload: Callable[..., Any], annotation: Any, change: Any
) -> None:
    upload(ready)
    scored = [annotation(key, score=score) for key, score in (("a", 0.9), ("b", 0.4), ("c", 0.6))]
    change(ready, "1", 0, put=[*scored, annotation("d")])
    change(ready, "2", 0, put=[annotation("e")])
    assert ready.get("/api/images/least-scores").json() == {"scores": {"1": 0.4}}
    change(ready, "1", 1, put=[annotation("a", score=0.5)], delete=["b"])
    assert ready.get("/api/images/least-scores").json() == {"scores": {"1": 0.5}}
