"""The page in a browser, on `anymask serve` and a fresh project; and what it exported, as pycocotools reads it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from anymask.errors import InputError
from anymask.export.web import packaged_page

PATIENCE = 30
"""Times to ask for a file that is being made; each waits for eight seconds."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the embedded model."""
    try:
        packaged_page()
    except InputError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "anymask", "serve", folder / "project", "--port", "0", "--json"]
    environment = os.environ | {"ANYMASK_HOME": str(folder / "home")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = json.loads(process.stdout.readline())["url"]
            _wait_for_decoder(url)
            yield url
        finally:
            process.send_signal(signal.SIGINT)


def _wait_for_decoder(url: str) -> None:
    """Wait for the export that a first start makes, which tests in the browser have no patience for."""
    with httpx.Client(base_url=url, timeout=60) as client:
        for part in ("image", "prompt"):
            answers = (client.get(f"api/models/{part}.onnx") for _ in range(PATIENCE))
            assert any(answer.status_code == 200 for answer in answers), f"{part}.onnx was never there"


@pytest.fixture(scope="module")
def used(served: str, in_browser: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What the tests in the browser left: the exported file, and the pixels that were painted on the screen."""
    out = tmp_path_factory.mktemp("out")
    in_browser("page", ANYMASK_URL=served, ANYMASK_OUT=str(out))
    return SimpleNamespace(exported=out / "coco.json", painted=json.loads((out / "painted.json").read_text()))


@pytest.mark.long
def test_the_page_works_on_a_real_server_and_its_export_is_what_was_painted(
    used: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    found = COCO(used.exported)
    capsys.readouterr()  # it talks
    annotations: list[dict[str, Any]] = found.loadAnns(found.getAnnIds())
    assert len(annotations) == 2
    for annotation in annotations:
        assert int(coco_masks.area(found.annToRLE(annotation))) == annotation["area"] > 0
    union = coco_masks.merge([annotation["segmentation"] for annotation in annotations])
    assert union["size"] == used.painted["size"]
    assert union["counts"].decode() == used.painted["counts"]
