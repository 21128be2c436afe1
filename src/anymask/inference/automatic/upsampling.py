"""Low-resolution logits at the original size, but only inside a window, and there a band of columns at a time.

`resize.upsample_logits` gives the whole map; here is what it gives in a window, at the window's cost. Frames: low
(the logits' own samples), model (resized and padded, `stride` pixels a sample), original image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from anymask.geometry.crops import Box
from anymask.geometry.frames import Frame

REACH = 3
"""Samples around those above a threshold that the pixels above it are made of, at most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogitWindow:
    """A part of a low-resolution map, and the part of the original image that is to be made of it."""

    logits: Float[Tensor, "hl wl"]
    origin: tuple[int, int]
    """(x, y) of the first sample in the whole map."""
    box: Box
    """xyxy in the original image's pixels."""


def num_samples(frame: Frame, mask_size: int) -> tuple[int, int]:
    """Return how many rows and columns of the map reach into the image; the others are made of padding alone."""
    stride = frame.model_size / mask_size
    height, width = (min(mask_size, math.floor(side / stride + 0.5) + 1) for side in frame.resized)
    return height, width


def cut_window(logits: Float[Tensor, "hm wm"], above: Box, frame: Frame) -> LogitWindow:
    """Cut out what is needed where samples exceed a threshold: `above` is the xyxy box of these samples.

    The window's box holds every pixel of the original image that exceeds the threshold.
    """
    height, width = num_samples(frame, logits.shape[-1])
    x0, y0, x1, y1 = above
    left, top = max(x0 - REACH, 0), max(y0 - REACH, 0)
    part = logits[top : min(y1 + REACH, height), left : min(x1 + REACH, width)].clone()
    return LogitWindow(logits=part, origin=(left, top), box=outer_box(above, frame, logits.shape[-1]))


def outer_box(above: Box, frame: Frame, mask_size: int) -> Box:
    """Return the original image's pixels, xyxy, outside which none exceeds a threshold that only samples `above` do.

    Interpolation reaches from a sample to its neighbours, and from one of the model's pixels to the next.
    """
    stride = frame.model_size / mask_size
    spans = []
    for start, stop, scale, side in zip(above[:2], above[2:], frame.scale, frame.original[::-1], strict=True):
        first, last = ((start - 0.5) * stride - 1) / scale - 0.5, ((stop + 0.5) * stride + 1) / scale - 0.5
        spans.append((max(math.floor(first), 0), max(min(math.ceil(last) + 1, side), 0)))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def inner_box(blocks: Box, frame: Frame, mask_size: int) -> Box:
    """Return a box, xyxy in the original image's pixels, that reaches no further than the pixels above a threshold.

    `blocks` is the box of the 2 × 2 blocks of samples in the image that all exceed it, a block named by its first
    sample: between four such samples no pixel falls below. The box may be empty, its edges crossed.
    """
    stride = frame.model_size / mask_size
    spans = []
    for start, stop, scale in zip(blocks[:2], blocks[2:], frame.scale, strict=True):
        first, last = ((start + 0.5) * stride + 1) / scale + 1, ((stop + 0.5) * stride - 1) / scale - 1
        spans.append((math.ceil(first), math.floor(last)))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def column_bands(
    window: LogitWindow, frame: Frame, mask_size: int, max_pixels: int
) -> Iterator[tuple[int, Float[Tensor, "h c"]]]:
    """Yield the window's logits in bands of about `max_pixels` pixels: the first column in the image, (h, c).

    The same two bilinear steps as `upsample_logits`, in its order.
    """
    x0, y0, x1, y1 = window.box
    spans = [_span(start, stop, *sides) for start, stop, sides in zip((x0, y0), (x1, y1), _sides(frame), strict=True)]
    (left, right), (top, bottom) = spans
    device, sides = window.logits.device, (mask_size, frame.model_size)
    across, down = _Taps(left, right, *sides, device), _Taps(top, bottom, *sides, device)
    model = down.rows(across.columns(window.logits, window.origin[0]), window.origin[1])
    (width, height) = _sides(frame)
    down = _Taps(y0, y1, *height, device)
    band = max(1, max_pixels // max(y1 - y0, bottom - top, 1))
    for start in range(x0, x1, band):
        columns = _Taps(start, min(start + band, x1), *width, device).columns(model, left)
        yield start, down.rows(columns, top)


def upsample_window(logits: Float[Tensor, "hm wm"], frame: Frame, box: Box) -> Float[Tensor, "h w"]:
    """Return what `upsample_logits` gives in `box`, xyxy in the original image's pixels, for one whole map."""
    window = LogitWindow(logits=logits.float(), origin=(0, 0), box=box)
    whole = [band for _, band in column_bands(window, frame, logits.shape[-1], (box[2] - box[0]) * frame.original[0])]
    return torch.cat(whole, 1) if whole else logits.new_zeros(box[3] - box[1], 0)


class _Taps:
    """Along one side, the two samples that each of the pixels from `start` to before `stop` lies between.

    Computed in float32, as torch's own interpolation does, so that the weights are the same to the last bit.
    """

    def __init__(self, start: int, stop: int, size: int, out_size: int, device: torch.device) -> None:
        scale = float(np.float32(size) / np.float32(out_size))
        places = (torch.arange(start, stop, dtype=torch.float32, device=device) + 0.5) * scale - 0.5
        places.clamp_(min=0)
        self.low: Int[Tensor, " n"] = places.long()
        self.high: Int[Tensor, " n"] = (self.low + 1).clamp_(max=size - 1)
        self.share: Float[Tensor, " n"] = places - self.low

    def columns(self, x: Float[Tensor, "h w"], first: int) -> Float[Tensor, "h n"]:
        """Interpolate along the rows of a part whose first column is `first`."""
        low, high = (taps.sub(first).clamp_(0, x.shape[1] - 1) for taps in (self.low, self.high))
        return x.index_select(1, low).mul_(1 - self.share).addcmul_(x.index_select(1, high), self.share)

    def rows(self, x: Float[Tensor, "h w"], first: int) -> Float[Tensor, "n w"]:
        """Interpolate along the columns of a part whose first row is `first`."""
        low, high = (taps.sub(first).clamp_(0, x.shape[0] - 1) for taps in (self.low, self.high))
        share = self.share[:, None]
        return x.index_select(0, low).mul_(1 - share).addcmul_(x.index_select(0, high), share)


def _sides(frame: Frame) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the resized and the original width, and the same of the height."""
    return (frame.resized[1], frame.original[1]), (frame.resized[0], frame.original[0])


def _span(start: int, stop: int, size: int, out_size: int) -> tuple[int, int]:
    """Return the samples that the pixels from `start` to before `stop` are made of, with one to spare."""
    scale = size / out_size
    first = math.floor((start + 0.5) * scale - 0.5) - 1
    last = math.floor((stop - 0.5) * scale - 0.5) + 2
    return max(first, 0), min(last + 1, size)
