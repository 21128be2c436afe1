"""LabelMe's files, and those of tools that write its format: a JSON for each image, with shapes.

Polygons, rectangles (of two corners or four, turned or not), circles and bitmaps are regions; lines and points are
none. Shapes of one label and one `group_id` are one object. Single shapes that cannot be used are left out, and named
in the log.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from anymask.data.channels import ChannelMapping, read_bands, read_mapped, stated
from anymask.data.images import read_header, read_image
from anymask.data.json_files import as_whole, read_json
from anymask.data.listing import is_hidden, list_images
from anymask.data.readers.file_names import FileIndex
from anymask.data.sample import AnnotatedMask, ImageAnnotations, Sample, fingerprint, sample_indices
from anymask.errors import AnymaskError, DataError, ImageError
from anymask.geometry import polygons, rle

_LOG = logging.getLogger(__name__)

_RINGS = ("polygon", "rectangle", "rotation", "oriented_rectangle", "quadrilateral")
"""Shapes whose points are a ring's corners, a rectangle's two apart."""
_NO_REGIONS = ("line", "linestrip", "point", "points")
_MAX_CIRCLE_CORNERS = 4096
NO_REGIONS = "lines and points, which are no regions"
UNKNOWN = "shapes of an unknown kind"
MALFORMED = "shapes that cannot be used"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    path: Path
    image: Path | None
    """None: the picture is in the document itself."""


class LabelMeFiles:
    """The images that LabelMe's files of a folder, and of those below it, are of; or one such file.

    `images` is where the images lie, where that is not beside the files. With `unlabelled` images whose file has no
    shape are kept. `channels` says how images that are not plain pictures are read. Other JSON files are passed over.
    Raises DataError where there is no such file, its image is missing, or two are of one image.
    """

    def __init__(
        self,
        where: str | Path,
        *,
        images: str | Path | None = None,
        channels: ChannelMapping | None = None,
        unlabelled: bool = False,
    ) -> None:
        where = Path(where)
        self.folder = where if where.is_dir() else where.parent
        self.channels = channels
        self._images = None if images is None else Path(images)
        paths = _documents(where)
        found = [(path, read_shapes(path)) for path in paths]
        others = [path for path, values in found if values is None]
        if others and len(others) == len(found):
            raise DataError(f"{others[0]}: is none of LabelMe's, which have shapes and an imagePath")
        if others:
            more = (where, len(others), others[0].name)
            _LOG.warning("%s: passed over %d JSON files that are none of LabelMe's, such as %s", *more)
        kept = [(path, values) for path, values in found if values is not None and (unlabelled or values["shapes"])]
        if not kept:
            raise DataError(f"{where}: no file of LabelMe's, which end in .json, is there, or none has a shape")
        self._documents = [_Document(path=path, image=self._image_of(path, values)) for path, values in kept]
        self._refuse_shared()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._documents)

    def key(self, index: int) -> str:
        """Return the image's path, or that of the file that holds it."""
        document = self._documents[index]
        return str(document.image or document.path)

    def source(self, index: int) -> Path | bytes:
        """Return the image's path, or its bytes where they are in the file itself; raises DataError."""
        document = self._documents[index]
        return document.image or _embedded(document.path, read_json(document.path))

    def fingerprint(self) -> str:
        """Return what changes where the images or their shapes do."""
        paths = [[document.path, document.image or ""] for document in self._documents]
        return fingerprint(paths, stated(self.channels))

    def annotations(self, index: int) -> ImageAnnotations:
        """Return the regions of an image's file; raises DataError or ImageError."""
        document, values, size = self._open(index)
        masks, left_out = _masks(document.path, values["shapes"], size)
        return ImageAnnotations(size=size, masks=masks, left_out=left_out)

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random; raises DataError or ImageError."""
        source, found = self.source(index), self.annotations(index)
        image = read_image(source) if isinstance(source, bytes) else read_mapped(source, self.channels)
        if image.shape[:2] != found.size:
            raise DataError(f"{self.key(index)} has changed: it is {image.shape[1]}×{image.shape[0]} pixels now")
        if not found.masks:
            raise DataError(f"{self._documents[index].path}: no shape of it is a region")
        masks = [rle.decode(found.masks[i].rle) for i in sample_indices(len(found.masks), max_masks, rng)]
        return Sample(key=self.key(index), image=image, masks=np.stack(masks))

    def _open(self, index: int) -> tuple[_Document, Mapping[str, Any], tuple[int, int]]:
        """Return a document, what it says, and the size of its image, which it must not contradict."""
        document = self._documents[index]
        values = read_shapes(document.path)
        if values is None:
            raise DataError(f"{document.path} has changed: it is none of LabelMe's now")
        if document.image is None:
            size = read_header(_embedded(document.path, values)).size
        elif self.channels is None:
            size = read_header(document.image).size
        else:
            bands = read_bands(document.image)
            size = (bands.shape[0], bands.shape[1])
        said = (as_whole(values.get("imageHeight")) or size[0], as_whole(values.get("imageWidth")) or size[1])
        if said != size:
            turned = "; its EXIF tag turns it, the annotations do not" if said == size[::-1] else ""
            image = document.image or "the picture in it"
            raise DataError(
                f"{document.path}: its image is said to be {said[1]}×{said[0]} pixels, {image} "
                f"is {size[1]}×{size[0]}{turned}"
            )
        return document, values, size

    def _image_of(self, path: Path, values: Mapping[str, Any]) -> Path | None:
        """Find a file's image: where it says, by its name alone, in the file (None), or by the file's own name."""
        named = values["imagePath"]
        for folder in dict.fromkeys((self._images or path.parent, path.parent)):
            index = FileIndex(folder, [named])
            if named and index.has(named):
                return index.find(named)
        if values.get("imageData"):
            return None
        beside = [each for each in list_images(path.parent) if each.stem == path.stem]
        if len(beside) == 1:
            return beside[0]
        raise DataError(f"{path}: its image {named or 'without a name'} is not in {self._images or path.parent}")

    def _refuse_shared(self) -> None:
        seen: dict[Path, Path] = {}
        for document in self._documents:
            if document.image is None:
                continue
            if document.image in seen:
                raise DataError(
                    f"{document.path} and {seen[document.image]} are both of the image {document.image}; keep one, or "
                    "give each the image that it is of"
                )
            seen[document.image] = document.path


def read_shapes(path: Path) -> dict[str, Any] | None:
    """Return what a file of LabelMe's says, or None where it is none; raises DataError where it is no JSON."""
    return shapes_of(read_json(path))


