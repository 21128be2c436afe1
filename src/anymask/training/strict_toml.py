"""TOML read strictly into dataclasses: what is unknown, missing, ill-typed or senseless is refused with its line."""

from __future__ import annotations

import dataclasses
import logging
import math
import re
import tomllib
import types
import typing
from collections import Counter
from pathlib import Path
from typing import Any, Literal, TypeVar

from anymask.errors import RecipeError

_LOG = logging.getLogger(__name__)

T = TypeVar("T")
Keys = tuple[str | int, ...]
"""Where a value stands: names of tables and keys, and numbers in arrays of tables."""


def read_strictly(path: str | Path, kind: type[T]) -> T:
    """Read a TOML file as a dataclass, whose fields may be numbers, text, literals, tuples and dataclasses.

    A ValueError of a dataclass's own checks counts as wrong too; it belongs to the key that its message begins
    with, if any. Keys of former names are taken, and told of in the log. Raises RecipeError.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe {path} cannot be read: {error}") from error
    try:
        return typing.cast(T, _build(kind, tomllib.loads(text), ()))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: {error}") from error
    except _Wrong as wrong:
        raise RecipeError(f"{path}{_line_of(text, wrong.keys)}: {wrong.what}") from None


class _Wrong(Exception):
    def __init__(self, keys: Keys, what: str) -> None:
        super().__init__(what)
        self.keys, self.what = keys, what


def _name(keys: Keys) -> str:
    """Write keys as `sources[1].weight`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


def _build(kind: Any, values: Any, keys: Keys) -> Any:
    if not isinstance(values, dict):
        raise _Wrong(keys, f"{_name(keys)} must be a table, not {values!r}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    written = _former_keys(kind, values, keys)
    values = {written.get(key, key): value for key, value in values.items()}
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            known = ", ".join(sorted(fields))
            raise _Wrong((*keys, key), f"{_name((*keys, key))} is no key of a recipe; here these are: {known}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise _Wrong(keys, f"{_name((*keys, name))} is missing")
    arguments = {key: _convert(hints[key], value, (*keys, key)) for key, value in values.items()}
    try:
        return kind(**arguments)
    except ValueError as error:
        former = {new: old for old, new in written.items()}
        place = next((former.get(key, key) for key in values if str(error).startswith(f"{key} ")), None)
        raise _Wrong(keys if place is None else (*keys, place), f"{_name(keys)}: {error}".lstrip(": ")) from None


def _former_keys(kind: Any, values: dict[str, Any], keys: Keys) -> dict[str, str]:
    """Return, by the former names of keys that are given, what they are called now, and say so in the log.

    A dataclass tells its former keys as `RENAMED`. A key under both names is refused.
    """
    found = {old: new for old, new in getattr(kind, "RENAMED", {}).items() if old in values}
    for old, new in found.items():
        if new in values:
            raise _Wrong((*keys, old), f"{_name((*keys, old))} is the former name of {new}: give one of them")
        _LOG.warning("%s is called %s now; the former name will go", _name((*keys, old)), _name((*keys, new)))
    return found


def _convert(hint: Any, value: Any, keys: Keys) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, keys)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # a type or None, for which TOML has no word
        return _convert(arguments[0], value, keys)
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], v, (*keys, i)) for i, v in enumerate(value))
        if len(value) == len(arguments):
            return tuple(_convert(a, v, (*keys, i)) for i, (a, v) in enumerate(zip(arguments, value, strict=True)))
        raise _Wrong(keys, f"{_name(keys)} needs {len(arguments)} values, not {len(value)}")
    if origin is Literal and value in arguments:
        return value
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if hint is not float and isinstance(hint, type) and type(value) is hint:
        return value
    raise _Wrong(keys, f"{_name(keys)} must be {_wanted(hint)}, not {_shown(value)}")


def _wanted(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(map(_shown, arguments))
    if origin is tuple:
        return f"a list, each value {_wanted(arguments[0])}"
    names = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}
    return names.get(hint, "a table")


def _shown(value: Any) -> str:
    """Write a value as TOML does."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _line_of(text: str, keys: Keys) -> str:
    """Find the line of nested keys, or of the innermost that stands anywhere, as ', line N'; '' if none does."""
    places: dict[Keys, int] = {}
    table: Keys = ()
    arrays: Counter[Keys] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[\[?)\s*([\w.\s\"'-]+?)\s*\]", line)
        if header:
            table = ()
            for part in _path(header[2]):  # a table under an array's name belongs to the array's last table
                table = (*table, arrays[table] - 1, part) if arrays[table] else (*table, part)
            if header[1] == "[[":
                table = (*table, arrays[table])
                arrays[table[:-1]] += 1
            places.setdefault(table, number)
            continue
        found = re.match(r"\s*([\w.\"'-]+(?:\s*\.\s*[\w\"'-]+)*)\s*=", line)
        if found:
            places.setdefault((*table, *_path(found[1])), number)
    for length in range(len(keys), 0, -1):
        if keys[:length] in places:
            return f", line {places[keys[:length]]}"
    return ""


def _path(dotted: str) -> Keys:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
