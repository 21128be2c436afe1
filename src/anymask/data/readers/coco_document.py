"""What a COCO or LVIS file says, entry by entry, in one spelling: numbers that are written as text are numbers."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anymask.data.json_files import as_flag, as_number, as_whole, read_json
from anymask.errors import DataError

_LOG = logging.getLogger(__name__)

CROWDS = "crowds"
WITHOUT_MASK = "without a mask"
EMPTY = "empty or outside their image"
OUTSIDE = "outside their image"
MALFORMED = "malformed or of another size than their image"
STRANGE = "of images that are not in the file"
"""Reasons why annotations are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEntry:
    """An image of the file."""

    id: int
    file_name: str
    size: tuple[int, int] | None = None
    """(height, width), as far as the file says it."""
    negative: frozenset[int] | None = None
    """LVIS: categories surely absent; of others than these and those present nothing is known. None: all are known."""
    not_exhaustive: frozenset[int] = frozenset()
    """LVIS: categories of which not every object is annotated."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by their names."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEntry:
    """An annotation of the file."""

    id: int
    image_id: int
    segmentation: Any
    """As it stands there: rings, run lengths, or anything else."""
    category: int | None = None
    label: str | None = None
    """What stands in place of its category's number, where that is none."""
    crowd: bool = False
    area: float | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoDocument:
    """A whole file."""

    path: Path
    images: list[ImageEntry]
    objects: list[ObjectEntry]
    names: dict[int, str]
    """Names of the categories, by their ids."""
    frequency: dict[int, str]
    """LVIS: whether a category is rare, common or frequent, as r, c or f."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Annotations that are of no image, by the reason."""
    faults: list[tuple[int | None, str, str]] = field(default_factory=list)
    """The same one by one: id, reason, and what is wrong."""


def read_document(path: Path, document: object = None, *, strict: bool = True) -> CocoDocument:
    """Read a file of COCO's or LVIS' layout; `document` is what it holds, where that was read already.

    Raises DataError for any other file, for an image without an id or a name, and for two images of one id; where
    `strict` for two annotations of one id too.
    """
    values = _checked(path, read_json(path) if document is None else document)
    images = _images(values["images"], path)
    known = {image.id for image in images}
    left_out: Counter[str] = Counter()
    faults: list[tuple[int | None, str, str]] = []
    objects: list[ObjectEntry] = []
    places: dict[int, int] = {}
    for place, entry in enumerate(values["annotations"]):
        found = _object(entry, place, known)
        if isinstance(found, tuple):
            left_out[found[0]] += 1
            faults.append((as_whole(entry.get("id")) if isinstance(entry, dict) else place, *found))
            continue
        if strict and found.id in places:
            raise DataError(
                f"{path}: annotations[{places[found.id]}] and annotations[{place}] both have the id {found.id}"
            )
        places.setdefault(found.id, place)
        objects.append(found)
    categories = values.get("categories")
    return CocoDocument(
        path=path,
        images=images,
        objects=objects,
        names=dict(_of_categories(categories, "name")),
        frequency={id: text for id, text in _of_categories(categories, "frequency") if text in ("r", "c", "f")},
        left_out=left_out,
        faults=faults,
    )


def is_document(value: object) -> bool:
    """Whether a JSON's value has COCO's layout."""
    return isinstance(value, dict) and all(isinstance(value.get(name), list) for name in ("images", "annotations"))


def _checked(path: Path, document: object) -> dict[str, Any]:
    if isinstance(document, list):
        raise DataError(f"{path} is no COCO file but a list, as results of a detector are; annotations were expected")
    if not is_document(document):
        raise DataError(f"{path} is no COCO file: an object with the lists images and annotations was expected")
    assert isinstance(document, dict)
    return document


def _images(entries: Sequence[Any], path: Path) -> list[ImageEntry]:
    found: list[ImageEntry] = []
    places: dict[int, int] = {}
    for place, entry in enumerate(entries):
        id = as_whole(entry.get("id")) if isinstance(entry, dict) else None
        if id is None:
            raise DataError(f"{path}: images[{place}] has no id, which is a whole number: {str(entry)[:60]}")
        if id in places:
            raise DataError(f"{path}: images[{places[id]}] and images[{place}] both have the id {id}")
        places[id] = place
        name = file_name(entry)
        if name is None:
            raise DataError(f"{path}: image {id} has neither file_name nor coco_url")
        negative = entry.get("neg_category_ids")
        found.append(
            ImageEntry(
                id=id,
                file_name=name,
                size=_size(entry, id, path),
                negative=None if not isinstance(negative, list) else _numbers(negative),
                not_exhaustive=_numbers(entry.get("not_exhaustive_category_ids")),
            )
        )
    return found


def file_name(entry: Mapping[str, Any]) -> str | None:
    """Return the name that an image's entry gives, or that its address ends in, with the folder before it."""
    name = entry.get("file_name")
    if isinstance(name, str) and name:
        return name
    address = entry.get("coco_url") or entry.get("flickr_url")
    return "/".join(address.split("/")[-2:]) if isinstance(address, str) else None


def _size(entry: Mapping[str, Any], id: int, path: Path) -> tuple[int, int] | None:
    """Return (height, width); None where the file leaves either open."""
    if entry.get("height") in (None, "", 0, -1) or entry.get("width") in (None, "", 0, -1):
        return None
    height, width = as_whole(entry["height"]), as_whole(entry["width"])
    if height is None or width is None or min(height, width) < 1:
        said = f"{str(entry['width'])[:20]!r}×{str(entry['height'])[:20]!r}"
        raise DataError(f"{path}: image {id} is said to be of {said} pixels; width and height are whole numbers")
    return height, width


def _object(entry: Any, place: int, known: set[int]) -> ObjectEntry | tuple[str, str]:
    """Return an annotation, or the reason why it cannot be used, and what is wrong."""
    if not isinstance(entry, dict):
        return MALFORMED, f"annotations[{place}] is no object but {str(entry)[:60]}"
    id, image_id = as_whole(entry.get("id")), as_whole(entry.get("image_id"))
    named = f"annotations[{place}]" if id is None else f"annotation {id}"
    if id is None and "id" in entry:
        return MALFORMED, f"annotations[{place}] has no id, which is a whole number"
    category, said_category = as_whole(entry.get("category_id")), entry.get("category_id")
    if image_id is None or image_id not in known:
        said = str(entry.get("image_id"))[:40] if image_id is None else image_id
        return STRANGE, f"{named} is of image {said}, which is not there"
    return ObjectEntry(
        id=place if id is None else id,
        image_id=image_id,
        segmentation=entry.get("segmentation"),
        category=category,
        label=None if category is not None or said_category is None else str(said_category)[:200],
        crowd=as_flag(entry.get("iscrowd")),
        area=as_number(entry.get("area")),
        score=as_number(entry.get("score")),
    )


def _numbers(values: object) -> frozenset[int]:
    found = (as_whole(value) for value in values) if isinstance(values, list) else ()
    return frozenset(value for value in found if value is not None)


def _of_categories(categories: object, key: str) -> Iterator[tuple[int, str]]:
    """Yield a text of each category by its id, where it has one."""
    for entry in categories if isinstance(categories, list) else []:
        id = as_whole(entry.get("id")) if isinstance(entry, dict) else None
        value = entry.get(key) if isinstance(entry, dict) else None
        if id is not None and isinstance(value, str | int | float):
            yield id, str(value)
