"""Recipes: a training run as a TOML file, read strictly into frozen dataclasses."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from anymask.data.transforms import TransformConfig
from anymask.errors import RecipeError
from anymask.task.losses import LossConfig
from anymask.task.rounds import RoundsConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """One source of samples: tars (glob patterns, `~` and $VARIABLES expanded), its weight, its variations."""

    tars: tuple[str, ...]
    weight: float = 1.0
    transforms: TransformConfig = field(default_factory=TransformConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimConfig:
    """AdamW and its schedule (SAM, app. A)."""

    learning_rate: float = 8e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.1
    warmup: int = 250
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    final_factor: float = 0.01
    """Learning rate at the end of a cosine, relative to the highest."""
    milestones: tuple[int, ...] = ()
    """Steps after which the `steps` schedule divides by ten."""
    clip_norm: float = 1.0
    accumulate: int = 1
    ema: float = 0.0
    """Decay of the moving average of the weights; 0 keeps none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What is trained: a named size, its input side, and the weights to start from ('' for random ones)."""

    size: str = "compact"
    image_size: int = 512
    start: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """How long, how large, how often."""

    steps: int
    batch_size: int = 16
    num_masks: int = 4
    seed: int = 0
    device: str = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    num_workers: int = 1
    num_threads: int = 0
    """Threads of the CPU's kernels; 0 leaves torch's choice."""
    save_every: int = 500
    validate_every: int = 0
    sheet_every: int = 0
    log_every: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole training run."""

    run: RunConfig
    sources: tuple[SourceConfig, ...]
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    loss: LossConfig = field(default_factory=LossConfig)


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe; an unknown, missing or ill-typed key raises RecipeError with its line."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe {path} cannot be read: {error}") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: {error}") from error
    try:
        recipe = _build(Recipe, values, ())
    except _Wrong as wrong:
        raise RecipeError(f"{path}{_line_of(text, wrong.keys)}: {wrong.what}") from None
    return typing.cast(Recipe, recipe)


class _Wrong(Exception):
    def __init__(self, keys: tuple[str, ...], what: str) -> None:
        super().__init__(what)
        self.keys, self.what = keys, what


def _build(kind: Any, values: Any, keys: tuple[str, ...]) -> Any:
    if not isinstance(values, dict):
        raise _Wrong(keys, f"{'.'.join(keys)} must be a table, not {_kind_of(values)}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            known = ", ".join(sorted(fields))
            raise _Wrong((*keys, key), f"{'.'.join((*keys, key))} is no key of a recipe; here these are: {known}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise _Wrong(keys, f"{'.'.join((*keys, name))} is missing")
    return kind(**{key: _convert(hints[key], value, (*keys, key)) for key, value in values.items()})


def _convert(hint: Any, value: Any, keys: tuple[str, ...]) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, keys)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], v, keys) for v in value)
        if len(value) == len(arguments):
            return tuple(_convert(a, v, keys) for a, v in zip(arguments, value, strict=True))
        raise _Wrong(keys, f"{'.'.join(keys)} needs {len(arguments)} values, not {len(value)}")
    if origin is Literal and value in arguments:
        return value
    if origin is types.UnionType:
        arguments = tuple(a for a in arguments if a is not types.NoneType)
        return _convert(arguments[0], value, keys)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    wanted = " or ".join(map(repr, arguments)) if origin is Literal else getattr(hint, "__name__", str(hint))
    raise _Wrong(keys, f"{'.'.join(keys)} must be {wanted}, not {value!r}")


def _kind_of(value: Any) -> str:
    return {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}.get(
        type(value), type(value).__name__
    )


def _line_of(text: str, keys: tuple[str, ...]) -> str:
    """Find the line on which the last of nested keys stands, as ', line N'; '' if it stands nowhere."""
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
        if header:
            table = [part.strip().strip('"') for part in header[1].split(".")]
            if tuple(table) == keys:
                return f", line {number}"
            continue
        found = re.match(r'\s*"?([\w.-]+)"?\s*=', line)
        if found and (*table, *found[1].split(".")) == keys:
            return f", line {number}"
        if found and keys and (*table, *found[1].split("."), keys[-1]) == keys and keys[-1] in line:
            return f", line {number}"
    return ""
