"""What COCO and LVIS files say is there, annotation by annotation: categories, crowds and areas besides the masks.

`anymask.data.coco` reads the same files for training, where a mask is all that counts, and refuses what it cannot use;
a benchmark leaves it out and says how much that was.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from anymask.data.channels import ChannelMapping, read_mapped, stated
from anymask.data.loader import SampleSet as ImageSet
from anymask.data.signatures import signature
from anymask.errors import DataError
from anymask.geometry import polygons, rle


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """The n annotated masks of one image."""

    key: str
    image_id: int
    size: tuple[int, int]
    """(height, width)."""
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
        """How many annotations that are of no image cannot be used, by the reason; an image's are told by its truth."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def key(self, index: int) -> str:
        """Return an image's name."""
        ...

    def signature(self) -> str:
        """Return what changes where the images or their annotations do."""
        ...

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], Truth]:
        """Read an image and what is annotated on it; raises AnymaskError."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class CocoTruth:
    """The images of a COCO or LVIS file, those without annotations included, in the order of their ids.

    Annotations of images that are not in the file, outside their image, without a mask, or malformed are left out and
    counted. `channels` says how images are read that are no plain pictures. Raises DataError where the file is none of
    COCO's layout.
    """

    path: Path
    folder: Path
    images: list[dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]
    frequency: dict[int, str]
    names: dict[int, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    channels: ChannelMapping | None = None

    @classmethod
    def open(
        cls, path: str | Path, images: str | Path | None = None, *, channels: ChannelMapping | None = None
    ) -> CocoTruth:
        """Read a file; `images` is the folder of its images, looked for near the file if None."""
        document = read_coco(Path(path))
        listed = sorted((_checked_image(entry, Path(path)) for entry in document["images"]), key=lambda e: int(e["id"]))
        known = {entry["id"] for entry in listed}
        if len(known) < len(listed):
            raise DataError(f"{path}: two of its images have the same id; ids must be unique")
        annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
        left_out: Counter[str] = Counter()
        for entry in document["annotations"]:
            if not isinstance(entry, dict) or not isinstance(entry.get("category_id", 1), int):
                left_out["malformed"] += 1
            elif entry.get("image_id") not in known:
                left_out["of images that are not in the file"] += 1
            else:
                annotations[entry["image_id"]].append(entry)
        return cls(
            path=Path(path),
            folder=images_folder(path, images),
            images=listed,
            annotations=dict(annotations),
            frequency=_of_categories(document.get("categories"), "frequency", {"r", "c", "f"}),
            names=_of_categories(document.get("categories"), "name"),
            left_out=left_out,
            channels=channels,
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def key(self, index: int) -> str:
        """Return the image's name in the file."""
        return file_name(self.images[index])

    def signature(self) -> str:
        """Return what changes where the file or the images do."""
        paths = [find_image(self.folder, file_name(entry)) for entry in self.images]
        return signature(self.path, paths, stated(self.channels))

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], Truth]:
        """Read an image and its annotations; raises DataError or ImageError."""
        return self.read_pixels(index), self.truth(index)

    def read_pixels(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Read an image; raises DataError where it has another size than the file says, ImageError if unreadable."""
        entry = self.images[index]
        pixels = read_mapped(find_image(self.folder, self.key(index)), self.channels)
        if pixels.shape[:2] != (entry["height"], entry["width"]):
            found = (
                f"{pixels.shape[1]}×{pixels.shape[0]} pixels, {entry['width']}×{entry['height']} in {self.path.name}"
            )
            raise DataError(f"{self.key(index)}: {found}")
        return pixels

    def truth(self, index: int) -> Truth:
        """Return an image's annotations; those that cannot be used are counted."""
        entry = self.images[index]
        size = (int(entry["height"]), int(entry["width"]))
        kept, masks = [], []
        left_out: Counter[str] = Counter()
        # Where categories do not count, pycocotools still goes through them in turn, which decides ties.
        for annotation in sorted(self.annotations.get(entry["id"], []), key=lambda a: int(a.get("category_id", 1))):
            reason, mask = _mask(annotation, size)
            if mask is None:
                left_out[reason] += 1
            else:
                kept.append(annotation)
                masks.append(mask)
        negative = entry.get("neg_category_ids")
        return Truth(
            key=self.key(index),
            image_id=int(entry["id"]),
            size=size,
            masks=masks,
            categories=np.array([a.get("category_id", 1) for a in kept], np.int64),
            areas=np.array([_area(a, m) for a, m in zip(kept, masks, strict=True)], np.float64),
            crowd=np.array([bool(a.get("iscrowd", 0)) for a in kept], bool),
            negative=None if negative is None else frozenset(negative),
            not_exhaustive=frozenset(entry.get("not_exhaustive_category_ids", ())),
            left_out=dict(left_out),
        )


class SampleTruth:
    """Any labelled images as truth without categories: each mask an object of one kind."""

    def __init__(self, images: ImageSet) -> None:
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

    def signature(self) -> str:
        """Return what changes where the images or their masks do."""
        return self.images.signature()

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], Truth]:
        """Read an image and its masks, empty ones left out and counted; raises AnymaskError."""
        sample = self.images.sample(index)
        masks = sample.masks[sample.masks.any(axis=(1, 2))]
        num_empty = len(sample.masks) - len(masks)
        truth = Truth(
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


def read_coco(path: Path) -> dict[str, Any]:
    """Return a file's JSON object with its lists `images` and `annotations`; raises DataError for any other file."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}") from error
    if isinstance(document, list):
        raise DataError(f"{path} is a list, as results of a detector are; an annotation file (COCO, LVIS) was expected")
    if not isinstance(document, dict) or not all(isinstance(document.get(k), list) for k in ("images", "annotations")):
        raise DataError(f"{path} is no file of COCO's layout, which has the lists images and annotations")
    return document


def images_folder(path: str | Path, images: str | Path | None) -> Path:
    """Return the folder of an annotation file's images: the one given, or one near the file that has its first."""
    if images is not None:
        if not Path(images).is_dir():
            raise DataError(f"there is no folder {images}")
        return Path(images)
    path = Path(path)
    entries = read_coco(path)["images"]
    name = file_name(_checked_image(entries[0], path)) if entries else ""
    near, above = path.parent, path.absolute().parent.parent
    candidates = [near, near / "images", above / "images", above / path.stem.split("_")[-1], above]
    found = next((folder for folder in candidates if name and find_image(folder, name).is_file()), None)
    if found is None:
        raise DataError(f"{path}: {name or 'no image'} is not beside it; give the folder of its images with --images")
    return found


def find_image(folder: Path, name: str) -> Path:
    """Return an image's path by its name in a file, with or without the folders that the name begins with."""
    whole = folder / name
    return whole if whole.is_file() else folder / Path(name).name


def file_name(entry: Mapping[str, Any]) -> str:
    """Return the name of an image's file; LVIS gives an address, which ends in it."""
    name = entry.get("file_name")
    return str(name) if name else "/".join(str(entry["coco_url"]).split("/")[-2:])


def _checked_image(entry: object, path: Path) -> dict[str, Any]:
    match entry:
        case {"id": int(), "width": int(w), "height": int(h), **rest} if w > 0 and h > 0:
            if isinstance(rest.get("file_name"), str) or isinstance(rest.get("coco_url"), str):
                assert isinstance(entry, dict)
                return entry
    raise DataError(f"{path}: an image is no object with id, width, height and file_name: {str(entry)[:80]}")


def _of_categories(categories: object, key: str, known: Container[str] | None = None) -> dict[int, str]:
    """Return a text of each category by its id, where it has one, and one that is known."""
    found: dict[int, str] = {}
    for entry in categories if isinstance(categories, list) else []:
        value = entry.get(key) if isinstance(entry, dict) and isinstance(entry.get("id"), int) else None
        if isinstance(value, str) and (known is None or value in known):
            found[entry["id"]] = value
    return found


def _mask(annotation: Mapping[str, Any], size: tuple[int, int]) -> tuple[str, rle.RLE | None]:
    """Return an annotation's mask, or why there is none."""
    if not annotation.get("segmentation"):
        return "without a mask", None
    try:
        mask = polygons.from_coco(annotation["segmentation"], size)
    except DataError:
        return "malformed or of another size than their image", None
    return ("", mask) if rle.area(mask) else ("empty or outside their image", None)


def _area(annotation: Mapping[str, Any], mask: rle.RLE) -> float:
    area = annotation.get("area")
    return float(area) if isinstance(area, int | float) and np.isfinite(area) else float(rle.area(mask))