def shapes_of(values: object) -> dict[str, Any] | None:
    """Return what a file's JSON says if it is LabelMe's, with a text as its imagePath; None otherwise."""
    if not isinstance(values, dict) or not isinstance(values.get("shapes"), list):
        return None
    name = values.get("imagePath")
    if not isinstance(name, str) and not values.get("imageData"):
        return None
    return {**values, "imagePath": name if isinstance(name, str) else ""}


def _documents(where: Path) -> list[Path]:
    if not where.is_dir():
        if not where.is_file():
            raise DataError(f"there is no file or folder {where}")
        return [where]
    found = sorted(path for path in where.rglob("*") if path.suffix.lower() == ".json" and path.is_file())
    found = [path for path in found if not is_hidden(path.relative_to(where))]
    if not found:
        raise DataError(f"{where}: no file of LabelMe's, which end in .json, is there")
    return found


def _embedded(path: Path, values: Mapping[str, Any]) -> bytes:
    """Return the picture that a file holds itself."""
    try:
        data = base64.b64decode(values["imageData"].rpartition(",")[2])  # some tools write a data: address
        read_header(data)
        return data
    except (ImageError, binascii.Error, KeyError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: its imageData is no picture ({error})") from error


def _masks(path: Path, shapes: Sequence[Any], size: tuple[int, int]) -> tuple[list[AnnotatedMask], dict[str, int]]:
    """Return a file's regions, parts of one object joined; and what was left out, which is logged."""
    objects: dict[object, list[AnnotatedMask]] = {}
    left_out: Counter[str] = Counter()
    first_fault: DataError | None = None
    for number, shape in enumerate(shapes):
        try:
            found = _shape(number, shape, size)
        except DataError as error:
            left_out[MALFORMED] += 1
            first_fault = first_fault or DataError(f"{path}: {error}")
            continue
        if isinstance(found, str):
            left_out[found] += 1
            continue
        group = shape.get("group_id")
        grouped = (found.label, str(group)) if isinstance(group, int | float | str) and group != "" else number
        objects.setdefault(grouped, []).append(found)
    if first_fault is not None and not objects:
        raise first_fault
    if left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
        _LOG.warning("%s: left out %s%s", path, kinds, f"; {first_fault}" if first_fault else "")
    masks = []
    for parts in objects.values():
        joined = parts[0].rle if len(parts) == 1 else rle.merge([part.rle for part in parts])
        masks.append(AnnotatedMask(id=parts[0].id, rle=joined, label=parts[0].label, score=parts[0].score))
    return masks, dict(left_out)


def _shape(number: int, shape: Any, size: tuple[int, int]) -> AnnotatedMask | str:
    """Return a shape's region, or why it is none; raises DataError."""
    try:
        kind = shape.get("shape_type") or "polygon"
        if kind in _NO_REGIONS:
            return NO_REGIONS
        if kind != "mask" and kind != "circle" and kind not in _RINGS:
            return f"{UNKNOWN} ({str(kind)[:20]})"
        points = np.asarray(shape["points"], np.float64).reshape(-1, 2)
        if not np.isfinite(points).all():
            raise DataError("a point is no finite number")
        if kind == "mask":
            mask = _bitmap(shape["mask"], points, size)
        else:
            mask = polygons.from_coco([_ring(kind, points).ravel().tolist()], size)
    except KeyError as error:
        raise DataError(f"shape {number} cannot be used: it has no {error}") from error
    except IndexError as error:
        raise DataError(f"shape {number} cannot be used: a {kind} has more points than {len(points)}") from error
    except (AnymaskError, binascii.Error, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"shape {number} cannot be used: {error}") from error
    if not rle.area(mask):
        return "shapes that cover no pixel"
    label, score = shape.get("label"), shape.get("score")
    return AnnotatedMask(
        id=f"labelme-{number}",
        rle=mask,
        label=str(label) if label not in (None, "") else None,
        score=float(score) if isinstance(score, int | float) and 0 <= score <= 1 else None,
    )


def _ring(kind: str, points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "m 2"]:
    """Return the corners of a shape's outline; raises ValueError or IndexError where points are missing."""
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    if kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        corners = min(max(16, int(min(radius, _MAX_CIRCLE_CORNERS) * 4)), _MAX_CIRCLE_CORNERS)
        angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        return np.asarray(points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1))
    return points


def _bitmap(encoded: str, points: Float[np.ndarray, "n 2"], size: tuple[int, int]) -> rle.RLE:
    """Place a bitmap by its first point, the corner at its top left; what lies beyond the image is cut off."""
    crop = read_image(base64.b64decode(encoded, validate=True))[..., 0] > 0
    x, y = round(float(points[0, 0])), round(float(points[0, 1]))
    if x < 0 or y < 0 or x >= size[1] or y >= size[0]:
        raise DataError(f"its bitmap begins at ({x}, {y}), outside its image of {size[1]}×{size[0]} pixels")
    return rle.encode_at(crop[: size[0] - y, : size[1] - x], (x, y), size)
