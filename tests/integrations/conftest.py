"""Other people's programs, each in an environment of its own: marked tests run ours against the real thing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

_PIP_SECONDS = 240
PROGRAMS = Path(__file__).parent / "programs"


def _folder() -> Path:
    """Where the environments are kept from one run to the next."""
    given = os.environ.get("ANYMASK_TEST_PROGRAMS")
    return Path(given) if given else Path(sys.prefix) / "programs"


@pytest.fixture(scope="session")
def program() -> Callable[..., Path]:
    """Return the Python of the environment `name`, which has some packages; skips where it cannot be had.

    A small one is installed when it is first asked for; a large one (`install=False`) is for whoever wants the test to
    make. `imports` is a line that has to run there: wheels may lack libraries of the system.
    """

    def find(name: str, *packages: str, imports: str, install: bool = True) -> Path:
        folder = _folder() / name
        python = folder / "bin" / "python"
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not install and not python.exists():
            pytest.skip(f"{name} is large: install {' '.join(packages)} in an environment at {folder} to run this")
        with FileLock(f"{folder}.lock"):
            if not python.exists() or (folder / "begun").exists():
                _install(folder, python, packages)
        ran = subprocess.run([str(python), "-c", imports], capture_output=True, text=True, env=plain(), timeout=240)
        if ran.returncode:
            pytest.skip(f"{name} does not run here: {(ran.stderr.strip().splitlines() or ['it failed'])[-1]}")
        return python

    return find


def _install(folder: Path, python: Path, packages: tuple[str, ...]) -> None:
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    for command in ([sys.executable, "-m", "venv", str(folder)], pip):
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.skip(f"{folder.name} is not installed within {_PIP_SECONDS} s")
        if ran.returncode:
            pytest.skip(f"{folder.name} cannot be installed: {(ran.stderr.strip().splitlines() or ['pip failed'])[-1]}")
        (folder / "begun").touch()
    (folder / "begun").unlink()


@pytest.fixture(scope="session")
def run_program() -> Callable[..., str]:
    """Run a file of `programs` with an environment's Python, and return what it printed."""

    def run(python: Path, name: str, *arguments: object, home: Path, timeout: float = 400) -> str:
        command = [str(python), str(PROGRAMS / name), *map(str, arguments)]
        ran = subprocess.run(
            command, capture_output=True, text=True, env=plain() | {"HOME": str(home)}, timeout=timeout
        )
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
        return ran.stdout

    return run


def plain() -> dict[str, str]:
    """The environment without what would lead another Python to our packages; windows are drawn off the screen."""
    values = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return values | {"QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"}
