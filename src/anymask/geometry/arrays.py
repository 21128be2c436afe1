"""What differs between NumPy's arrays and torch's tensors, so that code can be written once for both.

torch is imported by none of it: whoever hands in a tensor has done so. What comes in as a tensor stays on its device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.prompts import Array

__all__ = ["Array", "copied", "float32", "like", "take", "to_numpy"]


def to_numpy(x: Array) -> NDArray[Any]:
    """Return an array's values in NumPy, shared where they can be."""
    if isinstance(x, np.ndarray):
        return x
    values: NDArray[Any] = x.detach().cpu().numpy()
    return values


def like(values: NDArray[Any], x: Array) -> Array:
    """Return values as what `x` is: an array, or a tensor on its device."""
    if isinstance(x, np.ndarray):
        return values
    import torch

    return torch.from_numpy(values).to(x.device)


def float32(x: Array) -> Array:
    """Return an array in float32; itself, where it is."""
    return x.astype(np.float32, copy=False) if isinstance(x, np.ndarray) else x.float()


def copied(x: Array) -> Array:
    """Return a copy, contiguous in memory."""
    return x.copy() if isinstance(x, np.ndarray) else x.contiguous().clone()


def take(x: Array, index: NDArray[np.int64], axis: int) -> Array:
    """Return a copy of the named rows, columns, …; an index beyond the array is an error that may go unnoticed."""
    if isinstance(x, np.ndarray):
        return np.take(x, index, axis, mode="clip")
    return x.index_select(axis, like(index, x))
