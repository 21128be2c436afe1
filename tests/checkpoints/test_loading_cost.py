"""What loading a model and clicking imports, told by a process of its own."""

from __future__ import annotations

import subprocess
import sys

import torch

from anymask.checkpoints.tensors import empty_model
from anymask.model import SIZES

TRAININGS = ("torch._dynamo", "torch._inductor", "torch._functorch.aot_autograd", "torch.distributed.fsdp", "sympy")
"""What compiles and shards, and the algebra that the compiler needs."""

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


def test_an_empty_model_draws_nothing() -> None:
    before = torch.get_rng_state()
    model = empty_model(SIZES["smoke"])
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert torch.equal(torch.get_rng_state(), before)
