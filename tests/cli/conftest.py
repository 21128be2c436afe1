"""The command line in this process, with a small model of random weights in the place of the embedded one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from anymask.checkpoints import places, save_model
from anymask.cli import main
from anymask.model import SIZES, build_sam


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a call left."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def smoke_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "smoke.safetensors"
    save_model(build_sam(SIZES["smoke"]), path)
    return path


@pytest.fixture
def anymask(
    smoke_weights: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Ran]:
    """Run `anymask …` where nothing is cached and nothing can be reached but by a test's own doing."""
    monkeypatch.setitem(places.EMBEDDED, "anymask-s", str(smoke_weights))
    monkeypatch.setenv("ANYMASK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANYMASK_OFFLINE", "1")
    monkeypatch.delenv("ANYMASK_DEBUG", raising=False)

    def run(*arguments: object) -> Ran:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(status=status, out=out, err=err)

    return run


@pytest.fixture
def refused(anymask: Callable[..., Ran]) -> Callable[..., str]:
    """Run `anymask …`, check that it is refused as bad input has to be, and return the one line that says why."""

    def run(*arguments: object) -> str:
        ran = anymask(*arguments)
        assert ran.status == 2
        assert ran.out == ""
        assert ran.err.startswith("anymask: ") and ran.err.count("\n") == 1
        assert "Traceback" not in ran.err
        return ran.err

    return run


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A recipe of four steps on a few scenes rendered for it."""
    from anymask.data.synthetic import SceneConfig, render_shards

    folder = tmp_path_factory.mktemp("shards")
    list(render_shards(folder, SceneConfig(size=64), scenes_per_shard=6))
    return f"""
[model]
size = "smoke"
image_size = 64

[run]
steps = 4
batch_size = 2
num_masks = 2
num_workers = 0
save_every = 2
sheet_every = 2
log_every = 1

[rounds]
num_corrections = 1
num_refinements = 0

[[sources]]
tars = ["{folder}/*.tar"]
"""
