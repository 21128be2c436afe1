"""An application over a small model with random weights, called in this process or served on a socket."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from anymask.engine.store import Project, open_project
from anymask.geometry import rle
from anymask.model import SIZES, Sam, build_sam
from anymask.server.app import create_app
from anymask.server.run import Server
from anymask.server.settings import Settings

BASE = "http://127.0.0.1:8017"


@pytest.fixture(scope="session")
def smoke_sam() -> Sam:
    torch.manual_seed(0)
    return build_sam(SIZES["smoke"]).eval()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with open_project(tmp_path / "project") as opened:
        yield opened


@pytest.fixture
def make_client(project: Project, smoke_sam: Sam) -> Iterator[Callable[..., TestClient]]:
    """A client of the application, called without a socket: make_client(max_pixels=…), settings by their names."""
    entered: list[TestClient] = []

    def make(
        *, model: Sam | None = None, folders: tuple[Path, ...] = (), text: Any = None, **settings: Any
    ) -> TestClient:
        chosen = Settings(page=project.folder / "no-page", **settings)
        served = model or smoke_sam
        app = create_app(project, served, model_name="smoke", settings=chosen, folders=folders, text=text)
        client = TestClient(app, base_url=BASE, raise_server_exceptions=False, follow_redirects=False)
        entered.append(client.__enter__())
        return client

    yield make
    for client in entered:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client()


@contextmanager
def served(app: FastAPI, *, behind_proxy: bool = False) -> Iterator[str]:
    """Serve on a free port in a thread; gives the address."""
    ready = threading.Event()
    server = Server(app, ready.set, behind_proxy=behind_proxy)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        assert ready.wait(60)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.stop()
            thread.join(60)


@pytest.fixture
def serve_app() -> Callable[..., AbstractContextManager[str]]:
    """Serve an application on a socket: with serve_app(app) as its address."""
    return served


@pytest.fixture
def live(project: Project, smoke_sam: Sam) -> Iterator[httpx.Client]:
    """A client of the application on a real socket."""
    app = create_app(project, smoke_sam, model_name="smoke", settings=Settings(page=project.folder / "no-page"))
    with served(app) as address, httpx.Client(base_url=address, timeout=60) as connected:
        yield connected


def picture(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(3, 12, (3, 3))]
    return np.stack([127 + 120 * wave for wave in waves], -1).astype(np.uint8)


def encoded(pixels: np.ndarray | None = None, format: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture() if pixels is None else pixels).save(file, format, **more)
    return file.getvalue()


@pytest.fixture
def image_file() -> Callable[..., bytes]:
    """The bytes of an image file: image_file(pixels, "JPEG")."""
    return encoded


@pytest.fixture
def upload() -> Callable[..., dict[str, Any]]:
    """Upload an image with a client, and return what the server says of it."""

    def send(client: httpx.Client, data: bytes | None = None, name: str = "waves.png") -> dict[str, Any]:
        answer = client.post("/api/images", files={"file": (name, encoded() if data is None else data)})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    return send


@pytest.fixture
def until() -> Callable[..., dict[str, Any]]:
    """Wait until an image is in one of the given states."""

    def wait(client: httpx.Client, id: str, *states: str) -> dict[str, Any]:
        for _ in range(600):
            images = {image["id"]: image for image in client.get("/api/images").json()["images"]}
            if images[id]["state"] in states:
                return dict(images[id])
            time.sleep(0.05)
        raise AssertionError(f"image {id} is {images[id]}")

    return wait


@pytest.fixture
def annotation() -> Callable[..., dict[str, Any]]:
    """An annotation as it goes over the wire: a rectangle on the 60 × 80 picture, or another mask."""

    def make(id: str = "a", mask: np.ndarray | None = None, **more: Any) -> dict[str, Any]:
        if mask is None:
            mask = np.zeros((60, 80), bool)
            mask[10:30, 20:50] = True
        return {"id": id, "rle": rle.encode(mask), **more}

    return make


@pytest.fixture
def change() -> Callable[..., httpx.Response]:
    """Send changes: change(client, "1", 0, put=[…], delete=[…])."""

    def send(
        client: httpx.Client, id: str, base: int, *, put: Any = (), delete: Any = (), by: str = "tab-1"
    ) -> httpx.Response:
        changes = [{"op": "put", "annotation": each} for each in put] + [
            {"op": "delete", "id": each} for each in delete
        ]
        return client.post(f"/api/images/{id}/changes", json={"base_revision": base, "client": by, "changes": changes})

    return send
