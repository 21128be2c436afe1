"""How threads wait, told by processes of their own: the OpenMP runtime reads it once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_DISPLAY_ENV", "OMP_NUM_THREADS")
LOAD = "import anymask; anymask.load('anymask-s'); anymask.load('anymask-s')"


def _run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if name not in NAMES}
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, env=plain | environment, capture_output=True, text=True, check=True)


def test_torch_reads_the_passive_policy() -> None:
    told = _run("import anymask, torch", OMP_DISPLAY_ENV="true").stderr
    if "OMP_WAIT_POLICY" not in told:
        pytest.skip("this torch's OpenMP runtime does not tell its settings")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in told


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "9"), ("KMP_BLOCKTIME", "2")]
)
def test_the_users_choice_stays(name: str, value: str) -> None:
    program = f"import os, anymask; print(*(os.environ.get(name, '-') for name in {NAMES[:3]}))"
    chosen = _run(program, **{name: value}).stdout.split()
    assert chosen == [value if other == name else "-" for other in NAMES[:3]]


def test_a_late_import_is_told_once_where_threads_wait_for_each_other() -> None:
    told = _run(f"import torch; torch.set_num_threads(2); {LOAD}").stderr
    assert told.count("import anymask first") == 1
    assert "OMP_WAIT_POLICY=PASSIVE" in told


@pytest.mark.parametrize(
    ("program", "environment"),
    [
        (LOAD, {}),
        (f"import torch; torch.set_num_threads(1); {LOAD}", {}),
        (f"import torch; torch.set_num_threads(2); {LOAD}", {"OMP_WAIT_POLICY": "active"}),
    ],
    ids=["early", "one thread", "chosen"],
)
def test_nothing_is_told_where_nothing_is_lost(program: str, environment: dict[str, str]) -> None:
    assert _run(program, **environment).stderr == ""


@pytest.mark.parametrize("early", ["", "import torch; torch.set_num_threads(2); "], ids=["torch later", "torch before"])
def test_a_worker_uses_one_thread(early: str) -> None:
    program = f"{early}from anymask.threads import use_one_thread; use_one_thread(); import cv2, torch"
    assert _run(f"{program}; print(cv2.getNumThreads(), torch.get_num_threads())").stdout.split() == ["1", "1"]
