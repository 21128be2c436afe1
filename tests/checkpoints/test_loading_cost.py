"""What loading a model and clicking imports, told by a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from anymask.checkpoints import load_model, save_model
from anymask.checkpoints.tensors import empty_model
from anymask.model import SIZES, build_sam

TRAININGS = ("torch._dynamo", "torch._inductor", "torch._functorch.aot_autograd", "torch.distributed.fsdp", "sympy")
"""What compiles and shards, and the algebra that the compiler needs."""

MAPS = Path("/proc/self/maps")

CLICK = """
import anymask
from anymask.samples import sample_path
predictor = anymask.Predictor(anymask.load("anymask-s"))
predictor.set_image(sample_path("coffee"))
assert predictor.predict(points=[(290, 130)]).best.any()
"""
EMPTY = """
from anymask.checkpoints.tensors import empty_model
from anymask.model import SIZES
for config in SIZES.values():
    empty_model(config)
"""


def _imported(program: str) -> set[str]:
    listing = "import sys; print(*sys.modules)"
    command = [sys.executable, "-c", f"{program}\n{listing}"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_a_click_imports_nothing_of_trainings() -> None:
    unavoidable = _imported("import torch")
    assert not set(TRAININGS) & (_imported(CLICK) - unavoidable)


def test_no_size_of_model_imports_the_compiler() -> None:
    assert not set(TRAININGS) & (_imported(EMPTY) - _imported("import torch"))


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux lists a process's mappings")
def test_weights_are_mapped_and_yet_the_models_own(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(build_sam(SIZES["smoke"]), path)
    stored = path.read_bytes()
    weight = load_model(path).mask_decoder.iou_token.weight
    ranges = [line.split()[0] for line in MAPS.read_text().splitlines() if line.endswith(str(path))]
    bounds = [tuple(int(side, 16) for side in addresses.split("-")) for addresses in ranges]
    assert any(first <= weight.data_ptr() < last for first, last in bounds)
    with torch.no_grad():
        weight.zero_()
    assert path.read_bytes() == stored


def test_an_empty_model_draws_nothing() -> None:
    before = torch.get_rng_state()
    model = empty_model(SIZES["smoke"])
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert torch.equal(torch.get_rng_state(), before)
