"""Label Studio's JSON: regions of an image, tasks with annotations, and the configuration of a project for them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Bool, Float

from anymask.data.files import write_text_atomic
from anymask.data.sample import AnnotatedMask
from anymask.geometry import brush_rle, rle

BRUSH, POLYGON = "brush", "polygon"
UNNAMED = "object"
"""The label of masks that have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """Names of the tags in a project's configuration that a region refers to."""

    mask: str = BRUSH
    """Of the tag that holds masks or polygons."""
    image: str = "image"
    kind: str = "brushlabels"
    """The tag's type in lower case: what a region's type, and the list of its labels, is called."""


def brush_region(
    mask: Bool[np.ndarray, "h w"], labels: Sequence[str], tags: Tags, *, score: float | None = None
) -> dict[str, Any]:
    """Return a mask as a region of a brush."""
    value = {"format": "rle", "rle": brush_rle.encode(mask)}
    return _region((mask.shape[0], mask.shape[1]), value, labels, tags, score)


def polygon_region(
    ring: Float[np.ndarray, "n 2"],
    size: tuple[int, int],
    labels: Sequence[str],
    tags: Tags,
    *,
    score: float | None = None,
) -> dict[str, Any]:
    """Return a closed ring of (x, y) pixels, in an image of `size` = (height, width), as a polygon.

    Label Studio's polygons have no holes: a ring that has, runs to each of them and back along one cut of no width.
    """
    points = np.asarray(ring, np.float64) / (size[1], size[0]) * 100
    return _region(size, {"points": points.tolist(), "closed": True}, labels, tags, score)


def _region(
    size: tuple[int, int], value: dict[str, Any], labels: Sequence[str], tags: Tags, score: float | None
) -> dict[str, Any]:
    region: dict[str, Any] = {
        "id": uuid.uuid4().hex[:10],
        "type": tags.kind,
        "from_name": tags.mask,
        "to_name": tags.image,
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "value": value | ({tags.kind: list(labels)} if tags.kind.endswith("labels") else {}),
    }
    return region if score is None else region | {"score": score}


def label_config(labels: Sequence[str]) -> str:
    """Return the configuration of a project whose masks are painted or prompted by points, boxes and strokes."""
    listed = "".join(f"<Label value={quoteattr(label)}/>" for label in labels or (UNNAMED,))
    prompts = "".join(
        f'<{tag} name="{name}" toName="image" smart="true" smartOnly="true">{listed}</{tag}>'
        for tag, name in (("KeyPointLabels", "point"), ("RectangleLabels", "box"))
    )
    return (
        '<View><Image name="image" value="$image" zoom="true"/>'
        f'<BrushLabels name="{BRUSH}" toName="image">{listed}</BrushLabels>{prompts}</View>'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelStudioTask:
    """An image with its masks."""

    image: str
    """The address that Label Studio shows it from, such as /data/local-files/?d=photographs/a.jpg."""
    size: tuple[int, int]
    """(height, width)."""
    masks: Sequence[AnnotatedMask]


def write_label_studio(
    path: str | Path,
    tasks: Iterable[LabelStudioTask],
    *,
    model: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> tuple[int, int]:
    """Write tasks as Label Studio imports them, and return how many there are and how many masks they have.

    The masks are annotations or, with the name of a `model`, its predictions. `more` goes into the data of each task.
    The configuration that they fit is `label_config` with their labels. Raises OutputError.
    """
    documents, num_masks = [], 0
    for task in tasks:
        regions = [
            brush_region(rle.decode(mask.rle), [mask.label or UNNAMED], Tags(), score=mask.score) for mask in task.masks
        ]
        num_masks += len(regions)
        found: dict[str, Any] = {"annotations": [{"result": regions}]}
        if model is not None:
            found = {"predictions": [{"model_version": model, "result": regions}]}
        documents.append({"data": {"image": task.image, **(more or {})}, **found})
    write_text_atomic(Path(path), json.dumps(documents, separators=(",", ":")) + "\n")
    return len(documents), num_masks
