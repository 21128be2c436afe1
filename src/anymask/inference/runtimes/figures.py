"""Which engine is fastest for a model on this machine: measured once, kept beside its graphs, never guessed."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from anymask.data.files import write_text_atomic
from anymask.inference.runtimes.engines import EngineName, Graph, installed, open_graph
from anymask.inference.runtimes.graphs import PARTS, Part, export_graphs, graph_path
from anymask.inference.runtimes.runtime import Runtime
from anymask.model import PointLabel, Prompts, Sam

Figures: TypeAlias = dict[str, dict[Part, float]]
"""Seconds by the engine's name, torch among them, and by what it did."""

_FILE = "figures.json"
_BATCH = 16
_SECONDS, _LEAST = 0.5, 3
"""Each figure is the median of as many runs as fit into so many seconds, of at least so many."""


def measure(model: Sam, *, threads: int, report: Callable[[str], None] = lambda _: None) -> Figures:
    """Time torch and every installed engine on a model in float32 on the CPU, and keep the figures for `fastest`.

    `report` hears what is being done. Raises InputError if the model cannot be exported.
    """
    report("exporting")
    folder = export_graphs(model)
    figures: Figures = {}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for engine in (None, *installed()):
            report(f"measuring {engine or 'torch'}")
            graphs = {} if engine is None else open_graphs(folder, dict.fromkeys(PARTS, engine), threads)
            figures[engine or "torch"] = _timed(Runtime(model=model, graphs=graphs))
    finally:
        torch.set_num_threads(before)
    kept = _read(folder)
    kept[_key(threads)] = figures
    write_text_atomic(folder / _FILE, json.dumps(kept, indent=1) + "\n")
    return figures


def fastest(folder: Path, threads: int) -> dict[Part, EngineName]:
    """Return the engines that were measured to be faster than torch, on this machine with so many threads.

    Figures of another processor or of other versions do not count, nor engines that are gone.
    """
    figures = _read(folder).get(_key(threads), {})
    engines: dict[Part, EngineName] = {}
    for part in PARTS:
        here = [name for name in installed() if part in figures.get(name, {}) and graph_path(folder, part).is_file()]
        best = min(here, key=lambda name: figures[name][part], default=None)
        if best is not None and figures[best][part] < figures["torch"][part]:
            engines[part] = best
    return engines


def open_graphs(folder: Path, engines: Mapping[Part, EngineName], threads: int) -> dict[Part, Graph]:
    """Open the graph of each part in the engine that is named for it; what two parts have in common is opened once."""
    opened: dict[tuple[EngineName, Path], Graph] = {}
    for part, engine in engines.items():
        place = (engine, graph_path(folder, part))
        if place not in opened:
            opened[place] = open_graph(*place, threads)
    return {part: opened[engine, graph_path(folder, part)] for part, engine in engines.items()}


def _timed(runtime: Runtime) -> dict[Part, float]:
    model = runtime.model
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (model.image_size * 3 // 4, model.image_size, 3), np.uint8)
    with torch.inference_mode():
        (embedding,) = runtime.encode([image])
        seconds = {"encoder": _median(lambda: runtime.encode([image]))}
        for part, count in (("click", 1), ("batch", _BATCH)):
            points = torch.from_numpy(rng.uniform(0, model.image_size * 3 // 4, (1, count, 1, 2)).astype(np.float32))
            labels = torch.full((1, count, 1), int(PointLabel.FOREGROUND))
            prompts = Prompts.build(points=points, labels=labels, padded=False)
            runtime.decode(embedding, prompts, multimask=True)
            seconds[part] = _median(partial(runtime.decode, embedding, prompts, multimask=True))
    return {part: seconds[part] for part in PARTS}


def _median(run: Callable[[], object]) -> float:
    seconds: list[float] = []
    while len(seconds) < _LEAST or sum(seconds) < _SECONDS:
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _key(threads: int) -> str:
    """Return what figures depend on besides the model: the processor, the threads, the versions of what computes."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = dict(line.split("\t", 1) for line in reversed(lines) if line.startswith(("model", "cpu family")))
    processor = " ".join("".join(names.values()).replace(":", " ").split())
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *installed()))
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{processor}, {capability}, {os.cpu_count()} cores, {threads} threads, {versions}"


def _read(folder: Path) -> dict[str, Any]:
    """Read what was measured so far; nothing where there is no such file, or a damaged one."""
    try:
        values = json.loads((folder / _FILE).read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
