"""Stable regions: masks of photographs that no one labelled, found without a model and written as tars.

Of a hierarchy of regions those are kept that stay unchanged while much else is joined, that stand out from what is
around them at every scale, and that have the size and the outline of an object or a part of one. They are few and sure
rather than many: that something was not found does not mean that it is not an object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from jaxtyping import Bool, Int, UInt8

from anymask.data.files import make_folder
from anymask.data.images import read_image
from anymask.data.readers.images import ImageSet
from anymask.data.regions.hierarchy import Hierarchy, build_hierarchy
from anymask.data.sample import Sample, Skipped
from anymask.data.writers.sa1b import write_tar
from anymask.errors import DataError, ImageError, InputError
from anymask.geometry import masks as mask_geometry
from anymask.geometry import regions as mask_regions

Finder = Callable[[UInt8[np.ndarray, "h w 3"]], Bool[np.ndarray, "m h w"]]
"""What looks for masks in an RGB photograph; none where it finds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionConfig:
    """What a region must be to be kept. Areas are shares of the image; strengths are colour differences (CIE L*a*b*).

    `max_side` is the long side in pixels that larger images are scaled to before; `scales` are in such pixels.
    """

    max_side: int = 400
    scales: tuple[float, ...] = (1.5, 3.0, 6.0)
    min_area: float = 0.004
    max_area: float = 0.6
    max_border: float = 0.5
    """Share of the image's border that a region may touch."""
    max_hole: float = 0.2
    """Holes up to this share of the region's area are filled, where it touches less than `surface_border`."""
    surface_border: float = 0.1
    max_raggedness: float = 5.0
    """Perimeter² / (4 π area): 1 for a disc, 4 for trousers."""
    min_strength: float = 15.0
    """Mean strength of the boundary that is needed at every scale."""
    weak: float = 8.0
    max_weak: float = 0.12
    """Share of the boundary that may be weaker than `weak` at any scale."""
    min_prominence: float = 1.6
    """Mean strength of the boundary over that of the boundaries inside, at the middle scale."""
    same: float = 0.9
    """IoU above which a region that gains or loses something counts as the same."""
    min_stability: float = 2.5
    """Cost at which a region is joined to something else over that at which it was joined together."""
    min_share: float = 0.33
    """Score over that of the picture's best region."""
    max_overlap: float = 0.85
    """IoU with a better region above which one is its repeat."""
    max_masks: int = 8

    def __post_init__(self) -> None:
        """Check what would otherwise fail far from here."""
        if self.max_side < 16 or not self.scales or min(self.scales) <= 0:
            raise InputError(
                f"regions need a max_side of 16 or more and scales above 0, not {self.max_side} and {self.scales}"
            )


