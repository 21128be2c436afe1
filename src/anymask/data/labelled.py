"""Labelled pictures of any kind that a user has, opened by where they lie, and split by image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anymask.data.channels import ChannelMapping
from anymask.data.coco import CocoFiles
from anymask.data.folder import FolderFiles
from anymask.data.loader import SampleSet
from anymask.data.sa1b import TarFiles
from anymask.data.sample import Sample
from anymask.data.signatures import signature
from anymask.errors import DataError


def open_labelled(
    images: str | Path, annotations: str | Path | None = None, *, channels: ChannelMapping | None = None
) -> SampleSet:
    """Open a COCO or LVIS file with its images, SA-1B's tars, or a folder of images and one of masks.

    `images` is a folder, or a tar or a folder of tars that need no `annotations`; `annotations` is a .json file, a
    folder of masks, or None where the masks lie with the images. `channels` says how images are read; those in tars are
    RGB. Raises DataError.
    """
    images = Path(images)
    if annotations is not None:
        annotations = Path(annotations)
        if annotations.is_dir():
            return FolderFiles([images], masks=annotations, channels=channels)
        if not annotations.exists():
            raise DataError(f"there is no file or folder {annotations}")
        return CocoFiles(images, annotations, channels=channels)
    if not images.exists():
        raise DataError(f"there is no file or folder {images}")
    tars = sorted(images.glob("*.tar")) if images.is_dir() else [images]
    if tars and channels is not None:
        raise DataError(f"{images}: channels can be stated for files in a folder, not for pictures in tars")
    return TarFiles(tars) if tars else FolderFiles([images], channels=channels)


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

    def signature(self) -> str:
        """Return what changes where the images or their masks do."""
        return signature(self.files.signature(), self.indices)

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random; raises AnymaskError."""
        return self.files.sample(self.indices[index], max_masks=max_masks, rng=rng)


class Held:
    """Samples that are in memory."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = list(samples)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._samples)

    def key(self, index: int) -> str:
        """Return the sample's key."""
        return self._samples[index].key

    def signature(self) -> str:
        """Return what changes where the images or their masks do."""
        arrays = [(sample.image, sample.masks) for sample in self._samples]
        return signature([[hashlib.sha256(part.tobytes()).hexdigest() for part in parts] for parts in arrays])

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
    names = [hashlib.sha256(Path(files.key(i)).name.encode()).digest() for i in range(len(files))]
    order = sorted(range(len(files)), key=lambda index: (names[index], index))
    parts: list[Subset] = []
    for place, share in enumerate(shares):
        room = len(order) - 1 - (len(shares) - place - 1)
        count = min(max(1, round(share * len(files))), room)
        parts.append(Subset(files, sorted(order[:count])))
        order = order[count:]
    return [Subset(files, sorted(order)), *parts]
