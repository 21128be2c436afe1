"""What tests in several folders share."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import anymask  # noqa: F401 (before torch, whose threads then wait without spinning)

# isort: split
import torch
from torch import nn

from anymask.checkpoints import save_model
from anymask.model import SIZES, Sam, build_sam


def _randomise(model: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: torch.Tensor, std: float, mean: float = 0.0) -> torch.Tensor:
        return mean + std * torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("rel_pos", "pos_embed", "attention_biases")):
                parameter.copy_(normal(parameter, 0.5))
            elif parameter.ndim == 1:
                parameter.copy_(normal(parameter, 0.2, 1.0 if "weight" in name else 0.0))
            elif parameter.shape[0] > 1:
                parameter.copy_(normal(parameter, parameter[0].numel() ** -0.5))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(normal(buffer, 0.1))
            elif name.endswith("running_var"):
                buffer.copy_(normal(buffer, 0.2, 1.0).clamp(min=0.3))


@pytest.fixture(scope="session")
def randomise() -> Callable[..., None]:
    """Fill a model so that no part of it is silent: positions are far from zero, activations stay near one."""
    return _randomise


@pytest.fixture(scope="session")
def folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of pytest-xdist share, and no other run of the tests."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def kept_traces(folder_of_the_run: Path) -> Iterator[None]:
    """Let exports take graphs that another test has had traced already."""
    from kept_traces import KeptTraces

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anymask.export.onnx.trace", KeptTraces(folder_of_the_run / "traces"))
        yield


@pytest.fixture(scope="session")
def stirred(randomise: Callable[..., None]) -> Sam:
    """A small model of random weights, none of whose parts is silent."""
    torch.manual_seed(0)
    sam = build_sam(SIZES["smoke"]).eval()
    randomise(sam)
    return sam


@pytest.fixture(scope="session")
def stirred_weights(stirred: Sam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of that model."""
    path = tmp_path_factory.mktemp("stirred") / "stirred.safetensors"
    save_model(stirred, path)
    return path


@pytest.fixture(scope="session")
def in_browser() -> Callable[..., None]:
    """Run a file of `web/e2e` with some environment; skips where Node, its packages or Chromium are not here."""
    web = Path(__file__).parents[1] / "web"
    vitest = web / "node_modules" / ".bin" / "vitest"
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if shutil.which("node") is None or not vitest.exists():
        pytest.skip("browser tests need Node and the packages of the page: `make web` installs them")
    if chromium is None:
        pytest.skip("browser tests need Chromium: install Debian's package chromium, or name one in CHROMIUM")

    def run(name: str, **environment: str) -> None:
        command = [vitest, "run", "--config", "e2e/vitest.config.ts", f"e2e/{name}.test.ts"]
        values = os.environ | {"CHROMIUM": chromium, "NO_COLOR": "1"} | environment
        ran = subprocess.run(command, cwd=web, env=values, capture_output=True, text=True, timeout=600)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    return run
