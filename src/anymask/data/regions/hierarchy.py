"""A picture's hierarchy of regions: how strong its boundaries are at several scales, and regions merged by them.

Basins of weak boundary are flooded from their bottoms and then joined two by two, the most alike first, until one is
left: a tree, each of whose nodes is a region with the cost at which it was joined together and that at which it is
joined to another.

Legend: N basins, from which the tree grows, M = 2N - 1 regions of it, E edges along which two basins meet, P pairs of
pixels on both sides of them, S scales, B bins of a histogram, K pairs of regions.

Source: contour hierarchies in the manner of Arbeláez et al. (2011), made small.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

_CHROMA = 1.25  # a difference of hue tells more of an edge than one of lightness, which shadows also make
_DIRECTIONS = ((1.0, 0.0), (0.0, 1.0), (0.7071, 0.7071), (0.7071, -0.7071))
_BINS = 24
_BASIN = 7  # pixels: at most one basin's bottom in a square of this side
_SIZE_POWER = 0.15
_LEAST_DIFFERENCE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """A binary tree over n leaves: nodes 0 to n - 1 are leaves, n to 2n - 2 joints in the order of their making.

    `leaf_of` (h, w) gives each pixel's leaf in the order of a walk through the tree, so that node i holds the leaves
    `first[i]` to `last[i]` - 1. `birth` and `death` are the costs at which a node was made and used up, infinite for
    the root; `parent` is the node it was joined into, `heir` its larger child, -1 for none. Leaves meet along `edges`
    (e, 2): `length` in pairs of pixels and, a row per scale, the sum of `strength` over these pairs, as a difference of
    colour, and how many of them are `weak`.
    """

    leaf_of: Int[np.ndarray, "h w"]
    first: Int[np.ndarray, " m"]
    last: Int[np.ndarray, " m"]
    birth: Float[np.ndarray, " m"]
    death: Float[np.ndarray, " m"]
    area: Int[np.ndarray, " m"]
    parent: Int[np.ndarray, " m"]
    heir: Int[np.ndarray, " m"]
    edges: Int[np.ndarray, "e 2"]
    length: Float[np.ndarray, " e"]
    strength: Float[np.ndarray, "s e"]
    weak: Float[np.ndarray, "s e"]


def build_hierarchy(image: UInt8[np.ndarray, "h w 3"], scales: Sequence[float], weak: float) -> Hierarchy:
    """Return the hierarchy of an RGB picture; the same picture gives the same one.

    `scales` are in pixels, the finest first; a pair of pixels counts as weak where its strength is below `weak`.
    """
    lab = _lab(image)
    strengths = [boundary_strength(lab, scale) for scale in scales]
    fine = np.sqrt(strengths[0] * strengths[min(1, len(scales) - 1)])
    basins = _flood(lab, fine)
    num = int(basins.max()) + 1
    edges, pairs, places = _adjacency(basins, num)

    def sums(values: Float[np.ndarray, " p"]) -> Float[np.ndarray, " e"]:
        return np.bincount(pairs, values, len(edges))

    length = sums(np.ones(len(pairs)))
    along = [s.ravel()[places].mean(0) for s in strengths]
    tree = _merge(
        _histograms(lab, basins, num),
        np.bincount(basins.ravel(), minlength=num),
        edges,
        length,
        sums(fine.ravel()[places].mean(0)),
    )
    order, first, last = _walk(tree.children, num)
    parent, heir = _kin(tree.children, tree.area)
    return Hierarchy(
        leaf_of=order[basins],
        first=first,
        last=last,
        birth=tree.birth,
        death=tree.death,
        area=tree.area,
        parent=parent,
        heir=heir,
        edges=order[edges],
        length=length,
        strength=np.stack([sums(s) for s in along]),
        weak=np.stack([sums((s < weak).astype(np.float64)) for s in along]),
    )


def _lab(image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """CIE L*a*b* with the two chroma channels stretched: distances are colour differences."""
    lab = cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)
    return np.asarray(lab * np.array((1, _CHROMA, _CHROMA), np.float32))


def boundary_strength(lab: Float32[np.ndarray, "h w 3"], scale: float) -> Float32[np.ndarray, "h w"]:
    """The largest difference, over four directions, between the mean colours `scale` pixels to either side."""
    height, width = lab.shape[:2]
    margin = int(np.ceil(scale)) + 1
    soft = cv2.GaussianBlur(lab, (0, 0), scale * 0.6)
    soft = cv2.copyMakeBorder(soft, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    strongest = np.zeros((height, width), np.float32)
    for dx, dy in _DIRECTIONS:
        x, y = round(dx * scale), round(dy * scale)
        ahead = soft[margin + y : margin + y + height, margin + x : margin + x + width]
        behind = soft[margin - y : margin - y + height, margin - x : margin - x + width]
        difference = ahead - behind
        np.maximum(strongest, np.einsum("hwc,hwc->hw", difference, difference), out=strongest)
    return np.sqrt(strongest)


def _flood(lab: Float32[np.ndarray, "h w 3"], strength: Float32[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """Part the picture into basins around the places where the boundary is weakest, 0 on."""
    smooth = cv2.bilateralFilter(lab, 5, 12.0, 2.0)
    level = np.floor(cv2.GaussianBlur(strength, (0, 0), 1.0))
    bottoms = level <= cv2.erode(level, np.ones((_BASIN, _BASIN), np.uint8))
    _, marks = cv2.connectedComponents(bottoms.view(np.uint8), connectivity=8)
    # OpenCV marks a frame of one pixel as border, and the lines where two basins meet.
    marks = cv2.copyMakeBorder(marks, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    colours = np.clip(smooth * 2 + np.array((0, 128, 128), np.float32), 0, 255).astype(np.uint8)
    framed = cv2.copyMakeBorder(colours, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    flooded = cv2.watershed(framed, marks)[1:-1, 1:-1]
    filled = _fill_lines(flooded, smooth)
    return np.asarray(np.unique(filled, return_inverse=True)[1].reshape(filled.shape))


def _fill_lines(marks: Int[np.ndarray, "h w"], lab: Float32[np.ndarray, "h w 3"]) -> Int[np.ndarray, "h w"]:
    """Give each pixel of the lines between basins to the neighbour of the most similar colour."""
    marks = marks.copy()
    height, width = marks.shape
    while (lines := np.argwhere(marks < 1)).size:
        best = np.full(len(lines), np.inf)
        chosen = np.zeros(len(lines), marks.dtype)
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)):
            y, x = (lines + np.array((dy, dx))).clip(0, (height - 1, width - 1)).T
            gap = np.abs(lab[y, x] - lab[lines[:, 0], lines[:, 1]]).sum(1)
            gap[marks[y, x] < 1] = np.inf
            nearer = gap < best
            best[nearer], chosen[nearer] = gap[nearer], marks[y, x][nearer]
        marks[lines[:, 0], lines[:, 1]] = chosen
    return marks


def _adjacency(
    basins: Int[np.ndarray, "h w"], num: int
) -> tuple[Int[np.ndarray, "e 2"], Int[np.ndarray, " p"], Int[np.ndarray, "2 p"]]:
    """Return which basins meet, and for each pair of pixels across a boundary its edge and the two flat places."""
    places = np.arange(basins.size).reshape(basins.shape)
    one = np.concatenate([places[:, :-1].ravel(), places[:-1].ravel()])
    two = np.concatenate([places[:, 1:].ravel(), places[1:].ravel()])
    flat = basins.ravel()
    across = flat[one] != flat[two]
    one, two = one[across], two[across]
    low, high = np.minimum(flat[one], flat[two]), np.maximum(flat[one], flat[two])
    keys, pairs = np.unique(low.astype(np.int64) * num + high, return_inverse=True)
    return np.stack([keys // num, keys % num], axis=1), pairs, np.stack([one, two])


def _histograms(
    lab: Float32[np.ndarray, "h w 3"], basins: Int[np.ndarray, "h w"], num: int
) -> Float[np.ndarray, "n b"]:
    """Count each basin's pixels by lightness and by either chroma, softly between neighbouring bins."""
    flat = basins.ravel().astype(np.int64)
    parts = []
    for channel, (low, high) in enumerate(((0.0, 100.0), (-75.0, 75.0), (-75.0, 75.0))):
        place = ((lab[:, :, channel].ravel() - low) / (high - low) * (_BINS - 1)).clip(0, _BINS - 1.001)
        lower = place.astype(np.int64)
        upper_share = place - lower
        counts = np.bincount(flat * _BINS + lower, 1 - upper_share, num * _BINS)
        counts += np.bincount(flat * _BINS + lower + 1, upper_share, num * _BINS)
        parts.append(cv2.blur(counts.reshape(num, _BINS), (3, 1), borderType=cv2.BORDER_REFLECT))
    return np.concatenate(parts, axis=1) / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tree:
    children: list[tuple[int, int]]
    birth: Float[np.ndarray, " m"]
    death: Float[np.ndarray, " m"]
    area: Int[np.ndarray, " m"]


