"""Sheets on which people rate masks from 1 to 10, not knowing whose they are (SAM, sec. 7.1 and app. D.1).

A sheet is one HTML file: masks in random order, a scale under each; what is rated stays in the browser and is saved as
JSON. Whose mask is whose stands in a key apart, which `summarise` joins with the ratings; both bear the sheet's name,
which no other pictures or order of them have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anymask.errors import DataError, InputError
from anymask.evaluation.page import picture_source, render

MIN_SIDE = 24
"""Masks of fewer pixels than this squared are too small to judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedMask:
    """One mask to be rated: a picture of it (PNG or JPEG), whose it is, and of what."""

    picture: bytes
    method: str
    subject: str
    """The thing; the same for the masks that several methods made of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What a method's masks were rated, by all people together."""

    method: str
    mean: float
    low: float
    high: float
    """The 95 % interval of the mean, from 10,000 draws of subjects with replacement."""
    num_ratings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Whose each mask of a sheet is, and of what, by its number."""

    sheet: str
    """The sheet's name."""
    masks: Mapping[str, tuple[str, str]]
    """Method and subject of each mask, by its number on the sheet."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON keeps them."""
        masks = {number: {"method": method, "subject": subject} for number, (method, subject) in self.masks.items()}
        return {"sheet": self.sheet, "masks": masks}

    @classmethod
    def from_dict(cls, values: Any) -> Key:
        """Return what `to_dict` was called on; raises DataError."""
        try:
            masks = {number: (str(of["method"]), str(of["subject"])) for number, of in values["masks"].items()}
            return cls(sheet=str(values["sheet"]), masks=masks)
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError("no key of a sheet, such as key.json beside it") from error


def sheet(items: Sequence[RatedMask], *, name: str, rng: np.random.Generator) -> tuple[str, Key]:
    """Return a sheet as HTML, and its key; raises InputError without items."""
    if not items:
        raise InputError("there is no mask to rate: all are missing or under 24 × 24 pixels")
    shown = [items[index] for index in rng.permutation(len(items)).tolist()]
    digests = b"".join(hashlib.sha256(item.picture).digest() for item in shown)
    name = f"{name}-{hashlib.sha256(digests).hexdigest()[:8]}"
    page = render("rating", name=name, pictures=[picture_source(item.picture) for item in shown])
    masks = {str(number): (item.method, item.subject) for number, item in enumerate(shown, start=1)}
    return page, Key(sheet=name, masks=masks)


def summarise(key: Key, files: Sequence[str | Path], *, rng: np.random.Generator) -> list[Rating]:
    """Join ratings that people saved with a sheet's key, the best method first; raises DataError for other files."""
    found: dict[str, dict[str, list[int]]] = {}
    for path in files:
        rated, values = _ratings(Path(path))
        if rated != key.sheet or not values.keys() <= key.masks.keys():
            raise DataError(
                f"{path}: holds ratings of the sheet {rated}, the key is that of {key.sheet}; give those of one sheet"
            )
        for number, value in values.items():
            method, subject = key.masks[number]
            found.setdefault(method, {}).setdefault(subject, []).append(value)
    if not found:
        raise DataError("nothing was rated: give files that the sheet's button saved")
    ratings = []
    for method, subjects in found.items():
        sums = np.array([[sum(values), len(values)] for values in subjects.values()], np.float64)
        drawn = sums[rng.integers(len(sums), size=(10_000, len(sums)))].sum(axis=1)
        low, high = np.percentile(drawn[:, 0] / drawn[:, 1], (2.5, 97.5)).tolist()
        total, count = sums.sum(axis=0).tolist()
        ratings.append(Rating(method=method, mean=total / count, low=low, high=high, num_ratings=int(count)))
    return sorted(ratings, key=lambda rating: -rating.mean)


def _ratings(path: Path) -> tuple[str, dict[str, int]]:
    """Return the sheet that was rated, and the ratings by mask."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as saved ratings: {error}") from error
    values = document.get("ratings") if isinstance(document, dict) else None
    if not isinstance(values, dict) or not all(isinstance(v, int) and 1 <= v <= 10 for v in values.values()):
        raise DataError(f"{path} holds no ratings, which are whole numbers from 1 to 10 by mask")
    return str(document.get("sheet")), values
