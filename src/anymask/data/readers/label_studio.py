"""Label Studio's JSON exports: a list of tasks, each an image with regions.

Brushes, polygons, rectangles and ellipses are regions, whatever tag they come from; key points are none. Of several
annotations of a task the first that was not cancelled counts, one that is marked as ground truth before others; a task
without annotations has what its first prediction says. Single regions that cannot be used are left out, and named in
the log.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from jaxtyping import Bool, Float

from anymask.data.channels import ChannelMapping, read_mapped, stated
from anymask.data.images import read_header
from anymask.data.json_files import read_json
from anymask.data.readers.file_names import FileIndex
from anymask.data.sample import AnnotatedMask, ImageAnnotations, Sample, fingerprint, sample_indices
from anymask.errors import AnymaskError, DataError
from anymask.geometry import brush_rle, polygons, rle

_LOG = logging.getLogger(__name__)

_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of a file that was uploaded."""
_CORNERS = 256
NO_REGIONS = "key points and other regions without an area"
MALFORMED = "regions that cannot be used"


class LabelStudioFiles:
    """The images of an export's tasks, which lie in `images` (None: beside the file), found by their names.

    With `unlabelled` tasks without regions are kept. Raises DataError for a file that is none of Label Studio's,
    without regions, or whose images are missing or named twice.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        images: str | Path | None = None,
        channels: ChannelMapping | None = None,
        unlabelled: bool = False,
        document: Any = None,
    ) -> None:
        self.path, self.channels = Path(path), channels
        tasks = tasks_of(read_json(path) if document is None else document)
        if tasks is None:
            raise DataError(f"{path}: is none of Label Studio's, which are lists of tasks with data and annotations")
        kept = [(task, regions) for task in tasks if (regions := regions_of(task)) or unlabelled]
        if not kept:
            raise DataError(f"{path}: no task has a region; export a project after it has been annotated, as JSON")
        folder = self.path.parent if images is None else Path(images)
        self._regions = [regions for _, regions in kept]
        self._images = self._find(folder, [_address(self.path, task) for task, _ in kept])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def key(self, index: int) -> str:
        """Return the image's path."""
        return str(self._images[index])

    def source(self, index: int) -> Path | bytes:
        """Return the image's path."""
        return self._images[index]

    def fingerprint(self) -> str:
        """Return what changes where the images or their regions do."""
        return fingerprint([self.path, *self._images], stated(self.channels))

    def annotations(self, index: int) -> ImageAnnotations:
        """Return the regions of an image; raises DataError or ImageError."""
        size = read_header(self._images[index]).size
        masks, left_out = _masks(str(self._images[index]), self._regions[index], size)
        return ImageAnnotations(size=size, masks=masks, left_out=left_out)

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random; raises DataError or ImageError."""
        found = self.annotations(index)
        image = read_mapped(self._images[index], self.channels)
        if not found.masks:
            raise DataError(f"{self._images[index]}: no region of it has an area")
        masks = [rle.decode(found.masks[i].rle) for i in sample_indices(len(found.masks), max_masks, rng)]
        return Sample(key=self.key(index), image=image, masks=np.stack(masks))

    def _find(self, folder: Path, addresses: Sequence[str]) -> list[Path]:
        """Return the file of each task's image, whose name may have lost what an upload put before it."""
        names = [_file_name(address) for address in addresses]
        index = FileIndex(folder, names)
        found = []
        shorter = {name: _UPLOADED.sub("", name, count=1) for name in names if not index.has(name)}
        plain = FileIndex(folder, list(shorter.values()))
        for name in names:
            short = shorter.get(name)
            try:
                found.append(plain.find(short) if short is not None and plain.has(short) else index.find(name))
            except DataError as error:
                raise DataError(f"{self.path}: the image {name} {error}") from error
        twice = [path for path, count in Counter(found).items() if count > 1]
        if twice:
            raise DataError(f"{self.path}: two tasks are of the image {twice[0]}; keep one of them")
        return found


def tasks_of(document: object) -> list[Mapping[str, Any]] | None:
    """Return the tasks of a file's JSON if it is an export of Label Studio's; None otherwise."""
    if not isinstance(document, list) or not document:
        return None
    kinds = ("annotations", "predictions", "completions")
    if not all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in document):
        return None
    return document if any(kind in task for task in document for kind in kinds) else None


