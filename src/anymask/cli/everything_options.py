"""The flags of `anymask everything` as options of the generator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anymask.errors import DataError, InputError
from anymask.inference import AutomaticOptions

_HOW_NOT_WHAT = ("points_per_batch", "memory_limit")
"""Options that change how masks are made, and not which."""


def build_options(preset: str, given: Mapping[str, Any]) -> AutomaticOptions:
    """Return a preset's options with those replaced that were given (not None). Raises InputError."""
    replaced = {name: value for name, value in given.items() if value is not None}
    if "point_grids" in replaced:
        if "points_per_side" in replaced:
            raise InputError("--points-per-side and --point-grids both say where the points are: give one of them")
        replaced |= {"point_grids": _read_grids(replaced["point_grids"]), "points_per_side": None}
    return AutomaticOptions.preset(preset, **replaced)


def _read_grids(path: Path) -> list[Any]:
    from anymask.data.json_files import read_json

    try:
        grids = read_json(path)
    except DataError as error:
        raise InputError(f"--point-grids {path}: cannot be read as JSON ({error})") from error
    if not isinstance(grids, list):
        raise InputError(f"--point-grids {path}: a list of grids was expected, each a list of [x, y] from 0 to 1")
    return grids


def build_tiling(tile: int | None, overlap: int | None) -> dict[str, int]:
    """Return the tiles' side and overlap, nothing where none are wanted. Raises InputError."""
    if tile is None:
        if overlap is not None:
            raise InputError("--overlap says how far tiles overlap: give --tile too")
        return {}
    shared = tile // 4 if overlap is None else overlap
    if not 0 <= shared < tile:
        raise InputError(f"--tile {tile} and --overlap {shared}: the overlap must be 0 or more and below the tile")
    return {"tile": tile, "overlap": shared}


def described(options: AutomaticOptions) -> dict[str, Any]:
    """Return, as JSON has them, the options that decide which masks there are."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(options)))
    return {name: value for name, value in values.items() if name not in _HOW_NOT_WHAT}
