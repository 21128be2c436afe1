"""SA-1B's pairs: an image, and a JSON of its name with the masks; here as files of a folder.

A pair is {"image": {image_id, width, height, file_name}, "annotations": [{segmentation (COCO compressed RLE), …}]}.
Annotations may carry two fields of ours, `level` (0 whole, 1 part, 2 subpart) and `parent` (index in the list).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from anymask.data.cache import ImageCache
from anymask.data.channels import ChannelMapping, read_bands, read_mapped, stated
from anymask.data.images import read_header, read_image
from anymask.data.json_files import as_number, as_whole, parse_json
from anymask.data.listing import list_images
from anymask.data.sample import AnnotatedMask, ImageAnnotations, Sample, Skipped, fingerprint, sample_indices
from anymask.errors import DataError
from anymask.geometry import polygons, rle

_TOLD = 3
"""How many of the annotations left out are named."""


class PairFiles:
    """The pairs of a folder, `<name>.jpg` beside `<name>.json`, in the order of their names.

    `unlabelled` keeps images without a JSON, `recursive` looks below the folder too; `channels` says how images that
    are not plain pictures are read. Raises DataError where there is none.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        annotations: str | Path | None = None,
        channels: ChannelMapping | None = None,
        unlabelled: bool = False,
        recursive: bool = False,
    ) -> None:
        self.channels, self.left_out = channels, Skipped()
        folder = Path(folder)
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}")
        beside = folder if annotations is None else Path(annotations)
        found = [(image, _json_of(image, folder, beside)) for image in list_images(folder, recursive=recursive)]
        self._pairs = [(image, document) for image, document in found if unlabelled or document is not None]
        if not self._pairs:
            raise DataError(f"no image{'' if unlabelled else ' with its JSON'} in {folder}")

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
        return fingerprint(self._pairs, stated(self.channels))

    def annotations(self, index: int) -> ImageAnnotations:
        """Return what the JSON says of the image; raises DataError or ImageError."""
        image, document = self._pairs[index]
        size = read_header(image).size if self.channels is None else read_bands(image).shape[:2]
        size = (size[0], size[1])
        if document is None:
            return ImageAnnotations(size=size, masks=[])
        return read_annotations(document, _read(document), size)

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random; raises DataError or ImageError."""
        image, document = self._pairs[index]
        if document is None:
            raise DataError(f"{image} has no JSON beside it")
        pixels = read_mapped(image, self.channels)
        return parse_sample(str(image), pixels, _read(document), max_masks=max_masks, rng=rng, left_out=self.left_out)


def _json_of(image: Path, folder: Path, beside: Path) -> Path | None:
    document = (beside / image.relative_to(folder)).with_suffix(".json")
    return document if document.is_file() else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def parse_sample(
    key: str,
    image: bytes | UInt8[np.ndarray, "h w 3"],
    json_bytes: bytes,
    *,
    max_masks: int | None = None,
    rng: np.random.Generator | None = None,
    cache: ImageCache | None = None,
    left_out: Skipped | None = None,
) -> Sample:
    """Decode one pair, its image encoded or read already, with all masks or `max_masks` of them drawn at random.

    Masks that cannot be used or are empty are left out, and added to `left_out`. Raises DataError (or ImageError) for a
    broken image, broken JSON, or where no mask is left.
    """
    document = _document(key, json_bytes)
    entries = _entries(document)
    if not entries:
        raise DataError(f"{key}: the image has no masks")
    pixels = cache.read(image) if cache is not None and isinstance(image, bytes) else read_image(image)
    size = (pixels.shape[0], pixels.shape[1])
    _check_size(key, document, size)
    masks, kept, faults = [], [], []
    for place in sample_indices(len(entries), max_masks, rng):
        try:
            mask = rle.decode(_mask(entries[place], size))
        except DataError as error:
            faults.append(DataError(f"{key}: annotation {_id(entries[place], place)} cannot be used: {error}"))
            continue
        if mask.any():
            masks.append(mask)
            kept.append(place)
    if faults and left_out is not None and masks:
        left_out.add(key, faults[0])
    if not masks:
        raise faults[0] if faults else DataError(f"{key}: all of its masks are empty")
    levels, parents = _hierarchy(key, entries, kept)
    return Sample(key=key, image=pixels, masks=np.stack(masks), levels=levels, parents=parents)


def read_annotations(name: str | Path, json_bytes: bytes, size: tuple[int, int]) -> ImageAnnotations:
    """Return all masks of a pair's JSON for an image of `size`; an empty list is no fault.

    Annotations that cannot be used are left out. Raises DataError where the JSON is none of SA-1B's, where its image is
    of another size, where two annotations share an id, or none of several is sound.
    """
    document = _document(str(name), json_bytes)
    entries = _entries(document)
    _check_size(str(name), document, size)
    found: dict[str, AnnotatedMask] = {}
    faults = []
    empty = 0
    for place, entry in enumerate(entries):
        id = f"sa1b-{_id(entry, place)}"
        try:
            mask = _mask(entry, size)
        except DataError as error:
            faults.append(DataError(f"{name}: annotation {_id(entry, place)} cannot be used: {error}"))
            continue
        if not rle.area(mask):
            empty += 1
            continue
        if id in found:
            raise DataError(f"{name}: two annotations have the id {_id(entry, place)}")
        found[id] = AnnotatedMask(id=id, rle=mask, score=as_number(entry.get("predicted_iou")))
    if faults and not found:
        raise faults[0]
    left_out = {"malformed or of another size than their image": len(faults), "empty": empty}
    return ImageAnnotations(size=size, masks=list(found.values()), left_out={k: n for k, n in left_out.items() if n})


def _document(key: str, json_bytes: bytes) -> Mapping[str, Any]:
    document = parse_json(json_bytes, f"{key}: the JSON")
    if not isinstance(document, dict) or not isinstance(document.get("annotations"), list):
        raise DataError(f"{key}: the JSON is not SA-1B's, which is an object with a list of annotations")
    return document


def _entries(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [entry if isinstance(entry, dict) else {} for entry in document["annotations"]]


def _check_size(key: str, document: Mapping[str, Any], size: tuple[int, int]) -> None:
    """Raise DataError where a record says that its image is of another size: polygons, unlike RLE, do not say it."""
    image = document.get("image")
    if not isinstance(image, dict):
        return
    said = (as_whole(image.get("height")) or size[0], as_whole(image.get("width")) or size[1])
    if said != size:
        turned = "; its EXIF tag turns it, the masks do not" if said == size[::-1] else ""
        raise DataError(f"{key}: its image is said to be {said[1]}×{said[0]} pixels, it is {size[1]}×{size[0]}{turned}")


def _id(entry: Mapping[str, Any], place: int) -> object:
    return entry.get("id", place)


def _mask(entry: Mapping[str, Any], size: tuple[int, int]) -> rle.RLE:
    if "segmentation" not in entry:
        raise DataError("it is no object with a segmentation")
    rings, num_bad = polygons.sound_rings(entry["segmentation"])
    if num_bad and not rings:
        raise DataError("its polygon is no list [x, y, x, y, ...] of three or more points")
    return polygons.from_coco(rings, size)


def _hierarchy(key: str, entries: Sequence[Mapping[str, Any]], chosen: Sequence[int]) -> tuple[Any, Any]:
    """Levels and parents of the chosen masks, None where an annotation has no level; a parent left out is -1."""
    if not all("level" in entry for entry in entries):
        return None, None
    position = {old: new for new, old in enumerate(chosen)}
    try:
        levels = np.array([entries[i]["level"] for i in chosen], np.int8)
        parents = np.array([position.get(entries[i].get("parent", -1), -1) for i in chosen], np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{key}: an annotation's level or parent is no small whole number: {error}") from error
    return levels, parents
