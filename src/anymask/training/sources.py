"""A recipe's sources opened: globs to files, files to a stream of batches."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence

from anymask.data.cache import ImageCache
from anymask.data.loader import BatchStream, Source
from anymask.data.open import open_data
from anymask.data.sample import SampleSet
from anymask.data.tar_places import is_url
from anymask.errors import DataError
from anymask.training.config import Recipe, SourceConfig
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
        deep=recipe.run.deep,
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
