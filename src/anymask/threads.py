"""The processor: its name and instructions, how threads of one operation wait for each other, and how many there are.

PyTorch shares an operation out among threads that meet at a barrier. By default those that arrive first spin there,
which costs a busy machine dearly: their waiting takes the core that the last of them needs. With the passive policy
they sleep. The OpenMP runtime reads the policy once, when it is loaded, so it is set when anymask is imported, in the
environment, from which worker processes inherit it.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
from pathlib import Path

WAIT_POLICY = "OMP_WAIT_POLICY"
_CHOICES = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What a user may have set to choose a policy: any runtime's, GNU's, LLVM's and Intel's."""

logger = logging.getLogger("anymask")

_came_late = False
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve", "bf16")
"""Sets that kernels are chosen by, as Linux calls them."""


def wait_passively() -> None:
    """Choose the passive policy for this process and its children, unless the user has chosen one.

    Where torch was imported before, this process keeps its policy, and `tell_if_late` says so.
    """
    global _came_late
    if any(name in os.environ for name in _CHOICES):
        return
    _came_late = "torch" in sys.modules
    os.environ[WAIT_POLICY] = "PASSIVE"


def tell_if_late() -> None:
    """Log, once and only where it matters, that this process's threads spin; to be called when torch is in use."""
    global _came_late
    if not _came_late:
        return
    _came_late = False
    import torch

    if torch.backends.openmp.is_available() and torch.get_num_threads() > 1:
        logger.warning(
            "torch was imported before anymask, so its threads spin while they wait, which is slow beside other "
            "programs: import anymask first, or set %s=PASSIVE before Python starts",
            WAIT_POLICY,
        )


def count_threads() -> int:
    """Return how many threads one operation is computed by: what torch says or would, without importing it.

    That is $OMP_NUM_THREADS, or a thread for each processor that this process may use.
    """
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return num_processors()


def use_one_thread() -> None:
    """Have OpenCV and torch compute with one thread in a worker: the size of a pool is how many cores it uses."""
    import cv2

    cv2.setNumThreads(0)
    os.environ["OMP_NUM_THREADS"] = "1"  # for a torch that is imported later
    limit_torch(1)


def limit_torch(threads: int) -> None:
    """Have torch compute what this thread asks of it with so many threads, if it is imported."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


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
