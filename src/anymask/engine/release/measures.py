"""What the card of a data set reports: counts, and how sizes, shapes and places of masks are distributed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from anymask.data.files import make_folder
from anymask.errors import MissingPackageError
from anymask.geometry import rle

_MAP_SIDE = 50
_MAX_SIZES = 200_000
_MAX_SHAPES = 20_000
"""Masks whose concavity is taken; more would say the same."""


@dataclass(slots=True)
class Measures:
    """Distributions over the masks of a data set, gathered image by image."""

    counts: Counter[int] = field(default_factory=Counter)
    """How many images have so many masks."""
    masks: int = 0
    sizes: list[float] = field(default_factory=list)
    """Of all masks, or of `_MAX_SIZES` drawn from more."""
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    concavities: list[float] = field(default_factory=list)
    origins: dict[str, int] = field(default_factory=dict)
    centres: Float[np.ndarray, "h w"] = field(default_factory=lambda: np.zeros((_MAP_SIDE, _MAP_SIDE)))

    def add(self, records: list[dict[str, Any]], origins: list[str], size: tuple[int, int]) -> None:
        """Count an image of `size` = (height, width) and its masks as SA-1B has them."""
        height, width = size
        self.counts[len(records)] += 1
        for record, origin in zip(records, origins, strict=True):
            self.origins[origin] = self.origins.get(origin, 0) + 1
            self._add_size(float(np.sqrt(record["area"] / (height * width))))
            x, y, w, h = record["bbox"]
            row = int((y + h / 2) / height * _MAP_SIDE)
            column = int((x + w / 2) / width * _MAP_SIDE)
            self.centres[min(row, _MAP_SIDE - 1), min(column, _MAP_SIDE - 1)] += 1
            if len(self.concavities) < _MAX_SHAPES:
                self.concavities.append(concavity(record["segmentation"]))

    def _add_size(self, size: float) -> None:
        """Keep a size, or put it in the place of another, all with the same chance (Vitter, 1985)."""
        self.masks += 1
        if len(self.sizes) < _MAX_SIZES:
            self.sizes.append(size)
        elif (place := int(self.rng.integers(self.masks))) < _MAX_SIZES:
            self.sizes[place] = size

    def summary(self) -> dict[str, Any]:
        """Return the numbers in a few words."""
        images = self.counts.total()
        return {
            "images": images,
            "masks": self.masks,
            "masks_per_image": round(self.masks / max(images, 1), 2),
            "median_relative_size": round(float(np.median(self.sizes)), 4) if self.sizes else 0.0,
            "median_concavity": round(float(np.median(self.concavities)), 4) if self.concavities else 0.0,
            "origins": dict(sorted(self.origins.items())),
        }


def concavity(mask: rle.RLE) -> float:
    """Return one minus the share of its convex hull that a mask covers; 0 for an empty one (SAM, sec. 5)."""
    width = rle.bbox(mask)[2]
    if not width:
        return 0.0
    crop = rle.decode_box(mask).astype(np.uint8)
    rows = np.flatnonzero(crop.any(axis=1))
    first, last = crop[rows].argmax(axis=1), width - 1 - crop[rows, ::-1].argmax(axis=1)
    ends = np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], axis=1)  # no other pixel is a corner
    hull = np.zeros_like(crop)
    cv2.fillConvexPoly(hull, cv2.convexHull(ends.astype(np.int32)), 1)
    return 1 - float(crop.sum()) / float(max(int(hull.sum()), int(crop.sum())))


_LAYOUTS = {
    "sa1b": "`sa1b/<split>/sa_*.tar`: an image and its JSON beside each other, as SA-1B has them",
    "webdataset": "`webdataset/<split>-*.tar`: the same pairs as shards of WebDataset",
    "coco": "`coco/<split>.json`: one COCO file a split, masks as run lengths",
    "parquet": "`parquet/<split>.parquet`: a row per mask",
    "yolo": "`yolo/data.yaml`, and `yolo/images/<split>` with outlines in `yolo/labels/<split>`, as YOLO has them",
    "labels": "`labels/<split>/images` with a label map each in `labels/<split>/masks`: 0 is nothing, others a mask",
    "labelme": "`labelme/<split>`: an image and LabelMe's JSON beside each other",
    "cutouts": "`cutouts/<split>`: each mask's object cut out of its image, transparent around it",
}


def write_card(folder: Path, name: str, measures: Measures, formats: Sequence[str], privacy: str) -> None:
    """Write README.md, and the plots where matplotlib is there."""
    plots = _plots(folder, measures)
    summary = measures.summary()
    origins = "".join(f"| {origin} | {count:,} |\n" for origin, count in summary["origins"].items())
    layouts = "".join(f"- {_LAYOUTS[each]}\n" for each in formats)
    shown = "".join(f"![{title}](card/{file})\n" for title, file in plots)
    (folder / "README.md").write_text(
        f"# {name}\n\n"
        f"{summary['images']:,} images with {summary['masks']:,} masks, {summary['masks_per_image']} an image. Masks "
        "have no classes unless the files name some. `val` are the images that no model of the project was "
        "trained on.\n\n"
        f"| masks by origin | |\n| --- | ---: |\n{origins}\n"
        "`added`: drawn by people with a model's help; `prefilled`: proposed by a model and kept by people; "
        "`automatic`: a model's alone; `imported`: from elsewhere.\n\n"
        f"Median relative size of a mask {summary['median_relative_size']}, median concavity "
        f"{summary['median_concavity']}.\n\n"
        f"{shown}\n## Files\n\n{layouts}- `SHA256SUMS`: checksums of all files\n\n## Privacy\n\n{privacy}\n",
        encoding="utf-8",
    )


def _plots(folder: Path, measures: Measures) -> list[tuple[str, str]]:
    from anymask.plots import curves as dataset

    try:
        drawn = {
            "masks per image": (
                "masks-per-image.png",
                dataset.masks_per_image(np.repeat(list(measures.counts), list(measures.counts.values()))),
            ),
            "sizes of masks": ("sizes.png", dataset.relative_sizes(np.array(measures.sizes))),
            "concavity of masks": ("concavity.png", dataset.concavities(np.array(measures.concavities))),
            "where masks lie": ("centres.png", dataset.centre_map(measures.centres)),
        }
    except MissingPackageError:  # the numbers have to do
        return []
    place = make_folder(folder / "card")
    for file, content in drawn.values():
        (place / file).write_bytes(content)
    return [(title, file) for title, (file, _) in drawn.items()]
