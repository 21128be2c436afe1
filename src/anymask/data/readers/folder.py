"""Folders of images beside their masks, as annotation tools and data sets on the web leave them.

Images lie in `<folder>/images` where there is one, else in the folder itself; masks in `<folder>/masks`, else beside
the images. The masks of `x.jpg` are either `x.png`, a map whose every value but 0 is one mask (instance ids, palette
indices, colours; a binary mask has one such value), or all files of a folder `x`, a mask each, whatever is over half
of the file's brightest value. `anymask.data.readers.mask_pictures` says how a picture becomes masks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anymask.data.cache import ImageCache
from anymask.data.channels import ChannelMapping, read_bands, read_mapped, stated
from anymask.data.images import read_header
from anymask.data.listing import list_images
from anymask.data.readers.mask_pictures import read_map, read_separate
from anymask.data.sample import AnnotatedMask, ImageAnnotations, Sample, fingerprint
from anymask.errors import DataError
from anymask.geometry import rle

_LOG = logging.getLogger(__name__)

_BESIDE = (".png", ".tif", ".tiff", ".bmp", ".gif")
"""Suffixes of masks that lie beside their images: others are images themselves."""


class FolderFiles:
    """The images of folders that have masks, in the order of their names.

    `masks` is the folder that the masks lie in, where they lie elsewhere; `channels` says how images that are not plain
    pictures are read. Images without masks are kept where `unlabelled`, else counted and named in the log. Raises
    DataError where a folder is missing or none of its images has masks.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        *,
        masks: str | Path | None = None,
        channels: ChannelMapping | None = None,
        unlabelled: bool = False,
        cache: ImageCache | None = None,
    ) -> None:
        self.cache, self.channels = cache, channels
        beside = None if masks is None else Path(masks)
        self._pairs = [pair for folder in folders for pair in _pairs(Path(folder), beside, unlabelled)]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._pairs)

    def key(self, index: int) -> str:
        """Return the image's path."""
        return str(self._pairs[index][0])

    def source(self, index: int) -> Path:
        """Return the image's path."""
        return self._pairs[index][0]

    def fingerprint(self) -> str:
        """Return what changes where the images or their masks do."""
        masks = [sorted(found.iterdir()) if found and found.is_dir() else found for _, found in self._pairs]
        return fingerprint([image for image, _ in self._pairs], masks, stated(self.channels))

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random.

        Raises DataError (or ImageError) where a file is broken, no mask is left, or sizes differ.
        """
        path, beside = self._pairs[index]
        if beside is None:
            raise DataError(f"{path} has no masks")
        try:
            if self.cache is None or self.channels is not None:
                image = read_mapped(path, self.channels)
            else:
                image = self.cache.read(path.read_bytes())
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        size = (image.shape[0], image.shape[1])
        read = read_separate if beside.is_dir() else read_map
        return Sample(key=str(path), image=image, masks=read(beside, size, max_masks, rng))

    def annotations(self, index: int) -> ImageAnnotations:
        """Return an image's masks; raises DataError or ImageError, as `sample`."""
        path, beside = self._pairs[index]
        height, width = read_header(path).size if self.channels is None else read_bands(path).shape[:2]
        size = (height, width)
        if beside is None:
            return ImageAnnotations(size=size, masks=[])
        masks = (read_separate if beside.is_dir() else read_map)(beside, size)
        stored = enumerate(rle.encode_many(masks))
        return ImageAnnotations(size=size, masks=[AnnotatedMask(id=f"mask-{n}", rle=mask) for n, mask in stored])


def _pairs(folder: Path, elsewhere: Path | None, unlabelled: bool) -> list[tuple[Path, Path | None]]:
    """Find each image's mask file or folder of masks."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    images, masks = folder / "images", elsewhere or folder / "masks"
    images = images if images.is_dir() else folder
    masks = masks if masks.is_dir() else images
    files = list_images(images)
    named = _masks_by_stem(masks, is_apart=masks != images)
    found = [(file, next((mask for mask in named.get(file.stem, ()) if mask != file), None)) for file in files]
    used = {mask for _, mask in found}
    pairs = [(file, mask) for file, mask in found if mask is not None or (unlabelled and file not in used)]
    alone = [file for file, mask in found if mask is None and file not in used]
    if not any(mask for _, mask in pairs):
        other = elsewhere or folder / "masks"
        raise DataError(f"no image in {folder} has masks: x.jpg needs x.png or a folder x, here or in {other}")
    if alone and not unlabelled:
        _LOG.warning("skipped %d images of %s without masks, such as %s", len(alone), folder, alone[0].name)
    return pairs


def _masks_by_stem(folder: Path, *, is_apart: bool) -> dict[str, list[Path]]:
    """Return folders of masks and mask files by what they are of; folders first, then by the order of suffixes.

    Suffixes count in any case. In a folder `is_apart` from the images any image can be a mask.
    """
    named: dict[str, list[Path]] = {}
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            named.setdefault(path.name, []).append(path)
    files = [path for path in list_images(folder) if is_apart or path.suffix.lower() in _BESIDE]
    for path in files:
        named.setdefault(path.stem, []).append(path)
    for paths in named.values():
        paths.sort(key=_precedence)
    return named


def _precedence(mask: Path) -> tuple[bool, int, str]:
    suffix = mask.suffix.lower()
    return mask.is_file(), _BESIDE.index(suffix) if suffix in _BESIDE else len(_BESIDE), mask.name
