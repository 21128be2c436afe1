from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from anymask.engine.store import Project
from anymask.model import Sam
from anymask.server.app import create_app
from anymask.server.settings import Settings


@pytest.fixture
def page(project: Project, smoke_sam: Sam, tmp_path: Path) -> Iterator[TestClient]:
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>the page")
    (folder / "assets" / "index-1a2b3c.js").write_text("start()")
    (folder / "worker.wasm").write_bytes(b"\0asm")
    app = create_app(project, smoke_sam, model_name="smoke", settings=Settings(page=folder))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def test_the_built_page_is_served(page: TestClient) -> None:
    index, script = page.get("/"), page.get("/assets/index-1a2b3c.js")
    assert index.text == "<!doctype html>the page" and index.headers["cache-control"] == "no-cache"
    assert "javascript" in script.headers["content-type"] and "immutable" in script.headers["cache-control"]
    assert page.get("/worker.wasm").headers["content-type"] == "application/wasm"
    missing = page.get("/assets/gone.js")
    assert missing.status_code == 404 and set(missing.json()) == {"error"}
    assert page.post("/").status_code == 405
    assert page.get("/api/info").status_code == 200
    assert page.get("/config.json").json() == {"backend": "server"}


def test_without_a_page_it_says_how_to_build_one(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200 and "make web" in answer.text
