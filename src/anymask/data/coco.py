"""A COCO or LVIS file and the folder of its images, every entry checked before the first is used.

Both hold lists `images` and `annotations`; LVIS has no `file_name`, but an address that ends in it. Masks are polygons
or run lengths. Left out, and counted in the log: crowds, and annotations that have only a box.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anymask.data.channels import ChannelMapping, read_bands, read_mapped, stated
from anymask.data.images import ImageSource, read_header
from anymask.data.sa1b import pick
from anymask.data.sample import Sample
from anymask.data.signatures import signature
from anymask.errors import DataError
from anymask.geometry import polygons, rle

_LOG = logging.getLogger(__name__)

_BEYOND = 2.0
"""Pixels that a polygon may reach beyond its image: annotation tools round."""


class CocoFiles:
    """The images of a COCO or LVIS file that have masks, in the file's order.

    `folder` holds the images, under their names in the file or without the folders that those begin with. Raises
    DataError, naming the entry by its id, where the file is no such file, an id is there twice, an image is missing
    or of another size, or a mask lies outside its image. Sizes are in the frame of the image as it is shown, upright.
    `channels` says how images are read that are no plain pictures.
    """

    def __init__(self, folder: str | Path, annotations: str | Path, *, channels: ChannelMapping | None = None) -> None:
        self.channels = channels
        self.folder, self.path = Path(folder), Path(annotations)
        if not self.folder.is_dir():
            raise DataError(f"there is no folder {self.folder}")
        values = _read(self.path)
        images = _by_id(values["images"], "images", self.path)
        objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for entry in self._usable(_by_id(values["annotations"], "annotations", self.path), images):
            objects[entry["image_id"]].append(entry)
        files = self._find({key: image for key, image in images.items() if key in objects})
        self._entries = [(files[key], self._size(images[key], files[key]), objects[key]) for key in files]
        self.categories = _names(values.get("categories"))
        """The names of categories by their ids, as far as the file has any."""
        for path, size, entries in self._entries:
            for entry in entries:
                self._check_inside(entry, path, size)
        if not self._entries:
            raise DataError(f"{self.path}: none of its {len(images)} images has a mask")

    def __len__(self) -> int:
        """Return the number of images that have masks."""
        return len(self._entries)

    def key(self, index: int) -> str:
        """Return the image's path."""
        return str(self._entries[index][0])

    def source(self, index: int) -> ImageSource:
        """Return where the image can be read."""
        return self._entries[index][0]

    def objects(self, index: int) -> tuple[tuple[int, int], list[tuple[int, int | None, rle.RLE]]]:
        """Return an image's (height, width) and, of each annotation, its id, its category's and its mask.

        Raises DataError.
        """
        _, size, entries = self._entries[index]
        return size, [(entry["id"], entry.get("category_id"), self._mask(entry, size)) for entry in entries]

    def signature(self) -> str:
        """Return what changes where the images or their masks do."""
        return signature(self.path, [path for path, _, _ in self._entries], stated(self.channels))

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random; raises DataError or ImageError."""
        path, size, entries = self._entries[index]
        image = read_mapped(path, self.channels)
        if image.shape[:2] != size:
            raise DataError(f"{path} has changed: it is {image.shape[1]}×{image.shape[0]} pixels now")
        stored = [self._mask(entries[i], size) for i in pick(len(entries), max_masks, rng)]
        return Sample(key=str(path), image=image, masks=np.stack([rle.decode(mask) for mask in stored]))

    def _usable(self, entries: Mapping[int, dict[str, Any]], images: Mapping[int, Any]) -> Iterator[dict[str, Any]]:
        """Yield the annotations that have a mask of one object."""
        left_out: Counter[str] = Counter()
        for key, entry in entries.items():
            if entry.get("image_id") not in images:
                raise DataError(
                    f"{self.path}: annotation {key} is of image {entry.get('image_id')!r}, which is not there"
                )
            if entry.get("iscrowd"):
                left_out["crowds"] += 1
            elif not entry.get("segmentation"):
                left_out["without a mask"] += 1
            else:
                yield entry
        if left_out:
            kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
            _LOG.warning("%s: annotations left out: %s", self.path, kinds)

    def _find(self, images: Mapping[int, dict[str, Any]]) -> dict[int, Path]:
        """Find each image's file; says how many are missing, and the first."""
        files, missing = {}, []
        for key, image in images.items():
            name = _file_name(image)
            if name is None:
                raise DataError(f"{self.path}: image {key} has neither file_name nor coco_url")
            places = [self.folder / name, self.folder / Path(name).parent.name / Path(name).name]
            found = next((p for p in (*places, self.folder / Path(name).name) if p.is_file()), None)
            if found is None:
                missing.append((key, name))
            else:
                files[key] = found
        if missing:
            (key, name), others = missing[0], len(missing) - 1
            more = f", and so are {others} more" if others else ""
            raise DataError(f"{self.path}: the file {name} of image {key} is not in {self.folder}{more}")
        return files

    def _size(self, image: Mapping[str, Any], path: Path) -> tuple[int, int]:
        """Return an image's (height, width) from its file's header; raises DataError where the annotations differ."""
        size = read_header(path).size if self.channels is None else read_bands(path).shape[:2]
        named = (image.get("height", size[0]), image.get("width", size[1]))
        if tuple(named) != size:
            turned = "; its EXIF tag turns it, the annotations do not" if tuple(named) == size[::-1] else ""
            raise DataError(
                f"{self.path}: image {image['id']} is said to be {named[1]}×{named[0]} pixels, {path} is "
                f"{size[1]}×{size[0]}{turned}"
            )
        return size

    def _check_inside(self, entry: Mapping[str, Any], path: Path, size: tuple[int, int]) -> None:
        """Refuse polygons that reach out of their image, and run lengths of another size."""
        height, width = size
        segmentation = entry["segmentation"]
        if isinstance(segmentation, Mapping):
            if list(segmentation.get("size", ())) != [height, width]:
                found = str(segmentation.get("size"))[:40]
                raise DataError(
                    f"{self.path}: annotation {entry['id']} is a mask of size {found}, its image {path.name} has "
                    f"[{height}, {width}]"
                )
            return
        for ring in segmentation if isinstance(segmentation, list) else [segmentation]:
            values = _numbers(ring)
            if values is None:
                raise DataError(
                    f"{self.path}: annotation {entry['id']} has a polygon that is no list [x, y, x, y, …] of three or "
                    "more points"
                )
            (x0, y0), (x1, y1) = values.min(0), values.max(0)
            if min(x0, y0) < -_BEYOND or x1 > width + _BEYOND or y1 > height + _BEYOND:
                raise DataError(
                    f"{self.path}: annotation {entry['id']} reaches from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}), "
                    f"outside its image {path.name} of {width}×{height} pixels"
                )

    def _mask(self, entry: Mapping[str, Any], size: tuple[int, int]) -> rle.RLE:
        try:
            return polygons.from_coco(entry["segmentation"], size)
        except DataError as error:
            raise DataError(f"{self.path}: annotation {entry['id']} cannot be used: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    lists = ("images", "annotations")
    if not isinstance(values, dict) or not all(isinstance(values.get(name), list) for name in lists):
        raise DataError(f"{path} is no COCO file: an object with the lists images and annotations was expected")
    return values


def _by_id(entries: list[Any], kind: str, path: Path) -> dict[int, dict[str, Any]]:
    """Return entries by their ids; raises DataError where one has none, or two the same."""
    found: dict[int, dict[str, Any]] = {}
    places: dict[int, int] = {}
    for place, entry in enumerate(entries):
        key = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(key, int):
            raise DataError(f"{path}: {kind}[{place}] has no id, which is a whole number")
        if key in found:
            raise DataError(f"{path}: {kind}[{places[key]}] and {kind}[{place}] both have the id {key}")
        found[key], places[key] = entry, place
    return found


def _names(categories: object) -> dict[int, str]:
    entries = categories if isinstance(categories, list) else []
    return {each["id"]: str(each["name"]) for each in entries if isinstance(each, dict) and {"id", "name"} <= set(each)}


def _file_name(image: Mapping[str, Any]) -> str | None:
    """Return the name that an image's entry gives, or that its address ends in, with the folder before it."""
    if isinstance(image.get("file_name"), str):
        return str(image["file_name"])
    address = image.get("coco_url") or image.get("flickr_url")
    return "/".join(address.split("/")[-2:]) if isinstance(address, str) else None


def _numbers(ring: object) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return a polygon's (n, 2) points, or None where it is none."""
    try:
        values = np.asarray(ring, np.float64)
    except (TypeError, ValueError):
        return None
    if values.ndim != 1 or values.size < 6 or values.size % 2 or not np.isfinite(values).all():
        return None
    return values.reshape(-1, 2)
