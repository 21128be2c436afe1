"""Data sets as they are named on the command line: tars, annotation files, folders."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from anymask.data.channels import ChannelMapping, read_mapped, stated
from anymask.data.coco import CocoFiles
from anymask.data.folder import FolderFiles
from anymask.data.loader import SampleSet as ImageSet
from anymask.data.sa1b import IMAGE_SUFFIXES, TarFiles, parse_sample
from anymask.data.sample import Sample
from anymask.data.signatures import signature
from anymask.errors import DataError
from anymask.evaluation.coco_truth import CocoTruth, SampleTruth, TruthSet, images_folder

__all__ = ["ImageSet", "Sa1bFolder", "TruthSet", "draw_images", "open_set", "open_sets", "open_truths", "seeded"]


class Sa1bFolder:
    """A folder of `<name>.jpg` beside `<name>.json`, SA-1B's pairs out of their tar, in the order of their names.

    `channels` says how images are read that are no plain pictures.
    """

    def __init__(self, folder: str | Path, *, channels: ChannelMapping | None = None) -> None:
        self.channels = channels
        files = sorted(Path(folder).iterdir())
        self._pairs = [
            (image, image.with_suffix(".json"))
            for image in files
            if image.suffix.lower() in IMAGE_SUFFIXES and image.with_suffix(".json").is_file()
        ]
        if not self._pairs:
            raise DataError(f"no image with its JSON in {folder}")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._pairs)

    def key(self, index: int) -> str:
        """Return the image's path."""
        return str(self._pairs[index][0])

    def signature(self) -> str:
        """Return what changes where the images or their masks do."""
        return signature(self._pairs, stated(self.channels))

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random; raises DataError or ImageError."""
        image, annotations = self._pairs[index]
        try:
            pixels, document = read_mapped(image, self.channels), annotations.read_bytes()
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read: {error.strerror or error}") from error
        return parse_sample(str(image), pixels, document, max_masks=max_masks, rng=rng)


def open_sets(
    paths: Sequence[str | Path], *, images: str | Path | None = None, channels: ChannelMapping | None = None
) -> dict[str, ImageSet]:
    """Open data sets, each named by its file or folder without "-val" or "-train"; a folder of tars is a set a tar.

    `images` is where the images of annotation files (COCO, LVIS) lie, `channels` how images are read, but for those in
    tars, which are RGB. Raises DataError for what is no data set, and for two of one name.
    """
    return {name: open_set(path, images=images, channels=channels) for name, path in _named(paths)}


def open_truths(
    paths: Sequence[str | Path], *, images: str | Path | None = None, channels: ChannelMapping | None = None
) -> dict[str, TruthSet]:
    """Open the same with categories, crowds and areas where files know them, images without masks included."""
    opened: dict[str, TruthSet] = {}
    for name, path in _named(paths):
        if path.suffix.lower() == ".json" and path.is_file():
            opened[name] = CocoTruth.open(path, images, channels=channels)
        else:
            opened[name] = SampleTruth(open_set(path, channels=channels))
    return opened


def seeded(seed: int, name: str) -> np.random.Generator:
    """Return a generator of a seed and a name, the same wherever and after whatever else it is asked for."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def draw_images(count: int, limit: int | None, rng: np.random.Generator) -> list[int]:
    """Return the indices of `count` images, or of `limit` of them drawn at random, in ascending order."""
    if limit is None or count <= limit:
        return list(range(count))
    drawn: list[int] = rng.choice(count, limit, replace=False).tolist()
    return sorted(drawn)


def open_set(path: Path, *, images: str | Path | None = None, channels: ChannelMapping | None = None) -> ImageSet:
    """Open a tar or a folder of SA-1B's layout, a folder of images and masks, or a JSON of COCO's or LVIS' layout."""
    if path.suffix.lower() == ".json" and path.is_file():
        return CocoFiles(images_folder(path, images), path, channels=channels)
    if path.is_dir():
        pairs = any(file.suffix == ".json" and _has_image(file) for file in path.iterdir())
        return Sa1bFolder(path, channels=channels) if pairs else FolderFiles([path], channels=channels)
    return TarFiles([path])


def _named(paths: Sequence[str | Path]) -> Iterator[tuple[str, Path]]:
    """Yield each set's name and path; raises DataError where a name comes twice."""
    names = set()
    for path in (part for given in paths for part in _parts(Path(given))):
        name = (path.resolve().name if path.is_dir() else path.stem).removesuffix("-val").removesuffix("-train")
        if name in names:
            raise DataError(f"two data sets are named {name!r}, the second from {path}: rename one")
        names.add(name)
        yield name, path


def _parts(path: Path) -> list[Path]:
    tars = sorted(path.glob("*.tar")) if path.is_dir() else []
    return tars or [path]


def _has_image(file: Path) -> bool:
    return any(file.with_suffix(suffix).is_file() for suffix in IMAGE_SUFFIXES)