_Contacts = list[dict[int, tuple[float, float]]]
"""For each region those that it meets: pairs of pixels, and the sum of the boundary's strength over them."""


def _merge(
    histograms: Float[np.ndarray, "n b"],
    areas: Int[np.ndarray, " n"],
    edges: Int[np.ndarray, "e 2"],
    length: Float[np.ndarray, " e"],
    strength: Float[np.ndarray, " e"],
) -> _Tree:
    """Join the pair of least cost until one region is left."""
    num = len(areas)
    nodes = 2 * num - 1
    colours = np.zeros((nodes, histograms.shape[1]), np.float32)
    colours[:num] = histograms / areas[:, None]
    area = np.concatenate([areas, np.zeros(num - 1, np.int64)])
    birth, death = np.zeros(nodes), np.full(nodes, np.inf)
    contacts: _Contacts = [{} for _ in range(nodes)]
    pairs = edges.tolist()
    for (i, j), pixels, summed in zip(pairs, length.tolist(), strength.tolist(), strict=True):
        contacts[i][j] = contacts[j][i] = (pixels, summed)
    costs = _costs(colours, area, edges[:, 0], edges[:, 1], strength / length)
    queue = [(cost, i, j) for cost, (i, j) in zip(costs, pairs, strict=True)]
    heapq.heapify(queue)
    children: list[tuple[int, int]] = []
    while queue:
        cost, i, j = heapq.heappop(queue)
        if death[i] < np.inf or death[j] < np.inf:
            continue
        new = num + len(children)
        children.append((i, j))
        birth[new] = death[i] = death[j] = max(cost, birth[i], birth[j])
        area[new] = area[i] + area[j]
        colours[new] = (colours[i] * area[i] + colours[j] * area[j]) / area[new]
        met = _join_contacts(contacts, i, j, new)
        others = np.fromiter(met, np.int64, len(met))
        mean = np.array([summed / pixels for pixels, summed in met.values()])
        for cost, k in zip(_costs(colours, area, others, np.full_like(others, new), mean), met, strict=True):
            heapq.heappush(queue, (cost, k, new))
    return _Tree(children=children, birth=birth, death=death, area=area)


