"""Sheets on which people rate masks from 1 to 10, not knowing whose they are (SAM, sec. 7.1 and app. D.1).

A sheet is one HTML file: masks in random order, a scale under each; what is rated stays in the browser and is saved as
JSON. Whose mask is whose stands in a key apart, which `summarise` joins with the ratings; both bear the sheet's name,
which no other pictures or order of them have.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anymask.errors import DataError, InputError

MIN_SIDE = 24
"""Masks of fewer pixels than this squared are too small to judge."""

_GUIDE = (
    "Rate how well each mask follows one thing that the marked point is on: 10 is an outline that cannot be told from "
    "a perfect one, 7 a good one with small faults, 4 a thing that can be made out but whose outline is wrong in large "
    "parts, 1 a mask of nothing. A part is as good a thing as a whole. Judge the mask, not your own choice of thing."
)

_STYLE = """
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; font: 16px/1.5 system-ui, sans-serif; color: #1f2328;
  background: #fbfbfa; } article { background: #fff; border: 1px solid #d9dde2; padding: .8rem; margin: 1rem 0; }
img { display: block; max-width: 100%; margin: 0 auto .7rem; } fieldset { border: 0; padding: 0; margin: 0;
  display: flex; flex-wrap: wrap; gap: .3rem; justify-content: center; } label { border: 1px solid #c9ced6;
  padding: .25rem .75rem; cursor: pointer; } label:has(:checked) { background: #2f6fdb; color: #fff; }
label:focus-within { outline: 2px solid #2f6fdb; outline-offset: 1px; } input { position: absolute; opacity: 0; }
header { position: sticky; top: 0; background: #fbfbfa; padding: .6rem 0; border-bottom: 1px solid #d9dde2;
  display: flex; gap: 1rem; align-items: center; } button { font: inherit; padding: .3rem .9rem; }
"""

_SCRIPT = """
const name = document.body.dataset.sheet, kept = JSON.parse(localStorage.getItem(name) || "{}");
const total = document.querySelectorAll("article").length, count = document.getElementById("count");
const tell = () => { count.textContent = `${Object.keys(kept).length} of ${total} rated`; };
for (const input of document.querySelectorAll("input")) {
  input.checked = kept[input.name] === Number(input.value);
  input.addEventListener("change", () => {
    kept[input.name] = Number(input.value); localStorage.setItem(name, JSON.stringify(kept)); tell();
  });
}
document.getElementById("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify({ sheet: name, ratings: kept })]));
  link.download = `${name}-ratings.json`; link.click();
});
tell();
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
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
    """Method and subject."""

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


def sheet(items: Sequence[Item], *, name: str, rng: np.random.Generator) -> tuple[str, Key]:
    """Return a sheet as HTML, and its key; raises InputError without items."""
    if not items:
        raise InputError("there is no mask to rate: all are missing or under 24 × 24 pixels")
    shown = [items[index] for index in rng.permutation(len(items)).tolist()]
    digests = b"".join(hashlib.sha256(item.picture).digest() for item in shown)
    name = f"{name}-{hashlib.sha256(digests).hexdigest()[:8]}"
    articles = []
    for number, item in enumerate(shown, start=1):
        kind = "png" if item.picture.startswith(b"\x89PNG") else "jpeg"
        source = f"data:image/{kind};base64,{base64.b64encode(item.picture).decode()}"
        scale = "".join(
            f'<label><input type="radio" name="{number}" value="{value}">{value}</label>' for value in range(1, 11)
        )
        alt = f"mask {number}"
        articles.append(
            f'<article><img loading="lazy" alt="{alt}" src="{source}"><fieldset>{scale}</fieldset></article>'
        )
    title = html.escape(name)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f'</head><body data-sheet="{title}"><h1>How good is each mask?</h1><p>{_GUIDE}</p>'
        '<header><button id="save">Save ratings</button><span id="count"></span></header>'
        f"{''.join(articles)}<script>{_SCRIPT}</script></body></html>\n"
    )
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
