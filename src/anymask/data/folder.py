"""Folders of images beside their masks, as annotation tools and data sets on the web leave them.

Images lie in `<folder>/images` where there is one, else in the folder itself; masks in `<folder>/masks`, else beside
the images. The masks of `x.jpg` are either `x.png`, a map whose every value but 0 is one mask (instance ids, palette
indices, colours; a binary mask has one such value), or all files of a folder `x`, a mask each, whatever is over half
of the file's brightest value.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Int
from PIL import Image

from anymask.data.cache import ImageCache
from anymask.data.channels import ChannelMapping, read_mapped, stated
from anymask.data.sa1b import pick
from anymask.data.sample import Sample
from anymask.data.signatures import signature
from anymask.errors import DataError

_LOG = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")


class FolderFiles:
    """The images of folders that have masks, in the order of their names.

    `masks` is the folder that the masks lie in, where they lie elsewhere; `channels` says how images are read that are
    no plain pictures. Images without masks are counted and named in the log. Raises DataError where a folder is missing
    or none of its images has masks.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        *,
        masks: str | Path | None = None,
        channels: ChannelMapping | None = None,
        cache: ImageCache | None = None,
    ) -> None:
        self.cache, self.channels = cache, channels
        beside = None if masks is None else Path(masks)
        self._pairs = [pair for folder in folders for pair in _pairs(Path(folder), beside)]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._pairs)

    def key(self, index: int) -> str:
        """Return the image's path."""
        return str(self._pairs[index][0])

    def signature(self) -> str:
        """Return what changes where the images or their masks do."""
        masks = [sorted(found.iterdir()) if found.is_dir() else found for _, found in self._pairs]
        return signature([image for image, _ in self._pairs], masks, stated(self.channels))

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random.

        Raises DataError (or ImageError) where a file is broken, no mask is left, or sizes differ.
        """
        path, beside = self._pairs[index]
        try:
            if self.cache is None or self.channels is not None:
                image = read_mapped(path, self.channels)
            else:
                image = self.cache.read(path.read_bytes())
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        size = (image.shape[0], image.shape[1])
        masks = _separate(beside, size, max_masks, rng) if beside.is_dir() else _map(beside, size, max_masks, rng)
        return Sample(key=str(path), image=image, masks=masks)


def _pairs(folder: Path, elsewhere: Path | None = None) -> list[tuple[Path, Path]]:
    """Find each image's mask file or folder of masks."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    images, masks = folder / "images", elsewhere or folder / "masks"
    images = images if images.is_dir() else folder
    masks = masks if masks.is_dir() else images
    files = sorted(file for file in images.iterdir() if file.is_file() and file.suffix.lower() in IMAGE_SUFFIXES)
    pairs: list[tuple[Path, Path]] = []
    alone: list[Path] = []
    for file in files:
        beside = [masks / file.stem, *(masks / f"{file.stem}{suffix}" for suffix in MASK_SUFFIXES)]
        found = next((m for m in beside if m != file and (m.is_dir() or m.is_file())), None)
        if found is not None:
            pairs.append((file, found))
        else:
            alone.append(file)
    used = {mask for _, mask in pairs}
    alone = [file for file in alone if file not in used]
    if not pairs:
        other = elsewhere or folder / "masks"
        raise DataError(f"no image in {folder} has masks: x.jpg needs x.png or a folder x, here or in {other}")
    if alone:
        _LOG.warning("skipped %d images of %s without masks, such as %s", len(alone), folder, alone[0].name)
    return pairs


def _separate(
    folder: Path, size: tuple[int, int], most: int | None, rng: np.random.Generator | None
) -> Bool[np.ndarray, "m h w"]:
    """Read a folder of binary masks; empty ones are left out."""
    files = sorted(f for f in folder.iterdir() if f.is_file() and f.suffix.lower() in IMAGE_SUFFIXES)
    masks = []
    for i in pick(len(files), most, rng):
        values = _values(files[i], size)
        if values.any():
            masks.append(values > values.max() / 2)
    if not masks:
        raise DataError(f"{folder} holds no mask that is not empty")
    return np.stack(masks)


def _map(
    file: Path, size: tuple[int, int], most: int | None, rng: np.random.Generator | None
) -> Bool[np.ndarray, "m h w"]:
    """Read a map of instances, or a binary mask, which is a map of one."""
    values = _values(file, size)
    if values.max() == 255 and not _has_interior(values):
        values = (values > 127).astype(np.int64)
    labels = [int(v) for v in np.unique(values) if v]
    if not labels:
        raise DataError(f"{file} holds no mask: every pixel is 0")
    return np.stack([values == labels[i] for i in pick(len(labels), most, rng)])


def _has_interior(values: Int[np.ndarray, "h w"]) -> bool:
    """Whether a value between 0 and 255 fills a 3×3 square; in a binary mask with smoothed edges none does."""
    grey, square = values.astype(np.uint8), np.ones((3, 3), np.uint8)
    flat = cv2.erode(grey, square) == cv2.dilate(grey, square)
    return bool((flat & (values > 0) & (values < 255)).any())


def _values(file: Path, size: tuple[int, int]) -> Int[np.ndarray, "h w"]:
    """Read a map's numbers as they are stored: grey of any depth, palette indices; colours as one number each."""
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB") if image.mode in ("RGBA", "CMYK", "YCbCr") else image)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{file} cannot be read as a mask: {error}") from error
    if pixels.shape[:2] != size:
        raise DataError(
            f"{file} has {pixels.shape[0]} x {pixels.shape[1]} pixels, its image {size[0]} x {size[1]}; "
            "they must be the same"
        )
    if pixels.ndim == 2:
        return pixels.astype(np.int64)
    if pixels.shape[2] == 2:  # grey with alpha
        return pixels[:, :, 0].astype(np.int64)
    if (pixels == pixels[:, :, :1]).all():
        return pixels[:, :, 0].astype(np.int64)
    return np.asarray((pixels.astype(np.int64) * (1, 256, 65536)).sum(2))