def _costs(
    colours: Float32[np.ndarray, "m b"],
    area: Int[np.ndarray, " m"],
    one: Int[np.ndarray, " k"],
    two: Int[np.ndarray, " k"],
    strength: Float[np.ndarray, " k"],
) -> list[float]:
    """What it costs to join regions: their boundary's mean strength × how their colours differ × the smaller's size.

    Colours differ by the χ² distance of their histograms, which sees a check as one where a boundary sees many.
    """
    a, b = colours[one], colours[two]
    different = ((a - b) ** 2 / (a + b + np.float32(1e-6))).sum(1) / 2
    size = np.minimum(area[one], area[two]) ** _SIZE_POWER
    costs: list[float] = (strength * (_LEAST_DIFFERENCE + different) * size).tolist()
    return costs


def _join_contacts(contacts: _Contacts, i: int, j: int, new: int) -> dict[int, tuple[float, float]]:
    """Hand what regions i and j meet to the one made of them, and return it."""
    met = contacts[i]
    for k, (pixels, summed) in contacts[j].items():
        known = met.get(k, (0.0, 0.0))
        met[k] = (known[0] + pixels, known[1] + summed)
    del met[i], met[j]
    contacts[i], contacts[j], contacts[new] = {}, {}, met
    for k, value in met.items():
        contacts[k].pop(i, None)
        contacts[k].pop(j, None)
        contacts[k][new] = value
    return met


def _walk(
    children: list[tuple[int, int]], num: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Number the leaves in the order of a walk through the tree; return these numbers and each node's range."""
    nodes = num + len(children)
    size = [1] * num
    for i, j in children:
        size.append(size[i] + size[j])
    first = np.zeros(nodes, np.int64)
    for index in range(len(children) - 1, -1, -1):
        i, j = children[index]
        first[i] = first[num + index]
        first[j] = first[i] + size[i]
    return first[:num], first, first + np.array(size)


def _kin(
    children: list[tuple[int, int]], area: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Return each node's parent and its larger child, -1 for none."""
    parent, heir = np.full(len(area), -1), np.full(len(area), -1)
    pairs = np.array(children, np.int64).reshape(-1, 2)
    joints = np.arange(len(area) - len(pairs), len(area))
    parent[pairs] = joints[:, None]
    heir[joints] = np.where(area[pairs[:, 0]] >= area[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    return parent, heir
