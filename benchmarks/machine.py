"""On what a benchmark ran: a figure without its processor says little."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve", "bf16")
"""Sets that kernels are chosen by, as Linux calls them."""


def machine() -> dict[str, Any]:
    """Return the processor, those of its instruction sets that matter here, and how many of its cores there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = values.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in values:
        name += f" (family {values['cpu family']}, model {values.get('model', '?')})"
    flags = set((values.get("flags") or values.get("Features") or "").split())
    return {
        "processor": name,
        "instructions": [each for each in INSTRUCTIONS if each in flags],
        "cpus": os.cpu_count(),
    }
