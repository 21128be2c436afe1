"""Rating sheets: blind, complete, and summed up as the ratings say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from anymask.errors import DataError, InputError
from anymask.evaluation.page import Page
from anymask.evaluation.rating import Key, RatedMask, sheet, summarise

ITEMS = [RatedMask(picture=b"\x89PNG" + bytes([n]), method="ab"[n % 2], subject=f"thing {n // 2}") for n in range(20)]


def test_a_sheet_shows_every_mask_once_in_an_order_that_the_seed_decides_and_never_whose_it_is() -> None:
    page, key = sheet(ITEMS, name="study", rng=np.random.default_rng(0))
    assert page.count("<img") == 20 and page.count('type="radio"') == 200
    assert sorted(key.masks.values()) == sorted((i.method, i.subject) for i in ITEMS)
    assert Key.from_dict(json.loads(json.dumps(key.to_dict()))) == key and f'data-sheet="{key.sheet}"' in page
    assert "thing" not in re.sub(r"<p>.*?</p>", "", page)
    again, other = (sheet(ITEMS, name="study", rng=np.random.default_rng(seed))[1] for seed in (0, 1))
    assert key == again != other and key.sheet != other.sheet
    others = [RatedMask(picture=item.picture + b"x", method=item.method, subject=item.subject) for item in ITEMS]
    redrawn = sheet(others, name="study", rng=np.random.default_rng(0))[1]
    assert redrawn.masks == key.masks and redrawn.sheet != key.sheet
    with pytest.raises(InputError, match="no mask to rate"):
        sheet([], name="study", rng=np.random.default_rng(0))


def test_ratings_are_averaged_by_method_with_an_interval(tmp_path: Path) -> None:
    _, key = sheet(ITEMS, name="study", rng=np.random.default_rng(0))
    files = []
    for person in range(2):
        values = {number: (8 if method == "a" else 3) + person for number, (method, _) in key.masks.items()}
        files.append(tmp_path / f"{person}.json")
        files[-1].write_text(json.dumps({"sheet": key.sheet, "ratings": values}))
    best, other = summarise(key, files, rng=np.random.default_rng(0))
    assert (best.method, best.mean, best.num_ratings) == ("a", 8.5, 20)
    assert (other.method, other.mean) == ("b", 3.5)
    assert best.low == best.high == 8.5  # every thing was rated the same


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "holds no ratings"), ("{", "cannot be read"), ('{"ratings": {"1": 11}}', "holds no ratings"),
     ('{"sheet": "s", "ratings": {"99": 5}}', "give those of one sheet"),
     ('{"sheet": "t", "ratings": {"1": 5}}', "of the sheet t, the key is that of s"),
     ('{"ratings": {"1": 5}}', "the key is that of s"), ('{"sheet": "s", "ratings": {}}', "nothing was rated")],
)  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "ratings.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        summarise(Key(sheet="s", masks={"1": ("a", "x")}), [path], rng=np.random.default_rng(0))


def test_a_page_escapes_what_it_is_told() -> None:
    page = Page("<a>").text("x < y").table(["<b>", "n"], [["<i>", "1"]], bold=[(0, 1)]).pictures([(b"\xff\xd8", '"q"')])
    made = page.html()
    assert "<a>" not in made and "x &lt; y" in made and "&lt;i&gt;" in made and "<b>1</b>" in made
    assert 'alt="&#34;q&#34;"' in made and "data:image/jpeg;base64,/9g=" in made