def regions_of(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the regions that a task's annotations say, or else its predictions; none where there are none."""
    found = [
        each for each in _list(task.get("annotations") or task.get("completions")) if not each.get("was_cancelled")
    ]
    found.sort(key=lambda each: not each.get("ground_truth"))
    found += _list(task.get("predictions"))
    return [region for region in _list(found[0].get("result")) if "value" in region] if found else []


def region_mask(region: Mapping[str, Any], size: tuple[int, int]) -> Bool[np.ndarray, "h w"] | None:
    """Return the mask of a region in an image of `size` = (height, width), None for one without an area.

    Raises DataError where it cannot be used.
    """
    value = region["value"]
    try:
        if "rle" in value:
            said = (int(region["original_height"]), int(region["original_width"]))
            if said != size:
                raise DataError(f"it is of an image of {said[1]}×{said[0]} pixels, this one is {size[1]}×{size[0]}")
            return brush_rle.decode(value["rle"], size)
        ring = _ring(value)
        if ring is None:
            return None
        if region.get("image_rotation"):
            raise DataError(f"the image was turned by {region['image_rotation']}° when it was drawn")
        pixels = ring / 100 * (size[1], size[0])
        if not np.isfinite(pixels).all():
            raise DataError("a corner is no finite number")
        return rle.decode(polygons.from_coco([pixels.ravel().tolist()], size))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"it is malformed ({error})") from error


def region_label(region: Mapping[str, Any]) -> str | None:
    """Return the first label of a region, None where it has none."""
    value = region.get("value")
    kinds = (
        [region.get("type"), *(key for key in value if str(key).endswith("labels"))] if isinstance(value, dict) else []
    )
    for kind in kinds:
        labels = value.get(kind) if isinstance(value, dict) else None
        if isinstance(labels, list) and labels and isinstance(labels[0], str):
            return labels[0]
    return None


def _ring(value: Mapping[str, Any]) -> Float[np.ndarray, "n 2"] | None:
    """Return the corners of a shape in percent of the image, None where it is none."""
    if "points" in value:
        return np.asarray(value["points"], np.float64).reshape(-1, 2)
    turn = np.deg2rad(float(value.get("rotation") or 0))
    right, down = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    if "radiusX" in value:
        angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)[:, None]
        x, y = float(value["radiusX"]) * np.cos(angles), float(value["radiusY"]) * np.sin(angles)
        return np.asarray(np.array([value["x"], value["y"]], np.float64) + x * right + y * down)
    if "width" in value and "height" in value:
        corner = np.array([value["x"], value["y"]], np.float64)
        along, up = float(value["width"]) * right, float(value["height"]) * down
        return np.stack([corner, corner + along, corner + along + up, corner + up])
    return None


def _masks(
    name: str, regions: Sequence[Mapping[str, Any]], size: tuple[int, int]
) -> tuple[list[AnnotatedMask], dict[str, int]]:
    masks: dict[str, AnnotatedMask] = {}
    left_out: Counter[str] = Counter()
    for number, region in enumerate(regions):
        key = f"label-studio-{region.get('id', number)}"
        label = region_label(region)
        if key in masks:  # a region is listed once for its shape and once for its label
            if masks[key].label is None and label is not None:
                masks[key] = AnnotatedMask(id=key, rle=masks[key].rle, label=label, score=masks[key].score)
            continue
        try:
            mask = region_mask(region, size)
        except AnymaskError as error:
            left_out[MALFORMED] += 1
            _LOG.warning("%s: left out a region: %s", name, error)
            continue
        if mask is None or not mask.any():
            left_out[NO_REGIONS] += 1
            continue
        score = region.get("score")
        known = float(score) if isinstance(score, int | float) and 0 <= score <= 1 else None
        masks[key] = AnnotatedMask(id=key, rle=rle.encode(mask), label=label, score=known)
    return list(masks.values()), dict(left_out)


def _list(values: object) -> list[Any]:
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def _address(path: Path, task: Mapping[str, Any]) -> str:
    """Return where a task says that its image is: by the key that names it, or the only text that could."""
    data = task["data"]
    texts = [data[key] for key in ("image", *data) if isinstance(data.get(key), str) and data[key]]
    if not texts:
        raise DataError(f"{path}: task {task.get('id', '')} names no image")
    return str(texts[0])


def _file_name(address: str) -> str:
    """Return the path of an image below the folder that holds it: that of a local file, or the address's last part."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    if local:
        return local[0]
    return unquote(PurePosixPath(parts.path).name) or address
