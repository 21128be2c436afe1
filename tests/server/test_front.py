"""The page before the application, and what becomes of requests meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from anymask.errors import CheckpointError
from anymask.server.front import Front
from anymask.server.settings import Settings

BASE = "http://localhost"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "index.html").write_text("<!doctype html>the page")
    return Settings(page=tmp_path)


def _app() -> FastAPI:
    app = FastAPI()

    @app.get("/api/info")
    def info() -> dict[str, str]:
        return {"model": "smoke"}

    @app.get("/")
    def own_page() -> str:
        return "the application's"

    return app


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the application waits for before it is there; opened at the end in any case."""
    opened = threading.Event()
    yield opened
    opened.set()


def test_the_page_comes_first_and_requests_wait(settings: Settings, gate: threading.Event) -> None:
    told: list[bool] = []

    def create() -> FastAPI:
        gate.wait(60)
        return _app()

    front = Front(create, settings, created=lambda: told.append(gate.is_set()))
    with TestClient(front, base_url=BASE) as client:
        page = client.get("/")
        assert page.text == "<!doctype html>the page" and "content-security-policy" in page.headers
        assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 403
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(client.get("/api/info")))
        asking.start()
        time.sleep(0.2)
        assert not answers and not told
        gate.set()
        asking.join(60)
        assert answers[0].json() == {"model": "smoke"} and told == [True]
        assert client.get("/").json() == "the application's"


def test_what_cannot_be_made_ends_the_server(settings: Settings) -> None:
    def create() -> FastAPI:
        raise CheckpointError("weights.pth: there is no such file or folder")

    front = Front(create, settings, created=lambda: pytest.fail("it was not made"))
    ended = threading.Event()
    front.on_failure = ended.set
    with TestClient(front, base_url=BASE) as client:
        assert client.get("/api/info").status_code == 503
        assert ended.wait(60)
    assert isinstance(front.failure, CheckpointError)


def test_who_waits_is_let_go_when_the_server_ends(settings: Settings, gate: threading.Event) -> None:
    def create() -> FastAPI:
        gate.wait(60)
        return _app()

    front = Front(create, settings, created=lambda: None)
    answers: list[httpx.Response] = []
    with TestClient(front, base_url=BASE) as client:
        asking = threading.Thread(target=lambda: answers.append(client.get("/api/info")))
        asking.start()
        time.sleep(0.2)
        front.give_up()
        asking.join(60)
        gate.set()
    assert [answer.status_code for answer in answers] == [503]
