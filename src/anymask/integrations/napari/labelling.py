"""What the widget does to a labels array, without a window: arrays in, arrays changed, each change undone in one step.

Axes: an image is a picture (y, x) or (y, x, 3 or 4), or a stack of pictures with any axes before these. Points are in
the image's own pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from anymask.data.channels import ChannelMapping, read_mapped
from anymask.data.images import read_image
from anymask.errors import ImageError
from anymask.geometry import rle
from anymask.inference import AutomaticMasks, Predictor
from anymask.model import Sam

Array = np.ndarray[Any, Any]


def picture(plane: Array, channels: ChannelMapping | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Return a plane of any type as a picture: deep values are stretched between percentiles, as `read_image` does.

    `channels` says what becomes red, green and blue of a plane with other channels. Raises ImageError.
    """
    values = np.asarray(plane)
    if channels is not None:
        return read_mapped(values, channels)
    if values.dtype.kind not in "buif" or values.ndim not in (2, 3):
        raise ImageError(f"a plane of shape {values.shape} and type {values.dtype} is no picture: (y, x) or (y, x, 3)")
    if values.dtype in (np.uint8, np.uint16, np.bool_):
        return read_image(values)
    if values.ndim == 2:
        return read_image(Image.fromarray(values.astype(np.float32)))
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    scaled = np.nan_to_num((values.astype(np.float64) - low) / max(high - low, 1e-12), nan=0, posinf=1, neginf=0)
    return read_image((scaled.clip(0, 1) * 65535).astype(np.uint16))


class Labelling:
    """Labels of one image or stack, drawn by a model.

    `labels` has the stack's axes and (y, x), and is changed in place.
    """

    def __init__(
        self, model: Sam, image: Array, labels: Array, *, is_rgb: bool, channels: ChannelMapping | None = None
    ) -> None:
        self.model, self.image, self.labels = model, image, labels
        self._channels = channels
        self._num_axes = image.ndim - (3 if is_rgb or channels is not None else 2)
        if labels.shape != image.shape[: self._num_axes + 2]:
            raise ImageError(
                f"the labels have shape {labels.shape}, the image {image.shape}: give them the image's planes"
            )
        self._predictor = Predictor(model)
        self._place: tuple[int, ...] | None = None
        self._before: list[list[tuple[tuple[int, ...], Array]]] = []

    def prompt(
        self,
        place: Sequence[int],
        label: int,
        *,
        on: Sequence[Sequence[float]] = (),
        off: Sequence[Sequence[float]] = (),
        box: Sequence[float] | None = None,
    ) -> Bool[np.ndarray, "h w"]:
        """Draw the answer to (x, y) points and an (x0, y0, x1, y1) box on the plane at `place`, and return it.

        Raises PromptError where there is no prompt.
        """
        points = [*on, *off]
        self._set(place)
        answer = self._predictor.predict(
            points=points or None, labels=[1] * len(on) + [0] * len(off) if points else None, box=box
        )
        self._before.append([])
        self._draw(tuple(place), answer.best, label)
        return answer.best

    def everything(self, place: Sequence[int]) -> int:
        """Draw masks of everything on the plane at `place`, small ones above large ones, and return how many."""
        records = AutomaticMasks(self.model).generate(picture(self.image[tuple(place)], self._channels))
        self._before.append([])
        first = int(self.labels.max()) + 1
        for number, record in enumerate(sorted(records, key=lambda record: -record.area)):
            self._draw(tuple(place), rle.decode(record.rle), first + number)
        return len(records)

    def follow(
        self, place: Sequence[int], label: int, *, step: int = 1, proceed: Callable[[int], bool] | None = None
    ) -> int:
        """Draw an object through the planes after (`step` 1) or before (−1) one, and return through how many.

        Each plane is asked with the mask of the plane before and its box, until nothing is there, the stack ends, or
        `proceed`, which is told of each plane, says no. Raises ImageError where there is no stack.
        """
        if self._num_axes == 0:
            raise ImageError("the image is one picture and no stack: there is nothing to follow an object through")
        current = list(place)
        last = np.asarray(self.labels[tuple(current)] == label)
        self._before.append([])
        count = 0
        while last.any() and 0 <= current[-1] + step < self.image.shape[self._num_axes - 1]:
            current[-1] += step
            if proceed is not None and not proceed(current[-1]):
                break
            self._set(current)
            rows, columns = np.flatnonzero(last.any(1)), np.flatnonzero(last.any(0))
            box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            answer = self._predictor.predict(box=box, mask=last)
            if answer.object_score is not None and answer.object_score < 0:
                break
            last = answer.best
            if last.any():
                self._draw(tuple(current), last, label)
                count += 1
        return count

    def undo(self) -> bool:
        """Take back the last step; whether there was one."""
        if not self._before:
            return False
        for place, values in reversed(self._before.pop()):
            self.labels[place] = values
        return True

    def _set(self, place: Sequence[int]) -> None:
        """Encode the plane that is asked about, once."""
        key = tuple(place)
        if key != self._place:
            self._place = None
            self._predictor.set_image(picture(self.image[key], self._channels))
            self._place = key

    def _draw(self, place: tuple[int, ...], mask: Bool[np.ndarray, "h w"], label: int) -> None:
        plane = np.asarray(self.labels[place])
        self._before[-1].append((place, plane.copy()))
        self.labels[place] = np.where(mask, label, plane)
