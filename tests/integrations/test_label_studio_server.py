"""A real Label Studio on loopback: a project by its API, our backend connected, clicks and a whole project answered."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from anymask.data.open import open_data
from anymask.data.sample import AnnotatedMask
from anymask.data.writers.label_studio import LabelStudioTask, label_config, write_label_studio
from anymask.geometry import brush_rle, rle
from anymask.inference import Predictor, load

pytestmark = pytest.mark.long

TOKEN = "0123456789abcdef0123456789abcdef01234567"
_SECONDS = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """A running Label Studio, our backend beside it, and a project that joins them."""

    client: httpx.Client
    project: int
    backend: int
    version: str


def _wait(ready: Callable[[], bool], process: subprocess.Popen[str], name: str) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, f"{name} ended with {process.returncode}"
        try:
            if ready():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    pytest.fail(f"{name} is not there after {_SECONDS} s")


@pytest.fixture(scope="module")
def client(program: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    python = program("label-studio", "label-studio", imports="import label_studio", install=False)
    folder, port = tmp_path_factory.mktemp("label-studio"), _free_port()
    command = [str(python.parent / "label-studio"), "start", "--no-browser", "--port", str(port)]
    command += ["--username", "a@example.org", "--password", "for the test", "--user-token", TOKEN]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    settings = {
        "HOME": str(folder),
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "LABEL_STUDIO_HOST": f"http://127.0.0.1:{port}",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "ML_BLOCK_LOCAL_IP": "false",  # else it refuses backends, and their webhooks, at loopback addresses
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment | settings, cwd=folder, stdout=log, stderr=log, text=True)
        try:
            headers = {"Authorization": f"Token {TOKEN}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120) as found:
                _wait(lambda: found.get("/api/projects").status_code == 200, process, "label-studio")
                yield found
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def backend(client: httpx.Client) -> Iterator[str]:
    command = [sys.executable, "-m", "anymask", "connect", "label-studio", "--port", "0", "--json"]
    environment = os.environ | {"ANYMASK_OFFLINE": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            url = json.loads(process.stdout.readline())["url"]
            _wait(lambda: httpx.get(f"{url}/health").status_code == 200, process, "the backend")
            yield url
        finally:
            process.kill()


@pytest.fixture(scope="module")
def labels(client: httpx.Client, backend: str) -> Labels:
    """A project with an uploaded photograph, and the backend connected."""
    made = client.post("/api/projects", json={"title": "photographs", "label_config": label_config(["thing", "else"])})
    project = made.json()["id"]
    with open(str(files("anymask.samples") / "coffee.jpg"), "rb") as photograph:
        sent = client.post(f"/api/projects/{project}/import", files={"file": ("coffee.jpg", photograph, "image/jpeg")})
    assert sent.status_code == 201, sent.text
    connected = client.post(
        "/api/ml", json={"project": project, "url": backend, "title": "anymask", "is_interactive": True}
    )
    assert connected.status_code == 201, connected.text
    said = connected.json()
    return Labels(client=client, project=project, backend=said["id"], version=said["model_version"])


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def _task(labels: Labels, project: int | None = None) -> dict[str, Any]:
    answer = labels.client.get("/api/tasks", params={"project": project or labels.project, "fields": "all"}).json()
    found: dict[str, Any] = (answer["tasks"] if isinstance(answer, dict) else answer)[0]
    return found


def _click(labels: Labels, task: int, points: list[tuple[float, float, bool]]) -> dict[str, Any]:
    """Click as Label Studio's page does; x and y in percent."""
    regions = [
        {
            "type": "keypointlabels",
            "from_name": "point",
            "to_name": "image",
            "value": {"x": x, "y": y, "width": 0.5, "keypointlabels": ["else"]},
            "is_positive": on,
        }
        for x, y, on in points
    ]
    answer = labels.client.post(
        f"/api/ml/{labels.backend}/interactive-annotating", json={"task": task, "context": {"result": regions}}
    )
    assert answer.status_code == 200, answer.text
    assert "errors" not in answer.json(), answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


