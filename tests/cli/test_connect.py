"""`anymask connect label-studio` and `anymask models publish`: what the command refuses, and what it prints."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx


def test_the_backend_says_where_it_is(smoke_weights: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "anymask", "connect", "label-studio", str(smoke_weights), "--port", "0", "--json"]
    command += ["--password", "open sesame", "--cache", str(tmp_path / "kept")]
    environment = os.environ | {"ANYMASK_HOME": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            assert said["password"] == "open sesame"
            with httpx.Client(base_url=said["url"], timeout=120) as client:
                assert client.get("/health").status_code == 401
                health = client.get("/health", auth=("anymask", "open sesame")).json()
            assert health["status"] == "UP" and health["model_version"] == smoke_weights.stem
        finally:
            process.kill()


def test_what_makes_no_sense_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "8 characters" in refused("connect", "label-studio", "--password", "short")
    assert "0 to 100 pixels" in refused("connect", "label-studio", "--detail", "-1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot listen" in refused("connect", "label-studio", "--port", taken.getsockname()[1])


def test_a_folder_is_published(anymask: Callable[..., Any], refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"IoU at one click": 0.75}')
    options = (
        "-o",
        tmp_path / "out",
        "--name",
        "me/mine",
        "--licence",
        "cc0-1.0",
        "--scores",
        tmp_path / "report.json",
    )
    ran = anymask("models", "publish", "anymask-s", *options)
    assert ran.status == 0, ran.err
    assert "IoU at one click" in (tmp_path / "out" / "README.md").read_text()
    assert anymask("models", "convert", tmp_path / "out", "-o", tmp_path / "again.safetensors").status == 0
    assert "is not empty" in refused("models", "publish", "anymask-s", *options)
