"""Classical interactive segmentation as `Segmenter`s, to compare a model with.

Every method sees what the model sees: the clicks of the protocol, or the box. What a method leaves open is a
setting, tuned on training photographs by `accuracy.py --tune` and kept in baseline_settings.json; how each
turns clicks and boxes into what it needs is said in its class. Where foreground and background claim the same
pixels, the nearer click has them. All frozen dataclasses, so that they can be sent to other processes.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Int32, UInt8
from skimage.segmentation import felzenszwalb, random_walker

from anymask.evaluation.protocol import PreparedImage, Reply, Request, Segmenter

SETTINGS = Path(__file__).with_name("baseline_settings.json")
_BOX_MARGIN = 0.4
"""Of a box's sides, what methods that learn the background from outside the box see on each side of it."""


class _Prepared(ABC):
    """An image on which requests are answered one by one, each with one mask and no score."""

    def __init__(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        self.image = image
        self.size = (image.shape[0], image.shape[1])

    def segment(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Answer each request when it is its turn."""
        for request in requests:
            if request.box is None:
                mask = self.from_clicks(np.rint(request.points).astype(np.int64), request.labels)
            else:
                mask = self.from_box(np.rint(request.box).astype(np.int64))
            yield Reply(masks=mask[None])

    @abstractmethod
    def from_clicks(self, points: Int[np.ndarray, "k 2"], labels: Int[np.ndarray, " k"]) -> Bool[np.ndarray, "h w"]:
        """Segment from clicks, at least one of them on the object."""

    @abstractmethod
    def from_box(self, box: Int[np.ndarray, " 4"]) -> Bool[np.ndarray, "h w"]:
        """Segment from a box (x0, y0, x1, y1), exclusive right and bottom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """No segmentation at all: a disc round the clicks, the box filled. What a method must beat to have looked."""

    radius: float = 0.1
    """Of the image's long side."""

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> PreparedImage:
        """Keep the image's size."""
        return _Shape(image, self)


class _Shape(_Prepared):
    def __init__(self, image: UInt8[np.ndarray, "h w 3"], settings: Shape) -> None:
        super().__init__(image)
        self.radius = max(1, round(settings.radius * max(self.size)))

    def from_clicks(self, points: Int[np.ndarray, "k 2"], labels: Int[np.ndarray, " k"]) -> Bool[np.ndarray, "h w"]:
        near = _discs(self.size, points[labels == 1], self.radius)
        return np.asarray(near & _is_nearer_to_object(self.size, points, labels))

    def from_box(self, box: Int[np.ndarray, " 4"]) -> Bool[np.ndarray, "h w"]:
        return _filled(self.size, box)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrabCut:
    """OpenCV's GrabCut (Rother et al. 2004), on a smaller image.

    Clicks: a small disc round each is certain, a larger one round those on the object probable foreground, the
    rest probable background; of the result, the regions that hold a click on the object. Box: outside is
    certain background, inside probable foreground, its middle certain; solved on the box and a margin round it.
    Where nothing is left the box itself is returned.
    """

    side: int = 192
    """Long side of the image that it works on."""
    iterations: int = 3
    disc: float = 0.01
    """Radius of what is certain, of the long side."""
    reach: float = 0.1
    """Radius of what is probable, of the long side."""
    border: bool = True
    """Whether the image's outermost pixels are certain background."""
    core: float = 0.2
    """Sides of a box's middle, of the box's; 0 for none."""

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> PreparedImage:
        """Shrink the image."""
        return _GrabCut(image, self)


class _GrabCut(_Prepared):
    def __init__(self, image: UInt8[np.ndarray, "h w 3"], settings: GrabCut) -> None:
        super().__init__(image)
        self.settings = settings
        self.small = _shrunk(image, settings.side)

    def from_clicks(self, points: Int[np.ndarray, "k 2"], labels: Int[np.ndarray, " k"]) -> Bool[np.ndarray, "h w"]:
        settings, size = self.settings, self.small.shape[:2]
        points, long_side = _scaled(points, self.size, size), max(size)
        known = np.full(size, cv2.GC_PR_BGD, np.uint8)
        known[_discs(size, points[labels == 1], round(settings.reach * long_side))] = cv2.GC_PR_FGD
        if settings.border:
            known[_frame(size)] = cv2.GC_BGD
        certain = _discs(size, points, round(settings.disc * long_side))
        is_object = _is_nearer_to_object(size, points, labels)
        known[certain] = np.where(is_object[certain], cv2.GC_FGD, cv2.GC_BGD)
        found = _holding(self._solve(self.small, known), points[labels == 1])
        return _grown(found, self.size)

    def from_box(self, box: Int[np.ndarray, " 4"]) -> Bool[np.ndarray, "h w"]:
        window, inner = _window(self.size, box)
        part = _shrunk(self.image[window], self.settings.side)
        inner = _scaled_box(inner, self.image[window].shape[:2], part.shape[:2])
        known = np.where(_filled(part.shape[:2], inner), cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
        if self.settings.core:
            known[_middle(part.shape[:2], inner, self.settings.core)] = cv2.GC_FGD
        found = self._solve(part, known)
        mask = np.zeros(self.size, bool)
        mask[window] = _grown(found, self.image[window].shape[:2])
        mask &= _filled(self.size, box)
        return mask if mask.any() else _filled(self.size, box)

    def _solve(self, image: UInt8[np.ndarray, "h w 3"], known: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        of_object = (cv2.GC_FGD, cv2.GC_PR_FGD)
        if np.isin(known, of_object).all() or not np.isin(known, of_object).any():  # it needs colours of both
            return np.asarray(np.isin(known, of_object))
        cv2.setRNGSeed(0)
        background, foreground, iterations = np.zeros((1, 65)), np.zeros((1, 65)), self.settings.iterations
        no_box = (0, 0, 0, 0)
        found, _, _ = cv2.grabCut(image, known, no_box, background, foreground, iterations, cv2.GC_INIT_WITH_MASK)
        return np.asarray(np.isin(found, of_object))


@dataclass(frozen=True, slots=True, kw_only=True)
class Felzenszwalb:
    """Segments of scikit-image's graph-based method (Felzenszwalb and Huttenlocher 2004), chosen by prompts.

    Clicks: the segments under clicks on the object, less those under clicks off it. Box: the segments of which
    enough lies inside, cut to the box.
    """

    scale: float = 200.0
    sigma: float = 0.8
    min_size: int = 100
    inside: float = 0.7
    """Share of a segment that must lie inside the box."""

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> PreparedImage:
        """Segment the image once."""
        return _Felzenszwalb(image, self)


class _Felzenszwalb(_Prepared):
    def __init__(self, image: UInt8[np.ndarray, "h w 3"], settings: Felzenszwalb) -> None:
        super().__init__(image)
        self.inside = settings.inside
        self.segments = felzenszwalb(image, settings.scale, settings.sigma, settings.min_size, channel_axis=-1)

    def from_clicks(self, points: Int[np.ndarray, "k 2"], labels: Int[np.ndarray, " k"]) -> Bool[np.ndarray, "h w"]:
        under = self.segments[points[:, 1], points[:, 0]]
        on, off = (np.isin(self.segments, under[labels == label]) for label in (1, 0))
        return _settled(on, off, points, labels)

    def from_box(self, box: Int[np.ndarray, " 4"]) -> Bool[np.ndarray, "h w"]:
        inside = _filled(self.size, box)
        total = np.bincount(self.segments.ravel())
        within = np.bincount(self.segments[inside], minlength=len(total))
        chosen = within >= self.inside * np.maximum(total, 1)
        return np.asarray(chosen[self.segments] & inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomWalker:
    """scikit-image's random walker (Grady 2006), on a smaller image.

    Clicks: small discs round them are seeds, and so is the image's border, of background. Box: background seeds
    outside, foreground seeds in its middle, solved on the box and a margin round it.
    """

    side: int = 128
    beta: float = 300.0
    disc: float = 0.01
    """Radius of a seed, of the long side."""
    core: float = 0.3
    """Sides of a box's middle, of the box's."""

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> PreparedImage:
        """Shrink the image."""
        return _RandomWalker(image, self)


class _RandomWalker(_Prepared):
    def __init__(self, image: UInt8[np.ndarray, "h w 3"], settings: RandomWalker) -> None:
        super().__init__(image)
        self.settings = settings
        self.small = _shrunk(image, settings.side)

    def from_clicks(self, points: Int[np.ndarray, "k 2"], labels: Int[np.ndarray, " k"]) -> Bool[np.ndarray, "h w"]:
        size = self.small.shape[:2]
        points = _scaled(points, self.size, size)
        seeds = np.zeros(size, np.int32)
        seeds[_frame(size)] = 2
        certain = _discs(size, points, round(self.settings.disc * max(size)))
        seeds[certain] = np.where(_is_nearer_to_object(size, points, labels)[certain], 1, 2)
        return _grown(self._solve(self.small, seeds), self.size)

    def from_box(self, box: Int[np.ndarray, " 4"]) -> Bool[np.ndarray, "h w"]:
        window, inner = _window(self.size, box)
        part = _shrunk(self.image[window], self.settings.side)
        inner = _scaled_box(inner, self.image[window].shape[:2], part.shape[:2])
        seeds = np.where(_filled(part.shape[:2], inner), 0, 2).astype(np.int32)
        seeds[_middle(part.shape[:2], inner, self.settings.core)] = 1
        mask = np.zeros(self.size, bool)
        mask[window] = _grown(self._solve(part, seeds), self.image[window].shape[:2])
        return np.asarray(mask & _filled(self.size, box))

    def _solve(self, image: UInt8[np.ndarray, "h w 3"], seeds: Int32[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        if seeds.all() or not ((seeds == 1).any() and (seeds == 2).any()):
            return np.asarray(seeds != 2)
        pixels = image.astype(np.float64) / 255
        # Only which probability is larger matters, so those slightly outside [0, 1] need no warning.
        found = random_walker(
            pixels, seeds, beta=self.settings.beta, mode="cg_j", tol=1e-3, prob_tol=np.inf, channel_axis=-1
        )
        return np.asarray(found == 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodFill:
    """OpenCV's flood fill by colour, on the image slightly blurred.

    Clicks: all that floods from clicks on the object, less what floods from those off it. Box: what floods
    from its centre, cut to the box.
    """

    tolerance: int = 20
    """Difference allowed in each of R, G and B."""
    blur: float = 1.0
    fixed: bool = True
    """Whether pixels are compared with the click, or each with its neighbour."""

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> PreparedImage:
        """Blur the image."""
        return _FloodFill(image, self)


class _FloodFill(_Prepared):
    def __init__(self, image: UInt8[np.ndarray, "h w 3"], settings: FloodFill) -> None:
        super().__init__(image)
        self.settings = settings
        self.smooth = cv2.GaussianBlur(image, (0, 0), settings.blur) if settings.blur else image

    def from_clicks(self, points: Int[np.ndarray, "k 2"], labels: Int[np.ndarray, " k"]) -> Bool[np.ndarray, "h w"]:
        on, off = (self._flood(points[labels == label]) for label in (1, 0))
        return _settled(on, off, points, labels)

    def from_box(self, box: Int[np.ndarray, " 4"]) -> Bool[np.ndarray, "h w"]:
        flooded = self._flood((box[None, :2] + box[None, 2:]) // 2)
        return np.asarray(flooded & _filled(self.size, box))

    def _flood(self, points: Int[np.ndarray, "k 2"]) -> Bool[np.ndarray, "h w"]:
        flags = 8 | cv2.FLOODFILL_MASK_ONLY | 1 << 8 | (cv2.FLOODFILL_FIXED_RANGE if self.settings.fixed else 0)
        allowed = (self.settings.tolerance,) * 3
        flooded = np.zeros(self.size, bool)
        for x, y in points.tolist():
            framed = np.zeros((self.size[0] + 2, self.size[1] + 2), np.uint8)
            cv2.floodFill(self.smooth, framed, (x, y), 0, allowed, allowed, flags)
            flooded |= framed[1:-1, 1:-1] == 1
        return flooded


METHODS: dict[str, type[Any]] = {
    "GrabCut": GrabCut,
    "Felzenszwalb": Felzenszwalb,
    "random walker": RandomWalker,
    "flood fill": FloodFill,
    "disc or box": Shape,
}
GRIDS: dict[str, dict[str, tuple[float | bool, ...]]] = {
    "GrabCut": {
        "reach": (0.05, 0.1, 0.2),
        "border": (True, False),
        "disc": (0.01, 0.02, 0.04),
        "core": (0.0, 0.2, 0.4, 0.6),
        "iterations": (1, 3),
        "side": (192, 256),
    },
    "Felzenszwalb": {
        "scale": (50.0, 100.0, 200.0, 400.0, 800.0),
        "min_size": (50, 100, 200, 400),
        "sigma": (0.5, 0.8, 1.2),
        "inside": (0.5, 0.7, 0.9),
    },
    "random walker": {
        "beta": (100.0, 300.0, 1000.0, 3000.0),
        "disc": (0.01, 0.02, 0.04),
        "core": (0.2, 0.4, 0.6, 0.8),
        "side": (64, 96, 128, 192),
    },
    "flood fill": {"tolerance": (4, 8, 16, 24, 32, 48), "fixed": (True, False), "blur": (0.0, 1.0, 2.0)},
    "disc or box": {"radius": (0.03, 0.05, 0.08, 0.12, 0.2)},
}
"""Values that tuning tries, one setting after the other, each with the best of those before."""


def tuned() -> dict[str, Segmenter]:
    """Return every method with the settings that tuning found."""
    kept = json.loads(SETTINGS.read_text())
    return {name: method(**kept[name]["settings"]) for name, method in METHODS.items()}


def _discs(size: Sequence[int], points: Int[np.ndarray, "k 2"], radius: int) -> Bool[np.ndarray, "h w"]:
    drawn = np.zeros(tuple(size[:2]), np.uint8)
    for x, y in points.tolist():
        cv2.circle(drawn, (x, y), max(radius, 0), 1, cv2.FILLED)
    return drawn.astype(bool)


def _filled(size: Sequence[int], box: Int[np.ndarray, " 4"]) -> Bool[np.ndarray, "h w"]:
    x0, y0, x1, y1 = np.maximum(box, 0).tolist()
    mask = np.zeros(tuple(size[:2]), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def _middle(size: Sequence[int], box: Int[np.ndarray, " 4"], share: float) -> Bool[np.ndarray, "h w"]:
    """Return the middle of a box, its sides `share` of the box's, at least a pixel."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * share / 2
    low = np.floor(centre - half)
    return _filled(size, np.concatenate([low, np.maximum(np.ceil(centre + half), low + 1)]).astype(np.int64))


def _frame(size: Sequence[int]) -> Bool[np.ndarray, "h w"]:
    return ~_filled(size, np.array([1, 1, size[1] - 1, size[0] - 1]))


def _is_nearer_to_object(
    size: Sequence[int], points: Int[np.ndarray, "k 2"], labels: Int[np.ndarray, " k"]
) -> Bool[np.ndarray, "h w"]:
    """Say which pixels have a click on the object for their nearest; of clicks equally near, the later."""
    y, x = np.ogrid[: size[0], : size[1]]
    distance = [(x - px) ** 2 + (y - py) ** 2 for px, py in points[::-1].tolist()]
    return np.asarray(labels[::-1][np.argmin(distance, axis=0)] == 1)


def _settled(
    on: Bool[np.ndarray, "h w"],
    off: Bool[np.ndarray, "h w"],
    points: Int[np.ndarray, "k 2"],
    labels: Int[np.ndarray, " k"],
) -> Bool[np.ndarray, "h w"]:
    """Return what clicks on the object claim, less what clicks off it claim and are nearer to."""
    return np.asarray(on & (~off | _is_nearer_to_object(on.shape, points, labels)))


def _holding(mask: Bool[np.ndarray, "h w"], points: Int[np.ndarray, "k 2"]) -> Bool[np.ndarray, "h w"]:
    """Return the regions of a mask that hold a point."""
    _, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return np.asarray(mask & np.isin(regions, regions[points[:, 1], points[:, 0]]))


def _shrunk(image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "hs ws 3"]:
    """Shrink an image to a long side of at most `side`."""
    height, width = image.shape[:2]
    scale = min(side / max(height, width), 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _grown(mask: Bool[np.ndarray, "hs ws"], size: Sequence[int]) -> Bool[np.ndarray, "h w"]:
    """Bring a small mask to `size` = (height, width), its edges smooth."""
    soft = cv2.resize(mask.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft > 0.5)


def _scaled(points: Int[np.ndarray, "k 2"], size: Sequence[int], to: Sequence[int]) -> Int[np.ndarray, "k 2"]:
    """Map pixels of an image of `size` to those of its shrunk copy."""
    ratio = np.array([to[1] / size[1], to[0] / size[0]])
    return np.asarray(np.clip((points + 0.5) * ratio, 0, [to[1] - 1, to[0] - 1]), np.int64)


def _scaled_box(box: Int[np.ndarray, " 4"], size: Sequence[int], to: Sequence[int]) -> Int[np.ndarray, " 4"]:
    """Map a box likewise; it keeps at least a pixel."""
    ratio: Float[np.ndarray, " 4"] = np.tile([to[1] / size[1], to[0] / size[0]], 2)
    scaled = np.rint(box * ratio).astype(np.int64)
    scaled[2:] = np.maximum(scaled[2:], scaled[:2] + 1)
    return np.asarray(scaled)


def _window(size: Sequence[int], box: Int[np.ndarray, " 4"]) -> tuple[tuple[slice, slice], Int[np.ndarray, " 4"]]:
    """Return the box with a margin as slices (rows, columns), and the box in that window's frame."""
    x0, y0, x1, y1 = box.tolist()
    across, down = max(round((x1 - x0) * _BOX_MARGIN), 4), max(round((y1 - y0) * _BOX_MARGIN), 4)
    left, top = max(x0 - across, 0), max(y0 - down, 0)
    window = slice(top, min(y1 + down, size[0])), slice(left, min(x1 + across, size[1]))
    return window, box - np.array([left, top, left, top])
