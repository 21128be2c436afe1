"""One image with its masks, the unit that every data source yields; sets of them, and parts of sets."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Int, Int8, UInt8

from anymask.errors import DataError
from anymask.geometry.rle import RLE

_LOG = logging.getLogger(__name__)

WHOLE, PART, SUBPART = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An RGB image and its boolean masks, with their place in the whole/part/subpart hierarchy where it is known.

    Shapes: image (h, w, 3) uint8 RGB; masks (m, h, w) bool in the image's own frame; levels (m,) with 0 whole,
    1 part, 2 subpart; parents (m,) the index of the mask a mask belongs to, -1 for none. `levels` and `parents`
    are None where the source does not know them. Raises DataError when the shapes do not fit together.
    """

    key: str
    image: UInt8[np.ndarray, "h w 3"]
    masks: Bool[np.ndarray, "m h w"]
    levels: Int8[np.ndarray, " m"] | None = None
    parents: Int[np.ndarray, " m"] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Check that image, masks and hierarchy agree."""
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise DataError(
                f"sample {self.key!r}: the image is {self.image.dtype} {self.image.shape}; expected uint8 (h, w, 3)"
            )
        if self.masks.ndim != 3 or self.masks.dtype != np.bool_ or self.masks.shape[1:] != self.image.shape[:2]:
            raise DataError(
                f"sample {self.key!r}: the masks are {self.masks.dtype} {self.masks.shape}; expected bool "
                f"(m, {self.image.shape[0]}, {self.image.shape[1]})"
            )
        for name, values in (("levels", self.levels), ("parents", self.parents)):
            if values is not None and values.shape != (len(self.masks),):
                raise DataError(
                    f"sample {self.key!r}: {name} has shape {values.shape}; expected ({len(self.masks)},), one per mask"
                )
        if self.parents is not None and len(self.parents):
            if self.parents.min() < -1 or self.parents.max() >= len(self.masks):
                raise DataError(
                    f"sample {self.key!r}: parents must be -1 or an index below {len(self.masks)}, "
                    f"got {self.parents.min()} to {self.parents.max()}"
                )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnnotatedMask:
    """A mask in its stored form, and what its source says of it."""

    id: str
    """As its source has it, with a word for the kind of source: the same whenever the source is read."""
    rle: RLE
    category: int | None = None
    """The number of its class, where classes have numbers."""
    label: str | None = None
    """The name of its class."""
    score: float | None = None
    crowd: bool = False
    """Whether it outlines a group of objects as one."""
    area: float | None = None
    """In pixels as annotated, which need not be the mask's own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageAnnotations:
    """What a source says of one image."""

    size: tuple[int, int]
    """(height, width), upright."""
    masks: Sequence[AnnotatedMask]
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many annotations cannot be used, by the reason."""


class SampleSet(Protocol):
    """Labelled images with random access."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def key(self, index: int) -> str:
        """Return an image's name."""
        ...

    def fingerprint(self) -> str:
        """Return what changes where the images or their masks do."""
        ...

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random; raises AnymaskError."""
        ...


class AnnotatedSet(SampleSet, Protocol):
    """Labelled images as they lie in files, which tell more of a mask than its pixels."""

    def source(self, index: int) -> Path | bytes:
        """Return where the image's file lies, or what is in it; raises DataError."""
        ...

    def annotations(self, index: int) -> ImageAnnotations:
        """Return what is said of an image, none of its pixels decoded where that can be; raises AnymaskError."""
        ...


@dataclass(slots=True)
class Skipped:
    """What a reader could not use: how many, why, and a line in the log for each, when it is first met."""

    reasons: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)

    def add(self, key: str, error: Exception) -> None:
        """Count and log one sample that is left out."""
        self.reasons[type(error).__name__] += 1
        if key not in self.keys:
            self.keys.add(key)
            _LOG.warning("skipped %s: %s", key, error)

    @property
    def total(self) -> int:
        """How often a sample was left out so far."""
        return sum(self.reasons.values())


