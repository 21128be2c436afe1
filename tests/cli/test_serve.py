"""`anymask serve` as a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import numpy as np
import pytest

from anymask.checkpoints import load_model
from anymask.checkpoints.load import model_hash
from anymask.export.description import FORMAT
from anymask.geometry import rle
from anymask.samples import sample_path
from anymask.server.front import Front

Started = tuple[subprocess.Popen[str], httpx.Client, dict[str, Any]]


@pytest.fixture
def serve(smoke_weights: Path, tmp_path: Path) -> Callable[..., Any]:
    """Start `anymask serve …` on a free port: with serve(PROJECT, …) as (process, client, what it printed)."""

    parts = tmp_path / "home" / "onnx" / f"{model_hash(load_model(smoke_weights))}-{FORMAT}"
    parts.mkdir(parents=True)
    for part in ("image", "prompt"):
        (parts / f"{part}.onnx").write_bytes(b"made before, as that takes a minute")

    @contextmanager
    def run(*arguments: object) -> Iterator[Started]:
        command = [sys.executable, "-m", "anymask", "serve", *map(str, arguments), "--model", str(smoke_weights)]
        environment = os.environ | {"ANYMASK_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "XDG_DATA_HOME": ""}
        process = subprocess.Popen(
            [*command, "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            assert line, process.stderr.read()
            said = json.loads(line)
            with httpx.Client(base_url=said["url"].partition("?")[0], timeout=60) as client:
                yield process, client, said
        finally:
            process.kill()
            process.communicate()

    return run


def changes(base: int, number: int) -> dict[str, Any]:
    mask = np.zeros((400, 600), bool)
    mask[number : number + 50, 100:200] = True
    annotation = {"id": f"a{number}", "rle": rle.encode(mask)}
    return {"base_revision": base, "client": "tab", "changes": [{"op": "put", "annotation": annotation}]}


def test_nothing_acknowledged_is_lost_to_kill_9(serve: Callable[..., Any], tmp_path: Path) -> None:
    """In the midst of change after change and of an encoding, the process is gone from one moment to the next."""
    import threading

    acknowledged: list[int] = []
    with serve(tmp_path / "project") as (process, client, _):
        image = client.post("/api/images", json={"sample": "coffee"}).json()
        client.post(f"/api/images/{image['id']}/encode")
        killer = threading.Timer(1.0, process.kill)
        try:
            for number in range(100_000):
                answer = client.post(f"/api/images/{image['id']}/changes", json=changes(number, number % 300))
                assert answer.status_code == 200, answer.text
                acknowledged.append(answer.json()["revision"])
                if number == 5:
                    killer.start()
        except httpx.TransportError:
            pass
        assert process.wait(30) == -signal.SIGKILL
    assert len(acknowledged) > 5
    with serve(tmp_path / "project") as (_, client, _):
        state = client.get(f"/api/images/{image['id']}/annotations").json()
        # One more may have been on the disk already when its answer was cut off.
        assert state["revision"] - acknowledged[-1] in (0, 1)
        kept = {annotation["id"] for annotation in state["annotations"]}
        assert {f"a{number % 300}" for number in range(len(acknowledged))} <= kept
        lost = changes(acknowledged[-1], len(acknowledged) % 300)
        again = client.post(f"/api/images/{image['id']}/changes", json=lost)
        assert again.json() == {"revision": acknowledged[-1] + 1}  # sent again, it is there once in either case
        assert client.get(f"/api/images/{image['id']}/file").content == sample_path("coffee").read_bytes()


def test_a_project_of_a_folders_images(serve: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "coffee.jpg").write_bytes(sample_path("coffee").read_bytes())
    with serve("--images", folder) as (process, client, said):
        assert said["url"].startswith("http://127.0.0.1:") and said["token"] is None
        project = Path(said["project"])
        assert project.is_relative_to(tmp_path) and project.parent.name == "projects"
        for _ in range(200):
            images = client.get("/api/images").json()["images"]
            if images:
                break
        assert images[0]["name"] == "coffee.jpg"
        with client.stream("GET", "/api/events") as events:  # even who listens does not keep it from ending
            assert next(events.iter_lines()).startswith("data")
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        assert process.stderr is not None and process.stderr.read() == ""


@pytest.fixture
def begun(anymask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Run `anymask serve …` in this process, where it ends as soon as it is ready."""

    def run(front: Front, listener: socket.socket, ready: Callable[[], None], **_: object) -> None:
        ready()
        front.create()
        front.created()

    monkeypatch.setattr("anymask.server.run.run", run)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return lambda *arguments: anymask("serve", *arguments, "--port", 0)


