"""Sound inputs made unsound: bytes, JSON, text, numbers and arrays, each by a generator of random numbers."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

ODD_TEXTS = (
    "",
    " ",
    "\0",
    "..",
    "../../../etc/passwd",
    "/dev/null",
    "/dev/zero",
    "a" * 5000,
    "\ud800",
    "🙂",
    "%00",
    "-1",
    "nan",
    "1e999",
    "NaN",
    "'; DROP TABLE images; --",
    "\r\nX-Evil: 1",
    "null",
    "[]",
    "{}",
    "０１２",
    "1,2,3",
    "0,0",
    "99999999999999999999",
    "0x10",
)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**53,
    2**64,
    -(2**63),
    0.5,
    1e308,
    -0.0,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    {"": None},
    [0] * 100,
    *ODD_TEXTS,
)
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)


def pick(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def mutated_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """Change, cut, repeat, drop or insert stretches of bytes, once or a few times."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        size = len(changed)
        at = int(rng.integers(size + 1))
        length = int(min(rng.geometric(0.1), 4096))
        match int(rng.integers(8)):
            case 0:
                del changed[at:]
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = rng.bytes(length)
            case 3:
                changed[at:at] = changed[at : at + length] * int(rng.integers(1, 20))
            case 4 if size:
                changed[at % size] = pick(rng, _INTERESTING)
            case 5 if size:
                changed[at % size] ^= 1 << int(rng.integers(8))
            case 6:  # a length or an offset of a header
                number = int(pick(rng, (0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, size, size + 1)))
                changed[at : at + 4] = number.to_bytes(4, pick(rng, ("little", "big")))
            case _:
                head = int(rng.integers(min(size, 64) + 1))
                changed[head : head + 1] = rng.bytes(1)
    return bytes(changed)


def mutated_json(rng: np.random.Generator, value: Any) -> Any:
    """Replace, drop, double or add one or a few of the values of a document."""
    document = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(document))
        if not places:
            return pick(rng, ODD_VALUES)
        holder, key = pick(rng, places)
        match int(rng.integers(6)):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(pick(rng, ODD_VALUES))
            case 3:
                del holder[key]
            case 4 if isinstance(holder, list):
                holder.insert(int(key), copy.deepcopy(holder[key]))
            case 4:
                holder[f"{key}_"] = copy.deepcopy(holder[key])
            case _:
                holder[key] = [copy.deepcopy(holder[key])] * int(rng.integers(1, 4))
    return document


def nearly(rng: np.random.Generator, value: Any) -> Any:
    """Replace one value of a document by another of its kind: what is still understood, and goes further in.

    A document without values stays as it is.
    """
    document = copy.deepcopy(value)
    leaves = [(holder, key) for holder, key in _places(document) if not isinstance(holder[key], dict | list)]
    if not leaves:
        return document
    holder, key = pick(rng, leaves)
    match holder[key]:
        case bool() as known:
            holder[key] = not known
        case int():
            holder[key] = int(pick(rng, (0, 1, 2, 3, 97, 2**31 - 1, 2**53 - 1)))
        case float():
            holder[key] = float(pick(rng, (0.0, 1.0, 1e-300, 0.1 + 0.2, 86_400.0)))
        case str():
            holder[key] = str(
                pick(rng, ("a", "b", "Ann", "é", "e\u0301", "🙂", "0", "a" * 60, "\u202e", "0`5", "oo", ".."))
            )
    return document


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def mutated_document(rng: np.random.Generator, value: Any) -> bytes:
    """Return JSON whose values were changed, and now and then its bytes, too."""
    text = json.dumps(mutated_json(rng, value)).encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        text = b"[" * 2000 + text + b"]" * 2000
    return mutated_bytes(rng, text) if rng.random() < 0.2 else text


def mutated_text(rng: np.random.Generator, text: str) -> str:
    """Return another text in the place of one, or one near it."""
    if rng.random() < 0.5:
        return str(pick(rng, ODD_TEXTS))
    changed = list(text)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(changed) + 1))
        changed[at : at + int(rng.integers(2))] = [str(pick(rng, list("0123456789,.:-+eE/\\ \0é%[]{}\"'")))]
    return "".join(changed)


def odd_array(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return an array of about this shape, of any dtype, with values that numbers seldom have."""
    sides = [int(pick(rng, (side, side, side, 0, 1, side + 1))) for side in shape]
    if rng.random() < 0.2:
        sides = sides[1:] if rng.random() < 0.5 else [1, *sides]
    kind = pick(
        rng, ("uint8", "float32", "float64", "int64", "bool", "uint16", "int32", "float16", "complex64", "object")
    )
    values = rng.normal(0, 100, sides)
    if rng.random() < 0.3 and values.size:
        values.flat[int(rng.integers(values.size))] = pick(rng, (np.nan, np.inf, -np.inf, 1e300, -1e300))
    with np.errstate(all="ignore"):
        array: np.ndarray = values.astype(kind)
    return array
