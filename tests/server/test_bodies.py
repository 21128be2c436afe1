"""JSON bodies that cost more than they are long, and those that cost what they may."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.exceptions import RequestValidationError
from starlette.testclient import TestClient

from anymask.engine.store import Project
from anymask.geometry import rle
from anymask.server import bodies, schemas
from anymask.server.bodies import MAX_CONTAINERS, MAX_STRINGS, MAX_STRUCTURE, parse
from anymask.server.errors import ApiError

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"[" + b"[]," * MAX_CONTAINERS + b"0]", "lists and objects"),
        (b"[" * (MAX_CONTAINERS + 1), "lists and objects"),
        (b'{"a":' * (MAX_CONTAINERS + 1), "strings"),
        (b"[" + b'"",' * (MAX_STRINGS + 1) + b"0]", "strings"),
        (b"[" + b"0," * (MAX_STRUCTURE // 2) + b"0]", "bytes outside of strings"),
        (b" " * (MAX_STRUCTURE + 1), "bytes outside of strings"),
    ],
    ids=["lists", "nested", "objects", "strings", "numbers", "spaces"],
)
def test_many_values_are_refused_unparsed(monkeypatch: pytest.MonkeyPatch, body: bytes, what: str) -> None:
    monkeypatch.setattr(bodies.pydantic_core, "from_json", lambda *_, **__: pytest.fail("was parsed"))
    with pytest.raises(ApiError, match=f"holds [0-9,]+ {what}; at most") as refused:
        parse(body, schemas.ChangeSet)
    assert refused.value.status == 413


def test_brackets_within_strings_are_no_lists(annotation: Callable[..., Any]) -> None:
    """Run lengths hold brackets, backslashes and, escaped, quotes that end nothing."""
    counts = "[\\" * (MAX_CONTAINERS + 10)
    change = {"op": "put", "annotation": annotation() | {"rle": {"size": [60, 80], "counts": counts}, "name": '"[" \\'}}
    body = json.dumps({"base_revision": 0, "client": "tab", "changes": [change]}).encode()
    (parsed,) = parse(body, schemas.ChangeSet).changes  # type: ignore[attr-defined]
    assert parsed.annotation.rle.counts == counts and parsed.annotation.name == '"[" \\'


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"base_revision": NaN, "client": "tab", "changes": [{"op": "delete", "id": "a"}]}', "valid integer"),
        (b'{"client": "\\ud800"}', "is no JSON"),
        (b"[]", "valid dictionary"),
        (json.dumps({f"k{n}": 0 for n in range(100_000)}).encode(), "has 100,000 fields"),
    ],
    ids=["cut", "no text", "nested", "NaN", "half a letter", "list", "fields"],
)
def test_what_is_no_change_set_is_told_in_one_error(client: TestClient, body: bytes, words: str) -> None:
    with pytest.raises(RequestValidationError) as raised:
        parse(body, schemas.ChangeSet)
    assert len(raised.value.errors()) == 1 and words in raised.value.errors()[0]["msg"]
    answer = client.post("/api/images/1/changes", content=body, headers=JSON)
    assert answer.status_code in (404, 422)


def test_a_large_body_is_parsed_apart_and_kept_whole(
    client: TestClient, upload: Callable[..., Any], annotation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = upload(client)["id"]
    threads = []
    plainly = bodies.parse

    def parse_and_note(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return plainly(*arguments)

    monkeypatch.setattr(bodies, "parse", parse_and_note)
    rng = np.random.default_rng(0)
    masks = rng.random((1000, 60, 80)) < 0.5
    changes = [{"op": "put", "annotation": annotation(f"a{n}", mask)} for n, mask in enumerate(masks)]
    answer = client.post(f"/api/images/{image}/changes", json={"base_revision": 0, "client": "tab", "changes": changes})
    assert answer.json() == {"revision": 1} and threads[0].startswith("parser")
    kept = client.get(f"/api/images/{image}/annotations").json()["annotations"]
    assert [each["rle"] for each in kept] == [rle.encode(mask) for mask in masks]


def test_bodies_that_are_held_at_once_are_limited_together(
    make_client: Callable[..., TestClient], image_file: Callable[..., bytes], project: Project
) -> None:
    client = make_client(max_body_total_bytes=1000)
    answer = client.post("/api/images", files={"file": ("a.png", image_file())})
    assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
    assert client.put("/api/classes", json={"base_revision": 0, "client": "t", "classes": []}).status_code == 200
    assert list((project.folder / "images").iterdir()) == []
