"""What the benchmarks share: peers built with one set of weights, each in a process of its own, timed in turn.

Peers run alternately, a round each, so that the noise of the machine hits all alike; the ratio is the median over
rounds of (peer's time / ours). A process of its own gives each an honest peak of memory.
"""

from __future__ import annotations

import gc
import importlib.machinery
import json
import multiprocessing
import os
import statistics
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

Build = Callable[[], Callable[[], Any]]
"""Makes the peer, outside the clock; what it returns is what is timed."""

VIT_B_META = {"encoder_embed_dim": 768, "encoder_depth": 12, "encoder_num_heads": 12}
GLOBAL_BLOCKS = [2, 5, 8, 11]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of each round, and the process's peak memory in MiB: all it holds after building, weights included."""

    seconds: list[float]
    peak_mib: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def stand_in_for_torchvision() -> None:
    """Let Meta's package and transformers do without torchvision: resizing is PIL's, suppression of boxes our own.

    Neither takes a share of the time that could be measured.
    """
    from PIL import Image

    if "torchvision" in sys.modules:
        return
    names = ("torchvision", "torchvision.ops", "torchvision.ops.boxes", "torchvision.transforms")
    for name in (*names, "torchvision.transforms.functional"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    boxes: Any = sys.modules["torchvision.ops.boxes"]
    boxes.batched_nms, boxes.box_area = batched_nms, box_area
    functional: Any = sys.modules["torchvision.transforms.functional"]
    functional.to_pil_image = Image.fromarray
    functional.resize = lambda image, size: image.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    from anymask.geometry.nms import box_nms

    kept = box_nms(boxes.float().cpu().numpy(), scores.float().cpu().numpy(), iou_threshold, idxs.cpu().numpy())
    return torch.from_numpy(kept).to(boxes.device)


def meta_vit_b(seed: int = 0) -> Any:
    """Meta's vit_b with random weights, relative and absolute positions included."""
    stand_in_for_torchvision()
    from segment_anything.build_sam import _build_sam

    torch.manual_seed(seed)
    model = _build_sam(**VIT_B_META, encoder_global_attn_indexes=GLOBAL_BLOCKS).eval()
    for name, parameter in model.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def state_of(model: Any) -> dict[str, torch.Tensor]:
    return {k: v for k, v in model.state_dict().items() if not k.startswith("pixel_")}


def measure(peers: dict[str, Build], *, rounds: int, threads: int) -> dict[str, Timing]:
    """Time peers in turn, `rounds` times each after one warm-up."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, tuple[Connection, Any]] = {}
    try:
        for name, build in peers.items():
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, build, threads), daemon=True)
            process.start()
            lines[name] = (here, process)
            _receive(name, here)
        seconds: dict[str, list[float]] = {name: [] for name in peers}
        for index in range(rounds + 1):
            for name, (line, _) in lines.items():
                line.send("go")
                taken = _receive(name, line)
                if index:
                    seconds[name].append(taken)
        timings = {}
        for name, (line, _) in lines.items():
            line.send("stop")
            timings[name] = Timing(seconds=seconds[name], peak_mib=_receive(name, line))
        return timings
    finally:
        for line, process in lines.values():
            line.close()
            process.join(5)
            if process.is_alive():
                process.terminate()


def _receive(name: str, line: Connection) -> float:
    try:
        value: float = line.recv()
    except EOFError as error:
        raise SystemExit(f"the peer {name} died; its message is above") from error
    return value


def _serve(line: Connection, build: Build, threads: int) -> None:
    torch.set_num_threads(threads)
    call = build()
    forget_peak()
    line.send(0.0)
    with torch.inference_mode():
        while line.recv() == "go":
            began = time.perf_counter()
            call()
            line.send(time.perf_counter() - began)
    line.send(peak_mib())


def forget_peak() -> None:
    """Let `peak_mib` count from now on."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def report(benchmark: str, timings: dict[str, Timing], *, ours: str, unit: float = 1.0, **extra: Any) -> None:
    """Print a table, then the JSON line."""
    label = {1.0: "s", 1e3: "ms"}[unit]
    ratio = {}
    print(f"{'':24s} {'median ' + label:>12s} {'fastest ' + label:>12s} {'peak MiB':>10s} {'times ours':>12s}")
    for name, timing in timings.items():
        pairs = [a / b for a, b in zip(timing.seconds, timings[ours].seconds, strict=True)]
        if name != ours:
            ratio[name] = round(statistics.median(pairs), 3)
        print(
            f"{name:24s} {timing.median * unit:12.3f} {min(timing.seconds) * unit:12.3f} "
            f"{timing.peak_mib:10.0f} {statistics.median(pairs):12.2f}"
        )
    result = {
        "benchmark": benchmark,
        "ratio": ratio,
        "seconds": {name: round(t.median, 5) for name, t in timings.items()},
        "peak_mib": {name: round(t.peak_mib) for name, t in timings.items()},
        "rounds": len(timings[ours].seconds),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        **extra,
    }
    print(json.dumps(result))
