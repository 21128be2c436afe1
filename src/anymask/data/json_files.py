"""JSON from outside: one reader, and one error for whatever is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anymask.errors import DataError


def read_json(path: str | Path) -> Any:
    """Return what a JSON file holds; raises DataError as `parse_json`, and where it cannot be read."""
    try:
        document = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a null character in a path is a ValueError
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return parse_json(document, str(path))


def parse_json(document: bytes | str, name: str) -> Any:
    """Return what JSON stands for, with or without a byte order mark.

    Raises DataError that calls it `name`, with line and column where it is malformed, and where it is of no encoding of
    JSON, nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(document.removeprefix("\ufeff") if isinstance(document, str) else document)
    except json.JSONDecodeError as error:
        raise DataError(f"{name} is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is no JSON: its bytes are not UTF-8 at position {error.start}") from error
    except RecursionError as error:
        raise DataError(f"{name} cannot be read: its lists and objects are nested too deeply") from error
    except ValueError as error:  # Python's limit on the digits of a whole number
        raise DataError(f"{name} cannot be read: it has a whole number of thousands of digits") from error
    except MemoryError as error:
        raise DataError(f"{name} cannot be read: it is too large for the memory of this machine") from error


def as_whole(value: object) -> int | None:
    """Return a whole number, also where it is written as 1.0 or "1"; None for all else, true and false included."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else None
    if isinstance(value, str) and len(value) <= 20 and value.strip().isascii():
        text = value.strip().removesuffix(".0")
        return int(text) if text.removeprefix("-").isdecimal() else None
    return None


def as_flag(value: object) -> bool:
    """Return whether a flag is set: true, a number but 0, or a text that is none of "", "0", "false" and "no"."""
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "0.0", "false", "no", "none", "null")
    return bool(value) and value == value


def as_number(value: object) -> float | None:
    """Return a finite number, also where it is written as text; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None