def test_the_same_images_are_the_same_project_the_next_time(begun: Callable[..., Any], tmp_path: Path) -> None:
    def project(*arguments: object) -> Path:
        ran = begun(*arguments, "--json")
        assert ran.status == 0, ran.err
        return Path(json.loads(ran.out)["project"])

    for name in ("photos/May", "other/May"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    may = project("--images", tmp_path / "photos" / "May")
    assert may.parent == tmp_path / "data" / "anymask" / "projects" and may.name.startswith("May-")
    assert project("--images", tmp_path / "link" / "May") == may
    other = project("--images", tmp_path / "other" / "May")
    both = project("--images", tmp_path / "other" / "May", "--images", tmp_path / "photos" / "May")
    assert len({may, other, both}) == 3
    assert project("--images", tmp_path / "photos" / "May", "--images", tmp_path / "other" / "May") == both
    assert project() == project() == may.with_name("default")
    said = begun("--images", tmp_path / "photos" / "May").out.splitlines()
    assert said[-1] == f"anymask serve {may} opens it again"


def test_any_tokens_address_opens(begun: Callable[..., Any], tmp_path: Path) -> None:
    token = "my+secret&pass#1%41"
    said = json.loads(begun(tmp_path / "p", "--token", token, "--json").out)
    assert dict(parse_qsl(urlsplit(said["url"]).query)) == {"token": token} and said["token"] == token


def test_another_address_demands_a_token(serve: Callable[..., Any], tmp_path: Path) -> None:
    with serve(tmp_path / "project", "--host", "0.0.0.0") as (_, _, said):
        assert len(said["token"]) >= 24 and said["url"].endswith(f"/?token={said['token']}")
        port = httpx.URL(said["url"]).port
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            assert client.get("/api/info").status_code == 401
            bearer = {"Authorization": f"Bearer {said['token']}"}
            assert client.get("/api/info", headers=bearer).status_code == 200


def test_bad_input_takes_one_line(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "is no folder" in refused("serve", tmp_path / "p", "--images", tmp_path / "missing")
    assert "8 or more" in refused("serve", tmp_path / "p", "--token", "short")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "cannot listen" in refused("serve", tmp_path / "p", "--port", taken.getsockname()[1])
    (tmp_path / "file").write_text("")
    assert "file" in refused("serve", tmp_path / "file", "--port", 0)
    assert not (tmp_path / "p").exists()
    photos = tmp_path / "my photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"")
    assert f"did you mean --images '{photos}'?" in refused("serve", photos, "--port", 0)
    assert [path.name for path in photos.iterdir()] == ["a.jpg"]


def test_without_its_packages_it_says_what_to_install(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("anymask.server", "anymask.engine"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    assert "pip install 'anymask[server]'" in refused("serve")


def test_people_are_added_and_known(
    anymask: Callable[..., Any], refused: Callable[..., str], begun: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "people.json"
    token = anymask("people", "add", "Ann", "--file", file).out.strip()
    assert len(token) >= 24 and token not in file.read_text()
    assert "is in" in refused("people", "add", "Ann", "--file", file)
    assert anymask("people", "list", "--file", file).out == "Ann\n"
    said = json.loads(begun(tmp_path / "p", "--people", file, "--host", "0.0.0.0", "--json").out)
    assert said["token"] is None and "token=" not in said["url"]
    assert anymask("people", "remove", "Ann", "--file", file).status == 0
    assert anymask("people", "list", "--file", file).out == ""
    assert "anymask people add" in refused("serve", tmp_path / "q", "--people", tmp_path / "missing.json")
    assert "is no file of people" in refused("serve", tmp_path / "q", "--people", __file__)


def test_below_a_path_a_token_is_demanded(
    begun: Callable[..., Any], refused: Callable[..., str], tmp_path: Path
) -> None:
    said = json.loads(begun(tmp_path / "p", "--root-path", "/annotate/", "--json").out)
    assert len(said["token"]) >= 24 and said["url"].endswith(f"/annotate/?token={said['token']}")
    assert "is no path" in refused("serve", tmp_path / "q", "--root-path", "annotate")
