"""The processor that this runs on, and what of it decides how fast a model is."""

from __future__ import annotations

import os
import platform
from pathlib import Path

INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve", "bf16")
"""Sets that kernels are chosen by, as Linux calls them."""


def processor_name() -> str:
    """Return the processor's name, with its family and model where they are known."""
    values = _cpuinfo()
    name = values.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in values:
        name += f" (family {values['cpu family']}, model {values.get('model', '?')})"
    return name


def instruction_sets() -> list[str]:
    """Return those of `INSTRUCTIONS` that the processor has; none where the system does not say."""
    values = _cpuinfo()
    flags = set((values.get("flags") or values.get("Features") or "").split())
    return [each for each in INSTRUCTIONS if each in flags]


def num_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpuinfo() -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
