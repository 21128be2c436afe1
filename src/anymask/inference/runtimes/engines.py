"""Programs that run exported graphs: each opens a file and gives a function from arrays to arrays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anymask.errors import MissingPackageError

EngineName: TypeAlias = Literal["onnxruntime", "openvino"]
Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Graph:
    """An opened graph: inputs by their names to outputs by theirs."""

    inputs: tuple[str, ...]
    run: Callable[[Mapping[str, Array]], dict[str, Array]]


def open_graph(engine: EngineName, path: Path, threads: int) -> Graph:
    """Open an ONNX file to be run in float32 on the CPU by so many threads.

    Raises MissingPackageError if the engine is not installed.
    """
    check_installed(engine)
    return _OPENERS[engine](path, threads)


def check_installed(engine: EngineName) -> None:
    """Raise MissingPackageError if the engine's package is not here; it is not imported."""
    if engine not in installed():
        raise MissingPackageError(f"the runtime {engine} is not installed: pip install {engine}")


def installed() -> list[EngineName]:
    """Return the engines whose packages are here."""
    return [engine for engine in _OPENERS if find_spec(engine) is not None]


def _open_onnxruntime(path: Path, threads: int) -> Graph:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as torch's threads: see anymask.threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return Graph(inputs=tuple(each.name for each in session.get_inputs()), run=run)


def _open_openvino(path: Path, threads: int) -> Graph:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # it would compute in bfloat16 where the processor can
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        # Its cache of kernels takes one for another where sizes vary: prompts of two points got wrong masks (2026.1).
        "CPU_RUNTIME_CACHE_CAPACITY": "0",
    }
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    names = [output.any_name for output in compiled.outputs]

    lock = threading.Lock()

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        with lock:  # the next call writes over the outputs of this one
            found = compiled(dict(inputs))
            return {name: np.array(found[index]) for index, name in enumerate(names)}

    return Graph(inputs=tuple(each.any_name for each in compiled.inputs), run=run)


_OPENERS: dict[EngineName, Callable[[Path, int], Graph]] = {
    "onnxruntime": _open_onnxruntime,
    "openvino": _open_openvino,
}
