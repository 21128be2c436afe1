"""How masks of everything in an image are made: the options, checked, and three sets of them that have names."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from anymask.errors import InputError
from anymask.geometry import points
from anymask.geometry.crops import DEFAULT_OVERLAP
from anymask.model import SamConfig

MAX_LAYERS = 6
"""The most layers of crops; the sixth has 4,096."""
MAX_POINTS_PER_SIDE = 1024
MIN_MEMORY = 1 << 20
"""The least that `memory_limit` may be, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticOptions:
    """Settings of `AutomaticMasks`; those that Meta's generator has bear its names and its defaults.

    Raises InputError for an invalid value (SAM, app. B).
    """

    points_per_side: int | None = 32
    """The grid has this many points per side; None where `point_grids` are given."""
    points_per_batch: int = 64
    """Points that the decoder is asked about in one call; fewer where memory does not allow it."""
    pred_iou_thresh: float | None = None
    """Masks of a predicted IoU up to this are dropped; 0 drops none, None takes the model's own (Meta's: 0.88)."""
    stability_score_thresh: float | None = None
    """Masks of a stability below this are dropped; 0 drops none, None takes the model's own (Meta's: 0.95)."""
    stability_score_offset: float = 1.0
    """The stability is the IoU of the masks cut this much, in logits, above and below the threshold."""
    box_nms_thresh: float = 0.7
    """Of two masks of one crop that overlap by more than this IoU the one of the lower predicted IoU is dropped."""
    crop_n_layers: int = 0
    """Layers of crops besides the whole image; layer i has 2^i × 2^i of them."""
    crop_nms_thresh: float = 0.7
    """The same for masks of different crops; the smaller crop's mask stays."""
    crop_overlap_ratio: float = DEFAULT_OVERLAP
    """How much crops of the first layer overlap, as a fraction of the image's short side; halves with each layer."""
    crop_n_points_downscale_factor: int = 1
    """The grid of layer i has points_per_side divided by this^i points per side."""
    point_grids: Sequence[ArrayLike] | None = None
    """A grid (n, 2) of (x, y) in the unit square for each layer, in place of `points_per_side`."""
    min_mask_region_area: int = 0
    """Islands and holes of fewer pixels are removed and filled; 0 leaves all."""

    nms: Literal["box", "mask"] = "box"
    """Whether overlap is the IoU of boxes, as in Meta's code, or that of the masks themselves."""
    adaptive: bool = False
    """Go from coarse to fine, and leave out points whose answer a confident mask of a neighbour foretells."""
    max_area_fraction: float = 1.0
    """Masks that cover this fraction of the image or more are dropped; 1 drops none."""
    memory_limit: int = 256 << 20
    """Bytes that may be held besides the image, the model and its embeddings, whatever the image's size."""

    def __post_init__(self) -> None:
        """Check every value by itself, then those that depend on one another."""
        for name in ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh", "crop_nms_thresh"):
            if getattr(self, name) is not None or name.endswith("nms_thresh"):
                self._check(name, 0, 1)
        self._check("stability_score_offset", 0, math.inf)
        self._check("crop_overlap_ratio", 0, 1)
        self._check("max_area_fraction", 0, 1)
        self._check_whole("points_per_batch", 1)
        self._check_whole("crop_n_layers", 0, MAX_LAYERS)
        self._check_whole("crop_n_points_downscale_factor", 1)
        self._check_whole("min_mask_region_area", 0)
        self._check_whole("memory_limit", MIN_MEMORY)
        if self.nms not in ("box", "mask"):
            raise InputError(f'nms is {self.nms!r}; it must be "box" or "mask"')
        if (self.points_per_side is None) == (self.point_grids is None):
            raise InputError("give either points_per_side or point_grids, and None for the other")
        if self.points_per_side is not None:
            self._check_whole("points_per_side", 1, MAX_POINTS_PER_SIDE)
        if self.point_grids is not None:
            object.__setattr__(self, "point_grids", _checked_grids(self.point_grids, self.crop_n_layers + 1))

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> AutomaticOptions:
        """Return one of `PRESETS`, single options of it replaced. Raises InputError for an unknown name."""
        if name not in PRESETS:
            raise InputError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
        return PRESETS[name].replace(**overrides)

    def replace(self, **overrides: Any) -> AutomaticOptions:
        """Return these options with single ones replaced. Raises InputError for an unknown one."""
        known = [field.name for field in dataclasses.fields(self)]
        unknown = [name for name in overrides if name not in known]
        if unknown:
            raise InputError(f"there is no option {unknown[0]!r}; there are {', '.join(known)}")
        return dataclasses.replace(self, **overrides)

    def for_model(self, config: SamConfig) -> AutomaticOptions:
        """Return these options with the model's own thresholds where none were given."""
        names = ("pred_iou_thresh", "stability_score_thresh")
        return self.replace(**{name: getattr(config, name) for name in names if getattr(self, name) is None})

    @property
    def thresholds(self) -> tuple[float, float]:
        """Least predicted IoU and least stability; `for_model` has put in what was left open."""
        assert self.pred_iou_thresh is not None and self.stability_score_thresh is not None
        return self.pred_iou_thresh, self.stability_score_thresh

    def grids(self) -> list[Float[np.ndarray, "n 2"]]:
        """Return each layer's points (x, y) in the unit square, row by row."""
        if self.point_grids is not None:
            return [np.asarray(grid, np.float64).reshape(-1, 2) for grid in self.point_grids]
        assert self.points_per_side is not None
        return points.layer_grids(self.points_per_side, self.crop_n_layers, self.crop_n_points_downscale_factor)

    def _check(self, name: str, least: float, most: float) -> None:
        value = getattr(self, name)
        if not is_number(value) or not least <= value <= most:
            bounds = f"from {least} to {most}" if most < math.inf else f"of {least} or more"
            raise InputError(f"{name} is {value!r}; it must be a number {bounds}")
        object.__setattr__(self, name, float(value))

    def _check_whole(self, name: str, least: int, most: int | None = None) -> None:
        value = getattr(self, name)
        if not is_whole(value) or value < least or (most is not None and value > most):
            bounds = f"of {least} or more" if most is None else f"from {least} to {most:,}"
            raise InputError(f"{name} is {value!r}; it must be a whole number {bounds}")
        object.__setattr__(self, name, int(value))


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a real number, NumPy's included; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, NumPy's included; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _checked_grids(grids: Sequence[ArrayLike], num_layers: int) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Return the grids as plain values, so that options can be compared and hashed."""
    if len(grids) < num_layers:
        raise InputError(
            f"point_grids has {len(grids)} grids; the image and each layer of crops need one: {num_layers}"
        )
    plain = []
    for grid in grids:
        values = np.asarray(grid, np.float64)
        if values.ndim != 2 or values.shape[1] != 2 or not ((values >= 0) & (values <= 1)).all():
            raise InputError(f"a grid of shape {values.shape} was given; (n, 2) from 0 to 1 was expected")
        plain.append(tuple((float(x), float(y)) for x, y in values))
    return tuple(plain)


PRESETS: dict[str, AutomaticOptions] = {
    "fast": AutomaticOptions(points_per_side=16, adaptive=True),
    "balanced": AutomaticOptions(adaptive=True),
    "paper": AutomaticOptions(
        crop_n_layers=2, crop_n_points_downscale_factor=2, min_mask_region_area=100, max_area_fraction=0.95
    ),
}
"""`fast`: few points, and fewer asked; `balanced`: Meta's grid, known answers left out; `paper`: SA-1B's own."""
