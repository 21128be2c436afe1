"""Which images of a set a benchmark takes, and sets as truth."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path

import numpy as np

from anymask.data.channels import ChannelMapping
from anymask.data.open import open_sets
from anymask.data.readers.coco import CocoFiles
from anymask.evaluation.coco.truth import CocoTruth, SampleTruth, TruthSet

__all__ = ["TruthSet", "draw_images", "num_drawn", "open_truths", "seeded"]


def open_truths(
    paths: Sequence[str | Path], *, images: str | Path | None = None, channels: ChannelMapping | None = None
) -> dict[str, TruthSet]:
    """Open data sets with categories, crowds and areas where files know them, images without masks included."""
    sets = open_sets(paths, images=images, channels=channels, everything=True)
    return {name: CocoTruth(each) if isinstance(each, CocoFiles) else SampleTruth(each) for name, each in sets.items()}


def seeded(seed: int, name: str) -> np.random.Generator:
    """Return a generator of a seed and a name, the same wherever and after whatever else it is asked for."""
    return np.random.default_rng([seed, zlib.crc32(name.encode(errors="surrogateescape"))])


def draw_images(count: int, limit: int | None, rng: np.random.Generator) -> list[int]:
    """Return the indices of `count` images, or of `limit` of them drawn at random, in ascending order."""
    if limit is None or count <= limit:
        return list(range(count))
    drawn: list[int] = rng.choice(count, limit, replace=False).tolist()
    return sorted(drawn)


def num_drawn(sets: Iterable[Sized], limit: int | None) -> int:
    """Return how many images `draw_images` takes of several sets together, each of at most `limit`."""
    return sum(len(each) if limit is None else min(len(each), limit) for each in sets)