def sample_indices(count: int, most: int | None, rng: np.random.Generator | None) -> list[int]:
    """Return the indices of `count` masks, or of `most` of them drawn at random, in ascending order."""
    if most is None or count <= most:
        return list(range(count))
    drawn: list[int] = (rng or np.random.default_rng()).choice(count, most, replace=False).tolist()
    return sorted(drawn)


class Subset:
    """Some images of a set."""

    def __init__(self, files: SampleSet, indices: Sequence[int]) -> None:
        self.files, self.indices = files, list(indices)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.indices)

    def key(self, index: int) -> str:
        """Return the image's name in the whole set."""
        return self.files.key(self.indices[index])

    def fingerprint(self) -> str:
        """Return what changes where the images or their masks do."""
        return fingerprint(self.files.fingerprint(), self.indices)

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random; raises AnymaskError."""
        return self.files.sample(self.indices[index], max_masks=max_masks, rng=rng)


class InMemorySamples:
    """Samples that are in memory."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = list(samples)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._samples)

    def key(self, index: int) -> str:
        """Return the sample's key."""
        return self._samples[index].key

    def fingerprint(self) -> str:
        """Return what changes where the images or their masks do."""
        arrays = [(sample.image, sample.masks) for sample in self._samples]
        return fingerprint([[hashlib.sha256(part.tobytes()).hexdigest() for part in parts] for parts in arrays])

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Return a sample; all of its masks."""
        return self._samples[index]


def split(files: SampleSet, shares: Sequence[float]) -> list[Subset]:
    """Split a set by image: first what the shares leave over, then a part for each share, of at least one image.

    Which part an image is in follows from its name alone, but for the images at the parts' borders. Raises DataError
    where there are too few images.
    """
    least = len(shares) + 1
    if len(files) < least:
        raise DataError(f"there are {len(files)} images with masks; at least {least} are needed, to hold some out")
    keys = (Path(files.key(index)).name.encode(errors="surrogateescape") for index in range(len(files)))
    names = [hashlib.sha256(key).digest() for key in keys]
    order = sorted(range(len(files)), key=lambda index: (names[index], index))
    parts: list[Subset] = []
    for place, share in enumerate(shares):
        room = len(order) - 1 - (len(shares) - place - 1)
        count = min(max(1, round(share * len(files))), room)
        parts.append(Subset(files, sorted(order[:count])))
        order = order[count:]
    return [Subset(files, sorted(order)), *parts]


MIN_SHARE = 0.002
"""The least area of a subpart, as a share of the image."""
MAX_RATIO = 0.7
"""The most of a parent's area that a child may have: else the two are one answer."""


def nested(sample: Sample) -> Iterator[Bool[np.ndarray, "3 h w"]]:
    """Yield whole, part and subpart of every chain of masks that are distinct enough to be told apart."""
    if sample.levels is None or sample.parents is None:
        return
    areas = sample.masks.sum((1, 2))
    for index in np.flatnonzero(sample.levels == SUBPART).tolist():
        chain = [index]
        while sample.parents[chain[-1]] >= 0:
            chain.append(int(sample.parents[chain[-1]]))
        distinct = all(areas[a] <= MAX_RATIO * areas[b] for a, b in zip(chain, chain[1:], strict=False))
        if len(chain) == 3 and distinct and areas[index] >= MIN_SHARE * sample.masks[0].size:
            yield sample.masks[chain[::-1]]


def fingerprint(*parts: object) -> str:
    """Return a hash of plain values, 24 hexadecimal digits.

    A path stands for its file's name, size and time of change; a file that is not there counts as such.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_state).encode()).hexdigest()[:24]


def _state(path: object) -> list[str | int]:
    if not isinstance(path, Path):
        raise TypeError(f"{type(path).__name__} is no plain value")
    try:
        found = path.stat()
    except OSError:
        return [path.name]
    return [path.name, found.st_size, found.st_mtime_ns]
