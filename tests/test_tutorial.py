"""The tutorial of the documentation, followed to the letter with a small model in the place of the embedded one."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from anymask.checkpoints import places, save_model
from anymask.cli import main
from anymask.model import SIZES, build_sam
from anymask.samples import SAMPLES, sample_path

ROOT = Path(__file__).parents[1]


def _blocks() -> list[tuple[str, str]]:
    """Return the tutorial's code in its order, each block with its language."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    return re.findall(r"```(sh|python)\n(.*?)```", text, re.DOTALL)


def test_the_tutorial_runs_but_for_installing_and_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    save_model(build_sam(SIZES["smoke"]), tmp_path / "small.safetensors")
    monkeypatch.setitem(places.EMBEDDED, "anymask-s", str(tmp_path / "small.safetensors"))
    monkeypatch.setenv("ANYMASK_OFFLINE", "1")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in SAMPLES:
        shutil.copy(sample_path(name), work)
    names: dict[str, Any] = {}
    served = []
    for language, block in _blocks():
        if language == "python":
            exec(block, names)
            continue
        for line in block.splitlines():
            command = shlex.split(line, comments=True)
            if command[:1] == ["mkdir"]:
                subprocess.run(line, shell=True, check=True)
            elif command[:2] == ["anymask", "serve"]:
                served.append(command)
            elif command[:1] == ["anymask"]:
                few = {"--scenes": "6", "--size": "64", "--steps": "2"}
                short = [few.get(before, each) for before, each in zip(command, command[1:], strict=False)]
                assert main(short) == 0, line
    assert names["session"].selected.shape == (400, 600)
    assert {"coffee.json"} <= {path.name for path in Path("clicked").iterdir()}
    assert Path("everything/annotations.coco.json").is_file()
    assert Path("mine.safetensors").is_file() and Path("mine-retention.md").is_file()
    assert Path("with-mine/cat.json").is_file()
    assert served == [shlex.split("anymask serve my-project --images photos --model mine.safetensors --open")]
