"""What is annotated on images, for benchmarks: categories, crowds and areas besides the masks.

Training asks for masks alone, and refuses a file that does not fit its images; a benchmark leaves out what cannot be
used, and says how much that was. Both read with `anymask.data.open`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from anymask.data.channels import ChannelMapping
from anymask.data.open import open_sets
from anymask.data.readers.coco import CocoFiles
from anymask.data.readers.coco_document import MALFORMED, ImageEntry
from anymask.data.sample import SampleSet
from anymask.geometry import rle


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageTruth:
    """The n annotated masks of one image."""

    key: str
    image_id: int
    size: tuple[int, int]
    """(height, width) in pixels."""
    masks: list[rle.RLE]
    categories: Int[np.ndarray, " n"]
    areas: Float[np.ndarray, " n"]
    """As annotated, which need not be the mask's pixels; sizes are told apart by it."""
    crowd: Bool[np.ndarray, " n"]
    """Masks of groups: whatever lies in one counts neither for nor against."""
    negative: frozenset[int] | None = None
    """LVIS: categories surely absent; of others than these and those present nothing is known. None: all are known."""
    not_exhaustive: frozenset[int] = frozenset()
    """LVIS: categories of which not every object is annotated."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many of its annotations cannot be used, by the reason."""


class TruthSet(Protocol):
    """Images with annotations and random access."""

    @property
    def frequency(self) -> Mapping[int, str]:
        """LVIS: whether a category is rare, common or frequent, as r, c or f; empty elsewhere."""
        ...

    @property
    def names(self) -> Mapping[int, str]:
        """What categories are called, as far as a file says so."""
        ...

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many annotations that are of no image cannot be used, by the reason; an image's own are in its truth."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def key(self, index: int) -> str:
        """Return an image's name."""
        ...

    def fingerprint(self) -> str:
        """Return what changes where the images or their annotations do."""
        ...

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], ImageTruth]:
        """Read an image and what is annotated on it; raises AnymaskError."""
        ...


class CocoTruth:
    """The images of a COCO or LVIS file, those without annotations included, in the order of their ids.

    Annotations of images that are not in the file, outside their image, without a mask, or malformed are left out and
    counted. `files` must keep crowds and images without masks.
    """

    def __init__(self, files: CocoFiles) -> None:
        self.files = files
        self._order = sorted(range(len(files)), key=lambda index: files.entry(index).id)
        self.frequency = dict(files.document.frequency)
        self.names = dict(files.categories)
        self.left_out: Counter[str] = Counter(files.left_out)

    @classmethod
    def open(
        cls, path: str | Path, images: str | Path | None = None, *, channels: ChannelMapping | None = None
    ) -> CocoTruth:
        """Read a file; `images` is the folder of its images, looked for near the file if None. Raises DataError."""
        return cls(CocoFiles(images, path, channels=channels, strict=False, unlabelled=True, crowds=True))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._order)

    def entry(self, index: int) -> ImageEntry:
        """Return what the file says of an image."""
        return self.files.entry(self._order[index])

    def key(self, index: int) -> str:
        """Return the image's name in the file."""
        return self.entry(index).file_name

    def fingerprint(self) -> str:
        """Return what changes where the file or the images do."""
        return self.files.fingerprint()

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], ImageTruth]:
        """Read an image and its annotations; raises DataError or ImageError."""
        return self.read_pixels(index), self.truth(index)

    def read_pixels(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Read an image; raises DataError where it has another size than the file says, ImageError if unreadable."""
        return self.files.read(self._order[index])

    def truth(self, index: int) -> ImageTruth:
        """Return an image's annotations; those that cannot be used are counted."""
        entry, found = self.entry(index), self.files.annotations(self._order[index])
        left_out = Counter(found.left_out)
        named = [mask for mask in found.masks if mask.category is not None or mask.label is None]
        if len(named) < len(found.masks):  # a category that is no number
            left_out[MALFORMED] += len(found.masks) - len(named)
        # Where categories do not count, pycocotools still goes through them in turn, which decides ties.
        masks = sorted(named, key=lambda mask: 1 if mask.category is None else mask.category)
        return ImageTruth(
            key=entry.file_name,
            image_id=entry.id,
            size=found.size,
            masks=[mask.rle for mask in masks],
            categories=np.array([1 if mask.category is None else mask.category for mask in masks], np.int64),
            areas=np.array([rle.area(m.rle) if m.area is None else m.area for m in masks], np.float64),
            crowd=np.array([mask.crowd for mask in masks], bool),
            negative=entry.negative,
            not_exhaustive=entry.not_exhaustive,
            left_out=dict(left_out),
        )


class SampleTruth:
    """Any labelled images as truth without categories: each mask an object of one kind."""

    def __init__(self, images: SampleSet) -> None:
        self.images = images
        self.frequency: dict[int, str] = {}
        self.names: dict[int, str] = {}
        self.left_out: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def key(self, index: int) -> str:
        """Return an image's name."""
        return self.images.key(index)

    def fingerprint(self) -> str:
        """Return what changes where the images or their masks do."""
        return self.images.fingerprint()

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], ImageTruth]:
        """Read an image and its masks, empty ones left out and counted; raises AnymaskError."""
        sample = self.images.sample(index)
        masks = sample.masks[sample.masks.any(axis=(1, 2))]
        num_empty = len(sample.masks) - len(masks)
        truth = ImageTruth(
            key=self.key(index),
            image_id=index + 1,
            size=(sample.image.shape[0], sample.image.shape[1]),
            masks=rle.encode_many(masks),
            categories=np.ones(len(masks), np.int64),
            areas=masks.sum(axis=(1, 2)).astype(np.float64),
            crowd=np.zeros(len(masks), bool),
            left_out={"empty": num_empty} if num_empty else {},
        )
        return sample.image, truth


def open_truths(
    paths: Sequence[str | Path], *, images: str | Path | None = None, channels: ChannelMapping | None = None
) -> dict[str, TruthSet]:
    """Open data sets with categories, crowds and areas where files know them, images without masks included."""
    sets = open_sets(paths, images=images, channels=channels, everything=True)
    return {name: CocoTruth(each) if isinstance(each, CocoFiles) else SampleTruth(each) for name, each in sets.items()}
