"""Windows of a grid."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from anymask.model.attention import join_windows, split_windows


@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.integers(1, 9))
def test_split_and_join(batch: int, height: int, width: int, side: int) -> None:
    x = torch.arange(batch * height * width * 2, dtype=torch.float32).reshape(batch, height, width, 2)
    windows = split_windows(x, side, torch.tensor([-1.0, -2.0]))
    rows, columns = -(-height // side), -(-width // side)
    assert windows.shape == (batch * rows * columns, side, side, 2)
    padding = windows.numel() - x.numel()
    assert int((windows[..., 0] == -1).sum()) == int((windows[..., 1] == -2).sum()) == padding // 2
    assert torch.equal(join_windows(windows, (height, width)), x)
    assert torch.equal(windows[0, : min(side, height), : min(side, width)], x[0, :side, :side])
