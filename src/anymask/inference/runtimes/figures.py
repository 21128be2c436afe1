"""Which engine is fastest for a model on this machine: measured once, kept beside its graphs, never guessed."""

from __future__ import annotations

import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from anymask.data.files import make_folder, write_text_atomic
from anymask.geometry import arrays
from anymask.inference.prompts import lone_points
from anymask.inference.runtimes.engines import EngineName, Graph, installed, open_graph
from anymask.inference.runtimes.graphs import (
    PARTS,
    Part,
    export_graphs,
    graph_path,
    graphs_home,
    packaged_folder,
    read_exported,
)
from anymask.model.embedding import flatten
from anymask.threads import instruction_sets, processor_name

if TYPE_CHECKING:
    from anymask.inference.runtimes.runtime import Runtime
    from anymask.model import Sam

logger = logging.getLogger("anymask")

Figures: TypeAlias = dict[str, dict[Part, float]]
"""Seconds by the engine's name, torch among them, and by what it did."""

_FILE = "figures.json"
_PROMPTS: dict[Part, int] = {"click": 1, "batch": 16}
"""Number of prompts that are asked at once."""
_TOLERANCE = 1e-3
"""How far an answer may be off, relative to the largest of torch's values."""
_SECONDS, _LEAST = 0.5, 3
"""Each figure is the median of as many runs as fit into so many seconds, of at least so many."""


def measure(model: Sam, *, threads: int, report: Callable[[str], None] = lambda _: None) -> Figures:
    """Time torch and every installed engine on a model in float32 on the CPU, and keep the figures for `fastest`.

    `report` is called with what is being done. Raises InputError if the model cannot be exported.
    """
    import torch

    from anymask.inference.runtimes.runtime import Runtime

    report("exporting")
    folder = export_graphs(model)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        runtimes = {"torch": Runtime(model=model)}
        for engine in installed():
            graphs = open_graphs(folder, dict.fromkeys(PARTS, engine), threads)
            runtimes[engine] = Runtime(model=model, graphs=graphs)
        report("measuring " + ", ".join(runtimes))
        figures = _timed(model, runtimes)
    finally:
        torch.set_num_threads(before)
    kept = _read(folder)
    kept[_key(threads)] = figures
    write_text_atomic(make_folder(figures_folder(folder)) / _FILE, json.dumps(kept, indent=1) + "\n")
    return figures


def fastest(folder: Path, threads: int) -> dict[Part, EngineName] | None:
    """Return the engines that were measured to be faster than torch, on this machine with so many threads.

    None where nothing was measured. Figures of another processor or of other versions do not count, nor engines that
    are gone.
    """
    kept = _read(folder)
    figures = kept.get(_key(threads)) if kept else None
    if not figures:
        return None
    engines: dict[Part, EngineName] = {}
    for part in PARTS:
        here = [name for name in installed() if part in figures.get(name, {}) and graph_path(folder, part).is_file()]
        best = min(here, key=lambda name: figures[name][part], default=None)
        if best is not None and figures[best][part] < figures.get("torch", {}).get(part, 0.0):
            engines[part] = best
    return engines


def figures_folder(folder: Path) -> Path:
    """Return where the figures of a folder's graphs are: beside them, or for the package's in the cache folder."""
    exported = read_exported(folder) if folder == packaged_folder() else None
    return folder if exported is None else graphs_home() / exported.hash


def open_graphs(folder: Path, engines: Mapping[Part, EngineName], threads: int) -> dict[Part, Graph]:
    """Open the graph of each part in the engine that is named for it; what two parts have in common is opened once."""
    opened: dict[tuple[EngineName, Path], Graph] = {}
    for part, engine in engines.items():
        place = (engine, graph_path(folder, part))
        if place not in opened:
            opened[place] = open_graph(*place, threads)
    return {part: opened[engine, graph_path(folder, part)] for part, engine in engines.items()}


def _timed(model: Sam, runtimes: Mapping[str, Runtime]) -> Figures:
    """Time runtimes in turn, so that other work on the machine hits all alike."""
    rng = np.random.default_rng(0)
    height, width = model.image_size * 3 // 4, model.image_size
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    import torch

    from anymask.inference.runtimes.runtime import Runtime

    with torch.inference_mode():
        (embedding,) = Runtime(model=model).encode([image])
        work: dict[Part, Callable[[Runtime], object]] = {"encoder": lambda runtime: runtime.encode([image])[0]}
        for part, count in _PROMPTS.items():
            prompts = lone_points(rng.uniform(0, height, (count, 2)).astype(np.float32))
            work[part] = partial(Runtime.decode, embedding=embedding, prompts=prompts, multimask=True)
        figures: Figures = {name: {} for name in runtimes}
        for part in PARTS:
            for name, seconds in _medians(work[part], _agreeing(work[part], runtimes)).items():
                figures[name][part] = seconds
    return figures


def _agreeing(run: Callable[[Runtime], Any], runtimes: Mapping[str, Runtime]) -> dict[str, Runtime]:
    """Return the runtimes that answer as torch does; a wrong one is not timed, and so never chosen."""
    expected = {key: arrays.to_numpy(each) for key, each in flatten(run(runtimes["torch"])).items()}
    right = {}
    for name, runtime in runtimes.items():
        found = flatten(run(runtime))
        errors = [
            float(np.abs(arrays.to_numpy(found[key]) - each).max() / max(np.abs(each).max(), 1e-9))
            for key, each in expected.items()
        ]
        if max(errors) <= _TOLERANCE:
            right[name] = runtime
        else:
            logger.warning("the runtime %s answers wrongly here (off by %.1g) and is left out", name, max(errors))
    return right


def _medians(run: Callable[[Runtime], object], runtimes: Mapping[str, Runtime]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    while any(len(each) < _LEAST or sum(each) < _SECONDS for each in seconds.values()):
        for name, runtime in runtimes.items():
            began = time.perf_counter()
            run(runtime)
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}


def _key(threads: int) -> str:
    """Return what figures depend on besides the model: the processor, the threads, the versions of what computes."""
    present = [name for name in ("torch", *installed()) if find_spec(name) is not None]
    versions = ", ".join(f"{name} {version(name)}" for name in present)
    return f"{processor_name()}, {' '.join(instruction_sets())}, {os.cpu_count()} cores, {threads} threads, {versions}"


def _read(folder: Path) -> dict[str, Any]:
    """Read what was measured so far; nothing where there is no such file, or a damaged one."""
    try:
        values = json.loads((figures_folder(folder) / _FILE).read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
