"""Memory that a CPU's training frees and takes again in every step."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Names of glibc's options, as malloc.h numbers them."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; return whether the C library was glibc, and did so.

    Otherwise glibc maps each large tensor anew, and the kernel zeroes its pages one fault at a time: up to a
    seventh of a step of training. Peak memory stays; what is held after the peak does not fall.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