def test_clicks_through_label_studio_give_our_mask_to_the_pixel(labels: Labels) -> None:
    assert labels.version == "anymask-s"
    task = _task(labels)["id"]
    predictor = Predictor(load("anymask-s"))
    predictor.set_image(str(files("anymask.samples") / "coffee.jpg"))
    for clicks in ([(48.0, 33.0, True)], [(48.0, 33.0, True), (10.0, 90.0, False)]):
        begun = time.monotonic()
        found = _click(labels, task, clicks)
        print(f"a click: {time.monotonic() - begun:.3f} s")
        (region,) = found["result"]
        points = [(x * 6.0, y * 4.0) for x, y, _ in clicks]
        ours = predictor.predict(points=points, labels=[int(on) for _, _, on in clicks])
        assert (brush_rle.decode(region["value"]["rle"], (400, 600)) == ours.best).all()
        assert region["value"]["brushlabels"] == ["else"]


def test_what_is_kept_comes_back_through_export_and_door(labels: Labels, tmp_path: Path) -> None:
    task = _task(labels)
    region = _click(labels, task["id"], [(48.0, 33.0, True)])["result"][0]
    kept = labels.client.post(f"/api/tasks/{task['id']}/annotations", json={"result": [region], "lead_time": 1})
    assert kept.status_code == 201, kept.text
    exported = labels.client.get(f"/api/projects/{labels.project}/export", params={"exportType": "JSON"})
    (tmp_path / "export.json").write_bytes(exported.content)
    with Image.open(str(files("anymask.samples") / "coffee.jpg")) as image:
        image.save(tmp_path / "coffee.jpg", quality=95)
    (mask,) = open_data(tmp_path / "export.json").annotations(0).masks
    assert mask.label == "else"
    assert (rle.decode(mask.rle) == brush_rle.decode(region["value"]["rle"], (400, 600))).all()
    as_png = labels.client.get(f"/api/projects/{labels.project}/export", params={"exportType": "BRUSH_TO_PNG"})
    assert as_png.status_code == 200, as_png.text  # its own converter reads our run lengths; one mask, one PNG
    drawn = np.array(Image.open(io.BytesIO(as_png.content)).convert("L")) > 0
    assert (drawn == rle.decode(mask.rle)).all()


def test_a_whole_project_is_annotated_beforehand(labels: Labels) -> None:
    asked = labels.client.post(
        "/api/dm/actions",
        params={"id": "retrieve_tasks_predictions", "project": labels.project},
        json={"selectedItems": {"all": True, "excluded": []}, "ordering": []},
    )
    assert asked.status_code == 200, asked.text
    (prediction,) = labels.client.get("/api/predictions", params={"task": _task(labels)["id"]}).json()
    assert prediction["model_version"] == "anymask-s"
    assert len(prediction["result"]) > 5
    for region in prediction["result"]:
        assert brush_rle.decode(region["value"]["rle"], (400, 600)).any()


def test_tasks_that_we_write_are_imported(labels: Labels, tmp_path: Path) -> None:
    mask = np.zeros((400, 600), bool)
    mask[50:150, 80:300] = True
    mask[80:100, 100:140] = False
    stored = AnnotatedMask(id="a", rle=rle.encode(mask), label="thing", score=0.9)
    task = LabelStudioTask(image="https://example.org/photograph.jpg", size=(400, 600), masks=[stored])
    for model, kind in ((None, "annotations"), ("teacher", "predictions")):
        made = labels.client.post("/api/projects", json={"title": kind, "label_config": label_config(["thing"])})
        project = made.json()["id"]
        assert write_label_studio(tmp_path / "tasks.json", [task], model=model) == (1, 1)
        sent = labels.client.post(
            f"/api/projects/{project}/import", json=json.loads((tmp_path / "tasks.json").read_text())
        )
        assert sent.status_code == 201, sent.text
        assert sent.json()["annotation_count" if model is None else "prediction_count"] == 1


def test_a_configuration_without_a_tag_for_masks_is_said_in_label_studio(labels: Labels, backend: str) -> None:
    boxes = '<RectangleLabels name="a" toName="image"><Label value="b"/></RectangleLabels>'
    config = f'<View><Image name="image" value="$image"/>{boxes}</View>'
    made = labels.client.post("/api/projects", json={"title": "no masks", "label_config": config})
    refused = labels.client.post("/api/ml", json={"project": made.json()["id"], "url": backend, "title": "anymask"})
    states = labels.client.get("/api/ml", params={"project": made.json()["id"]}).json()
    assert refused.status_code >= 400 or states[0]["state"] in ("ER", "DI"), (refused.text, states)
