"""Labelled sets of several places as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from anymask.data.sample import AnnotatedSet, Annotations, Sample
from anymask.data.signatures import signature
from anymask.errors import DataError


class JoinedFiles:
    """Labelled sets, one after the other. Raises DataError where there is none."""

    def __init__(self, sets: Sequence[AnnotatedSet]) -> None:
        if not sets:
            raise DataError("no place of labelled images was given")
        self.sets = list(sets)
        self._ends = list(accumulate(len(each) for each in self.sets))

    def __len__(self) -> int:
        """Return the number of images."""
        return self._ends[-1]

    def key(self, index: int) -> str:
        """Return the image's name in its set."""
        files, place = self._place(index)
        return files.key(place)

    def signature(self) -> str:
        """Return what changes where the images or their masks do."""
        return signature([each.signature() for each in self.sets])

    def source(self, index: int) -> Path | bytes:
        """Return where the image's file lies, or what is in it; raises DataError."""
        files, place = self._place(index)
        return files.source(place)

    def annotations(self, index: int) -> Annotations:
        """Return what is said of an image; raises AnymaskError."""
        files, place = self._place(index)
        return files.annotations(place)

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random; raises AnymaskError."""
        files, place = self._place(index)
        return files.sample(place, max_masks=max_masks, rng=rng)

    def _place(self, index: int) -> tuple[AnnotatedSet, int]:
        number = bisect_right(self._ends, index)
        return self.sets[number], index - (self._ends[number - 1] if number else 0)
