"""Low-resolution logits at the original size, but only inside a window, and there a band of columns at a time.

`resize.upsample_logits` gives the whole map; here is what it gives in a window, at the window's cost. Frames: low (the
logits' own samples), model (resized and padded, `stride` pixels per sample), original image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from anymask.geometry import arrays, boxes
from anymask.geometry.arrays import Array
from anymask.geometry.crops import Box
from anymask.geometry.frames import Frame
from anymask.model import MASK_THRESHOLD

BAND_PIXELS = 1 << 18
"""Pixels of a band, few enough for the processor's cache."""
REACH = 3
"""Samples around those above a threshold that the pixels above it are made of, at most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogitWindow:
    """A part of a low-resolution map, and the part of the original image that is to be made of it."""

    logits: Float[Array, "hl wl"]
    origin: tuple[int, int]
    """(x, y) of the first sample in the whole map."""
    box: Box
    """xyxy in the original image's pixels."""


def num_samples(frame: Frame, mask_size: int) -> tuple[int, int]:
    """Return how many rows and columns of the map reach into the image; the others are made of padding alone."""
    stride = frame.model_size / mask_size
    height, width = (min(mask_size, math.floor(side / stride + 0.5) + 1) for side in frame.resized)
    return height, width


def cut_window(logits: Float[Array, "hm wm"], above: Box, frame: Frame) -> LogitWindow:
    """Cut out what is needed where samples exceed a threshold: `above` is the xyxy box of these samples.

    The window's box holds every pixel of the original image that exceeds the threshold.
    """
    height, width = num_samples(frame, logits.shape[-1])
    x0, y0, x1, y1 = above
    left, top = max(x0 - REACH, 0), max(y0 - REACH, 0)
    part = arrays.copied(logits[top : min(y1 + REACH, height), left : min(x1 + REACH, width)])
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
) -> Iterator[tuple[int, Float[Array, "h c"]]]:
    """Yield the window's logits in bands of about `max_pixels` pixels: the first column in the image, (h, c).

    The same two bilinear steps as `upsample_logits`, in its order.
    """
    x0, y0, x1, y1 = window.box
    spans = [_span(start, stop, *sides) for start, stop, sides in zip((x0, y0), (x1, y1), _sides(frame), strict=True)]
    (left, right), (top, bottom) = spans
    sides = (mask_size, frame.model_size)
    across, down = _Taps(left, right, *sides), _Taps(top, bottom, *sides)
    model = down.rows(across.columns(window.logits, window.origin[0]), window.origin[1])
    (width, height) = _sides(frame)
    down = _Taps(y0, y1, *height)
    band = max(1, max_pixels // max(y1 - y0, bottom - top, 1))
    for start in range(x0, x1, band):
        columns = _Taps(start, min(start + band, x1), *width).columns(model, left)
        yield start, down.rows(columns, top)


def upsample_window(logits: Float[Array, "hm wm"], frame: Frame, box: Box) -> Float[np.ndarray, "h w"]:
    """Return what `upsample_logits` gives in `box`, xyxy in the original image's pixels, for one whole map."""
    x0, y0, x1, y1 = box
    whole = np.empty((y1 - y0, x1 - x0), np.float32)
    window = LogitWindow(logits=arrays.float32(logits), origin=(0, 0), box=box)
    for x, band in column_bands(window, frame, logits.shape[-1], BAND_PIXELS):
        whole[:, x - x0 : x - x0 + band.shape[1]] = arrays.to_numpy(band)
    return whole


def upsample_mask(logits: Float[Array, "hm wm"], frame: Frame) -> Bool[np.ndarray, "h w"]:
    """Return the mask of a whole map at the original size: where what `upsample_logits` gives is above the threshold.

    Only the part that can be above it is interpolated, in float32.
    """
    mask_size = logits.shape[-1]
    rows, columns = num_samples(frame, mask_size)
    above = boxes.from_any_masks(logits[:rows, :columns] > MASK_THRESHOLD).tolist()
    inside = np.zeros(frame.original, np.bool_)
    if above[2] == 0:
        return inside
    window = cut_window(arrays.float32(logits), (above[0], above[1], above[2], above[3]), frame)
    y0, y1 = window.box[1], window.box[3]
    for x, band in column_bands(window, frame, mask_size, BAND_PIXELS):
        inside[y0:y1, x : x + band.shape[1]] = arrays.to_numpy(band > MASK_THRESHOLD)
    return inside


class _Taps:
    """Along one side, the two samples that each of the pixels from `start` to before `stop` lies between.

    Computed in float32, as torch's own interpolation does, so that the weights are the same to the last bit.
    """

    def __init__(self, start: int, stop: int, size: int, out_size: int) -> None:
        scale = np.float32(size) / np.float32(out_size)
        places = np.maximum((np.arange(start, stop, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5), 0)
        self.low: Int[np.ndarray, " n"] = places.astype(np.int64)
        self.high: Int[np.ndarray, " n"] = np.minimum(self.low + 1, size - 1)
        self.share: Float[np.ndarray, " n"] = places - self.low.astype(np.float32)

    def columns(self, x: Float[Array, "h w"], first: int) -> Float[Array, "h n"]:
        """Interpolate along the rows of a part whose first column is `first`."""
        return self._between(x, first, 1, self.share)

    def rows(self, x: Float[Array, "h w"], first: int) -> Float[Array, "n w"]:
        """Interpolate along the columns of a part whose first row is `first`."""
        return self._between(x, first, 0, self.share[:, None])

    def _between(self, x: Float[Array, "h w"], first: int, axis: int, share: Float[np.ndarray, ...]) -> Array:
        low, high = (np.clip(taps - first, 0, x.shape[axis] - 1) for taps in (self.low, self.high))
        mixed, other = arrays.take(x, low, axis), arrays.take(x, high, axis)
        mixed *= arrays.like(1 - share, x)
        other *= arrays.like(share, x)
        mixed += other
        return mixed


def _sides(frame: Frame) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the resized and the original width, and the same of the height."""
    return (frame.resized[1], frame.original[1]), (frame.resized[0], frame.original[0])


def _span(start: int, stop: int, size: int, out_size: int) -> tuple[int, int]:
    """Return the samples that the pixels from `start` to before `stop` are made of, with one to spare."""
    scale = size / out_size
    first = math.floor((start + 0.5) * scale - 0.5) - 1
    last = math.floor((stop - 0.5) * scale - 0.5) + 2
    return max(first, 0), min(last + 1, size)
