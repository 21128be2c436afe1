"""What a run begins with: sources opened (globs to files, files to batches), and the weights to start from.

Photographs that nobody has labelled have a model's own sure masks (`OwnMasks`): the data engine's third stage in small
(SAM, sec. 4).
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8

from anymask.checkpoints import load_model
from anymask.checkpoints.efficientnet import load_trunk, read_efficientnet
from anymask.checkpoints.mae import load_mae_encoder, read_mae
from anymask.data.cache import ImageCache
from anymask.data.loader import BatchStream, Source
from anymask.data.open import open_data
from anymask.data.sample import SampleSet
from anymask.data.tar_access import is_url
from anymask.errors import DataError
from anymask.geometry import rle
from anymask.inference import AutomaticMasks
from anymask.model import Sam, build_sam
from anymask.training.config import ModelConfig, Recipe, SourceConfig
from anymask.training.distributed import join_processes

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def build_stream(recipe: Recipe, *, start: int = 0) -> BatchStream:
    """Open the recipe's sources as a stream of batches from step `start` on."""
    config, processes = recipe.model.build(), join_processes(recipe.run.device)
    cache = image_cache(recipe)
    return BatchStream(
        [Source(files=_open(s, cache), weight=s.weight, transforms=s.transforms) for s in recipe.sources],
        batch_size=recipe.run.batch_size,
        num_masks=recipe.run.num_masks,
        image_size=config.image_size,
        mask_size=4 * config.embedding_size,
        seed=recipe.run.seed,
        start=start * recipe.optim.accumulate,
        nested_mask_weight=recipe.run.nested_mask_weight,
        fit=config.fit,
        rank=processes.rank,
        count=processes.count,
    )


def image_cache(recipe: Recipe) -> ImageCache | None:
    """Return the cache of decoded images that the recipe asks for, if any."""
    if not recipe.cache.mib:
        return None
    return ImageCache(recipe.cache.mib * 2**20, expanded(recipe.cache.folder) or None)


def _open(source: SourceConfig, cache: ImageCache | None) -> SampleSet:
    return open_data(places(source), expanded(source.annotations) or None, cache=cache)


def places(source: SourceConfig) -> list[str]:
    """Return where a source's images lie; raises DataError for a pattern that matches nothing."""
    kinds = {"tar": source.tars, "folder": source.folders, "data": source.data}
    return [path for kind, patterns in kinds.items() for path in find(patterns, kind)]


def find(patterns: Sequence[str], kind: str) -> list[str]:
    """Return the paths that a recipe's glob patterns match, `~` and $VARIABLES expanded.

    Raises DataError for a pattern that matches nothing, whatever the others do.

    URLs have braces in place of patterns: `s3://bucket/sa_{000000..000999}.tar`.
    """
    paths: list[str] = []
    for pattern in map(expanded, patterns):
        matched = _numbered(pattern) if is_url(pattern) else sorted(glob.glob(pattern))
        if not matched:
            raise DataError(f"no {kind} matches {pattern}; are the path and its variables right?")
        paths += matched
    return paths


def _numbered(url: str) -> list[str]:
    """Write out a range of numbers in braces, with leading zeros as its bounds have them."""
    found = _RANGE.search(url)
    if found is None:
        return [url]
    first, last = found[1], found[2]
    names = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    return [full for name in names for full in _numbered(url[: found.start()] + name + url[found.end() :])]


def expanded(path: str) -> str:
    """Write out `~` and $VARIABLES in a path."""
    return os.path.expanduser(os.path.expandvars(path))


def build_start(config: ModelConfig, *, seed: int) -> Sam | None:
    """Return the model that training begins with; None where the recipe names no weights.

    Random weights are those of the seed.

    Raises:
        CheckpointError: the weights cannot be read, or are not of the recipe's size.
    """
    name = expanded(config.start)
    plain = read_mae(name) if name else None
    trunk = read_efficientnet(name) if name and plain is None else None
    if name and plain is None and trunk is None:
        return load_model(name)
    if not name and not config.rest:
        return None
    torch.manual_seed(seed)
    model = build_sam(config.build())
    if config.rest:
        take_over(model, load_model(config.rest))
    if plain is not None:
        load_mae_encoder(model, plain)
    if trunk is not None:
        load_trunk(model, trunk)
    return model


def take_over(model: Sam, other: Sam) -> list[str]:
    """Copy the other model's tensors where names and shapes agree, and return these names."""
    own = model.state_dict()
    alike = {name: x for name, x in other.state_dict().items() if name in own and own[name].shape == x.shape}
    model.load_state_dict(own | alike)
    return list(alike)


MAX_SIDES = 1
"""Sides of the picture that a mask may touch: what lies across two is background, and ends in a ragged line."""


class OwnMasks:
    """Finds the masks of everything that a model is sure of, and that lie within the picture."""

    def __init__(
        self, model: Sam, *, min_iou: float = 0.65, min_stability: float = 0.85, points_per_side: int = 12
    ) -> None:
        self._automatic = AutomaticMasks(
            model,
            pred_iou_thresh=min_iou,
            stability_score_thresh=min_stability,
            points_per_side=points_per_side,
            adaptive=True,
        )

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "m h w"]:
        """Return the masks of an RGB picture, the surest first; none where the model is not sure."""
        masks = [rle.decode(record.rle) for record in self._automatic.generate(image)]
        stacked = np.stack(masks) if masks else np.zeros((0, *image.shape[:2]), bool)
        kept: Bool[np.ndarray, "m h w"] = stacked[touched_sides(stacked) <= MAX_SIDES]
        return kept


def touched_sides(masks: Bool[np.ndarray, "m h w"]) -> Int[np.ndarray, " m"]:
    """Return how many of the picture's four sides each mask touches."""
    sides = (masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1])
    touched: Int[np.ndarray, " m"] = np.sum([side.any(1) for side in sides], axis=0)
    return touched