def stable_regions(image: UInt8[np.ndarray, "h w 3"], config: RegionConfig | None = None) -> Bool[np.ndarray, "m h w"]:
    """Return the stable regions of an RGB photograph, the best first; none where nothing stands out.

    Masks are in the image's own frame and may lie within each other. The same picture always gives the same ones.
    """
    plan = config or RegionConfig()
    height, width = image.shape[:2]
    scale = min(1.0, plan.max_side / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if min(size) < 3:
        return np.zeros((0, height, width), bool)
    small = image if scale == 1 else np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    tree = build_hierarchy(small, plan.scales, plan.weak)
    masks = _choose(tree, _stand_out(tree, plan), plan)
    if scale == 1:
        return masks
    enlarged = np.zeros((len(masks), height, width), bool)
    for full, mask in zip(enlarged, masks, strict=True):
        full[:] = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    return enlarged


def _stand_out(tree: Hierarchy, plan: RegionConfig) -> Int[np.ndarray, " k"]:
    """Return the nodes whose size, stability and boundary will do, the best first."""
    total = tree.leaf_of.size
    right = (tree.area >= plan.min_area * total) & (tree.area <= plan.max_area * total) & (tree.parent >= 0)
    nodes = np.flatnonzero(right)
    stability = np.array([_stability(tree, int(node), plan.same) for node in nodes], np.float64)
    stable = stability >= plan.min_stability
    nodes, stability = nodes[stable], stability[stable]
    # The edges with one leaf in a node's range are its boundary, those with both lie inside.
    first, last = tree.first[nodes, None], tree.last[nodes, None]
    one, two = ((first <= side) & (side < last) for side in tree.edges.T)
    outline, inside = (one ^ two).astype(np.float64), (one & two).astype(np.float64)
    around = np.maximum(outline @ tree.length, 1)
    mean = (outline @ tree.strength.T) / around[:, None]
    weak = (outline @ tree.weak.T) / around[:, None]
    middle = len(plan.scales) // 2
    clutter = (inside @ tree.strength[middle]) / np.maximum(inside @ tree.length, 1)
    prominence = mean[:, middle] / np.maximum(clutter, 1)
    kept = (mean.min(1) >= plan.min_strength) & (weak.max(1) <= plan.max_weak)
    kept &= prominence >= plan.min_prominence
    score = mean.min(1) * (1 - weak.max(1)) * np.sqrt(np.minimum(stability, 6)) * np.minimum(prominence, 4)
    score *= (tree.area[nodes] / total) ** 0.25
    kept &= score >= plan.min_share * score[kept].max(initial=0)
    return np.asarray(nodes[kept][np.argsort(-score[kept], kind="stable")])


def _stability(tree: Hierarchy, node: int, same: float) -> float:
    """Over what range of costs, as a ratio, a region stays nearly as it is, small gains and losses passed over."""
    area = int(tree.area[node])
    top = low = node
    while (parent := int(tree.parent[top])) >= 0 and area >= same * tree.area[parent]:
        top = parent
    while (heir := int(tree.heir[low])) >= 0 and tree.area[heir] >= same * area:
        low = heir
    return float(tree.death[top] / max(tree.birth[low], 1e-3))


def _choose(tree: Hierarchy, nodes: Int[np.ndarray, " k"], plan: RegionConfig) -> Bool[np.ndarray, "m h w"]:
    """Draw the nodes in turn, cleaned, but for near repeats and what lies along the border."""
    height, width = tree.leaf_of.shape
    kept = np.zeros((0, height, width), bool)
    for node in nodes:
        mask = (tree.leaf_of >= tree.first[node]) & (tree.leaf_of < tree.last[node])
        border = float(np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]]).mean())
        if border > plan.max_border:
            continue
        # A print belongs to its shirt; what lies on a floor, which goes on beyond the picture, does not belong to it.
        holes = plan.max_hole if border < plan.surface_border else 0.0
        mask, _ = mask_regions.remove_small(_smooth(mask), max(2.0, holes * tree.area[node]), "holes")
        mask = mask_regions.largest_component(mask)
        if not plan.min_area <= mask.mean() <= plan.max_area or _raggedness(mask) > plan.max_raggedness:
            continue
        if len(kept) and mask_geometry.pairwise_iou(mask[None], kept).max() > plan.max_overlap:
            continue
        kept = np.concatenate([kept, mask[None]])
        if len(kept) == plan.max_masks:
            break
    return kept


def _smooth(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Take off spurs and fill cracks of a pixel or two, corners left nearly as they are."""
    framed = cv2.copyMakeBorder(mask.view(np.uint8) * np.uint8(255), 2, 2, 2, 2, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.medianBlur(framed, 5)[2:-2, 2:-2] > 0)


def _raggedness(mask: Bool[np.ndarray, "h w"]) -> float:
    """Return perimeter² / (4 π area) of a mask that is not empty, the image's border left out of the perimeter."""
    steps = np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1])
    # Steps between pixels overrate a slanting line's length, by 4 / π on average.
    return float((steps * np.pi / 4) ** 2 / (4 * np.pi * np.count_nonzero(mask)))


def write_regions(
    photographs: ImageSet,
    folder: str | Path,
    *,
    find: Finder = stable_regions,
    name: str = "regions",
    per_shard: int = 200,
    skipped: Skipped | None = None,
) -> Iterator[Path]:
    """Write `<name>-00000.tar` and on, `per_shard` photographs to each, and yield each path when it is whole.

    `find` says what is a region. Tars that are there already are passed over. Photographs in which nothing is found are
    left out, broken ones counted and named in the log. Raises OutputError for a folder that cannot be written to.
    """
    target, tally = make_folder(folder), Skipped() if skipped is None else skipped
    for shard, start in enumerate(range(0, len(photographs), per_shard)):
        path = target / f"{name}-{shard:05d}.tar"
        if path.exists():
            continue
        indices = range(start, min(start + per_shard, len(photographs)))
        write_tar(path, _found(photographs, indices, find, name, tally))
        yield path


def _found(
    photographs: ImageSet, indices: Iterable[int], find: Finder, source: str, skipped: Skipped
) -> Iterator[Sample]:
    """Yield the photographs in which something is found, under keys that no two of them share."""
    for index in indices:
        origin = photographs.key(index)
        try:
            image = read_image(photographs.image_bytes(index))
        except (ImageError, DataError) as error:
            skipped.add(origin, error)
            continue
        masks = find(image)
        if len(masks):
            yield Sample(key=f"{index:06d}-{PurePosixPath(origin).stem}", image=image, masks=masks, source=source)
