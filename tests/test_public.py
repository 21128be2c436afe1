"""The public face: what it exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

import anymask
from anymask import errors

HEAVY = (
    *("transformers", "matplotlib", "webdataset", "onnx", "onnxruntime", "onnxscript", "openvino", "scipy", "skimage"),
    *("fastapi", "uvicorn", "sqlalchemy", "alembic", "ray", "pyarrow", "pandas", "fsspec", "tensorboard"),
    *("torchvision", "typer", "rich", "httpx", "filelock"),
)


def test_what_is_exported() -> None:
    names = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert set(anymask.__all__) == names | {
        "AutomaticMasks",
        "AutomaticOptions",
        "EmbeddingCache",
        "MaskRecord",
        "Masks",
        "Predictor",
        "Prompt",
        "Refinement",
        "Session",
        "__version__",
        "finetune",
        "load",
        "segment_folder",
    }
    assert anymask.__all__ == sorted(anymask.__all__)
    assert set(anymask.__all__) <= set(dir(anymask))


def test_every_name_is_there_and_is_its_homes() -> None:
    from anymask import inference
    from anymask.workflows import finetune, folder_run

    assert anymask.load is inference.load
    assert anymask.Predictor is inference.Predictor
    assert anymask.finetune is finetune.finetune and anymask.segment_folder is folder_run.segment_folder
    assert all(getattr(anymask, name) is not None for name in anymask.__all__)


def test_no_other_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'segment'"):
        anymask.segment  # noqa: B018 (the access is the test)


def test_the_version_is_the_distributions() -> None:
    try:
        installed = metadata.version("anymask")
    except metadata.PackageNotFoundError:
        pytest.skip("anymask is not installed here, only on the path")
    assert anymask.__version__ == installed


def _imported(program: str) -> set[str]:
    """The modules that are loaded after a program has run in a process of its own."""
    listing = "import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"{program}\n{listing}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_no_library() -> None:
    assert not {"torch", "numpy", "cv2", "PIL", *HEAVY} & _imported("import anymask")


def test_importing_all_that_is_public_loads_nothing_of_the_extras() -> None:
    torch_alone = _imported("import torch")
    assert not set(HEAVY) & (_imported("from anymask import *") - torch_alone)


def test_importing_has_no_side_effects() -> None:
    program = """
import random, warnings
import numpy, torch
before = (random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes())
settings = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), list(warnings.filters))
from anymask import *
import anymask.compat.segment_anything
after = (random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes())
assert after == before
assert settings == (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), list(warnings.filters))
"""
    _imported(program)
