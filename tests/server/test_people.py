"""People with tokens of their own: known by name, and no one else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from anymask.engine.project_model import set_project_model
from anymask.engine.stages import assisted
from anymask.engine.store import Project
from anymask.errors import InputError
from anymask.model import Sam
from anymask.server.errors import ApiError
from anymask.server.people import People, add_person, list_people, remove_person
from anymask.server.tokens import Tokens

Make = Callable[..., TestClient]


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return tmp_path / "people.json"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_the_file_holds_no_token_and_only_its_owner_reads_it(people: Path) -> None:
    ann, bob = add_person(people, "Ann"), add_person(people, "Bøb")
    text = people.read_text(encoding="utf-8")
    assert ann not in text and bob not in text and hashlib.sha256(ann.encode()).hexdigest() in text
    assert people.stat().st_mode & 0o777 == 0o600
    known = People(people)
    assert (known.name_of(ann), known.name_of(bob), known.name_of("wrong")) == ("Ann", "Bøb", None)
    remove_person(people, "Ann")
    assert list_people(people) == ["Bøb"] and known.name_of(ann) is None  # read anew


@pytest.mark.parametrize("name", ["", "model", " Ann", "A\nnn", "x" * 1000])
def test_names_that_cannot_be(people: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be a person's name"):
        add_person(people, name)
    assert not people.exists()


def test_a_name_is_given_once_and_another_file_is_left_as_it_is(people: Path) -> None:
    add_person(people, "Ann")
    with pytest.raises(InputError, match=r"is in .* already"):
        add_person(people, "Ann")
    with pytest.raises(InputError, match=r"Bob is not in .*; there are Ann"):
        remove_person(people, "Bob")
    people.write_text("[]")
    with pytest.raises(InputError, match="is no file of people"):
        add_person(people, "Ann")
    assert people.read_text() == "[]"


def test_what_a_person_makes_is_theirs_whatever_it_says(
    make_client: Make,
    project: Project,
    people: Path,
    upload: Callable[..., Any],
    annotation: Callable[..., Any],
    change: Callable[..., Any],
) -> None:
    tokens = {name: add_person(people, name) for name in ("Ann", "Bob")}
    client = make_client(people=people)
    assert client.get("/api/info").status_code == 401
    client.headers.update(bearer(tokens["Ann"]))
    assert client.get("/api/info").json()["person"] == "Ann"
    image = upload(client)["id"]
    claimed = {"stage": "assisted", "author": "Bob"}
    assert change(client, image, 0, put=[annotation("a"), annotation("b", provenance=claimed)]).status_code == 200

    def authors() -> dict[str, str]:
        state = project.annotations.state(int(image)).annotations
        return {each.id: each.provenance.author for each in state if each.provenance is not None}

    assert authors() == {"a": "Ann", "b": "Ann"}
    client.headers.update(bearer(tokens["Bob"]))
    state = client.get(f"/api/images/{image}/annotations").json()["annotations"]
    assert change(client, image, 1, put=[state[0] | {"visible": False}, annotation("b")]).status_code == 200
    assert authors() == {"a": "Ann", "b": "Ann"}  # neither was drawn anew
    whole = annotation("b")["rle"] | {"counts": "0P2"}
    assert change(client, image, 2, put=[state[1] | {"rle": whole}]).status_code in (200, 422)


def test_an_image_of_the_queue_is_the_persons(
    make_client: Make, project: Project, smoke_sam: Sam, people: Path, upload: Callable[..., Any]
) -> None:
    set_project_model(project, smoke_sam)
    tokens = {name: add_person(people, name) for name in ("Ann", "Bob")}
    client = make_client(people=people)
    client.headers.update(bearer(tokens["Ann"]))
    upload(client)
    assisted.open_queue(project)
    task = client.post("/api/engine/next", json={"worker": "Bob", "stage": None}).json()["task"]
    assert task["lease"]["worker"] == "Ann"
    done = {"lease": task["lease"], "seconds": 1, "clicks": 1, "strokes": 0}
    client.headers.update(bearer(tokens["Bob"]))
    refused = client.post("/api/engine/finish", json=done)
    assert refused.status_code == 403 and "given to Ann, and you are Bob" in refused.json()["error"]
    client.headers.update(bearer(tokens["Ann"]))
    assert client.post("/api/engine/finish", json=done).json()["counted"]


def test_guessing_ends_and_begins_again_after_a_while(make_client: Make) -> None:
    client = make_client(token="correct-horse-battery", host="0.0.0.0", max_wrong_tokens=3)
    for _ in range(20):  # a page that goes on asking with a token of yesterday
        assert client.get("/api/info", headers=bearer("yesterday")).status_code == 401
    assert client.get("/api/info", headers=bearer("correct-horse-battery")).status_code == 200
    assert client.get("/", params={"token": "guess-1"}).status_code == 401
    assert client.get("/api/info", headers=bearer("guess-2")).status_code == 401
    for token in ("guess-3", "correct-horse-battery"):
        answer = client.get("/api/info", headers=bearer(token))
        assert answer.status_code == 429 and 500 < int(answer.headers["retry-after"]) <= 600
    assert client.get("/api/info").status_code == 401  # who shows none guesses nothing


def test_addresses_are_counted_apart_but_those_of_one_network_together() -> None:
    now = 0.0
    tokens = Tokens("right-token", None, max_wrong=2, clock=lambda: now)
    for number in range(2):
        assert tokens.check(f"wrong-{number}", f"2001:db8::{number}") == (False, None)
    with pytest.raises(ApiError, match="too many wrong tokens"):
        tokens.check("right-token", "2001:db8::77")
    assert tokens.check("right-token", "2001:db8:1::1") == (True, None)
    assert tokens.check("right-token", "192.0.2.1") == (True, None)
    now = 601.0
    assert tokens.check("right-token", "2001:db8::77") == (True, None)
