"""Write the vectors that the Python and the browser's geometry are both tested on.

``python tests/vectors/make.py`` rewrites the JSON files beside this one: rle, frames, polygons, logits, tidied and
colors. With ``--check`` it writes nothing and exits with 1 if any of them would change. Run lengths come from
pycocotools and frames from plain arithmetic, so that they test the package rather than repeat it; outlines, masks of
logits, tidied masks and colours are the package's own, kept as golden.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco

from anymask.geometry import polygons, regions, rle
from anymask.geometry.frames import resized_size
from anymask.geometry.polygons import Polygon
from anymask.inference.resize import upsample_logits
from anymask.plots.colors import palette

FOLDER = Path(__file__).parent
DRAWINGS = {
    "one pixel": ["...", ".#.", "..."],
    "empty": ["....", "....", "...."],
    "full": ["####", "####", "####"],
    "a single full pixel": ["#"],
    "a single empty pixel": ["."],
    "one row": ["..###.##"],
    "one column": ["#", "#", ".", "#"],
    "first and last pixel": ["#...", "....", "...#"],
    "a run over two columns": [".#", ".#", "#."],
    "checkers": ["#.#.", ".#.#", "#.#."],
    "ring": ["#####", "#...#", "#.#.#", "#...#", "#####"],
    "two holes that touch at a corner": ["####", "#.##", "##.#", "####"],
    "two pieces that touch at a corner": ["##..", "##..", "..##", "..##"],
    "a bay that is open at a corner": ["####", "#..#", "#..#", "###."],
    "pieces with holes": [".......", "#######", "#.#...#", "###.#.#", "#.#...#", "#######", ".......", "###...."],
}
FRAMES = [((480, 640), 1024), ((640, 480), 1024), ((1, 1), 1024), ((1, 5000), 1024), ((300, 5000), 1024)]
FRAMES += [((5000, 300), 256), ((1200, 1801), 1024), ((5, 2048), 1024), ((1024, 1024), 1024), ((37, 53), 64)]
LOGITS_SIDE = 16
LOGITS_SIZES = [(48, 64), (64, 48), (133, 97), (11, 300), (64, 64), (480, 640)]
OUTLINES: dict[str, list[list[list[float]]]] = {  # a polygon: its outer ring, then its holes
    "triangle": [[[0, 0], [8, 0], [0, 6]]],
    "through pixel centres": [[[1.5, 1.5], [5.5, 1.5], [5.5, 4.5], [1.5, 4.5]]],
    "slanted, with a hole": [[[4.2, 0.1], [8.9, 3.7], [4.4, 6.8], [0.3, 3.1]], [[4, 2.5], [3, 4], [5.5, 4]]],
    "beyond the image": [[[-4, -2], [14, 3], [5, 12]]],
    "crossing itself": [[[1, 1], [8, 6], [8, 1], [1, 6]]],
    "without area": [[[1, 1], [8, 6]]],
}


def from_rows(rows: list[str]) -> np.ndarray:
    """Read a mask drawn with '#' for its pixels."""
    return np.array([[character == "#" for character in row] for row in rows])


def to_rows(mask: np.ndarray) -> list[str]:
    """Draw a mask with '#' for its pixels."""
    return ["".join("#" if pixel else "." for pixel in row) for row in mask]


def blobs() -> dict[str, list[str]]:
    """Masks with runs long enough for several digits."""
    y, x = np.mgrid[:90, :120]
    ellipse = ((x - 60) / 50) ** 2 + ((y - 40) / 35) ** 2 < 1
    ellipse &= ((x - 70) / 12) ** 2 + ((y - 45) / 9) ** 2 > 1
    tall = np.zeros((2500, 2), bool)
    tall[40:2100, 1] = True
    return {"ellipse with a hole": to_rows(ellipse), "tall": to_rows(tall)}


def rle_vectors() -> dict[str, Any]:
    cases = []
    for name, rows in {**DRAWINGS, **blobs()}.items():
        mask = from_rows(rows)
        encoded = coco.encode(np.asfortranarray(mask, np.uint8))
        flat = mask.ravel(order="F").astype(np.int8)
        ends = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
        runs = np.diff([0, *ends, flat.size]).tolist()
        cases.append(
            {
                "name": name,
                "rows": rows,
                "rle": {"size": encoded["size"], "counts": encoded["counts"].decode()},
                "runs": runs,
                "area": int(coco.area(encoded)),
                "bbox_xywh": [int(value) for value in coco.toBbox(encoded)],
            }
        )
    malformed = ["", "7", "6 ", "6oo", "O7", "o" * 20 + "1"]
    return {"cases": cases, "malformed": [{"size": [2, 3], "counts": counts} for counts in malformed]}


def frame_vectors() -> dict[str, Any]:
    cases = []
    for (height, width), model_size in FRAMES:
        scale = model_size / max(height, width)
        resized = [max(int(side * scale + 0.5), 1) for side in (height, width)]
        points = [[0, 0], [width, height], [width / 2, height / 2], [0.25, 0.75], [-3, height + 7.5]]
        cases.append(
            {
                "original": [height, width],
                "model_size": model_size,
                "resized": resized,
                "points": points,
                "points_in_model": [[x * resized[1] / width, y * resized[0] / height] for x, y in points],
            }
        )
    return {"cases": cases}


def polygon_vectors() -> dict[str, Any]:
    outlines = []
    for name, rows in DRAWINGS.items():
        found = [
            {"exterior": piece.exterior.tolist(), "holes": [hole.tolist() for hole in piece.holes]}
            for piece in polygons.from_mask(from_rows(rows))
        ]
        outlines.append({"name": name, "rows": rows, "polygons": found})
    filled = []
    for name, (exterior, *holes) in OUTLINES.items():
        polygon = Polygon(exterior=np.array(exterior), holes=tuple(np.array(hole) for hole in holes))
        rows = to_rows(polygons.to_mask([polygon], (7, 9)))
        filled.append({"name": name, "polygon": {"exterior": exterior, "holes": holes}, "rows": rows})
    return {"outlines": outlines, "filled": filled}


def logit_vectors() -> dict[str, Any]:
    """Low-resolution logits, rounded so that they read the same everywhere, and their masks at the original size."""
    y, x = np.mgrid[:LOGITS_SIDE, :LOGITS_SIDE]
    waves = 3 * np.sin(x * 0.9 + 0.4) + 3 * np.cos(y * 0.7 - 0.2) + np.sin(x * y * 0.3)
    values = np.round(waves - 0.03 * ((x - 7) ** 2 + (y - 6) ** 2), 3).astype(np.float32)
    cases = []
    for original in LOGITS_SIZES:
        full = upsample_logits(
            torch.from_numpy(values)[None, None],
            model_size=4 * LOGITS_SIDE,
            resized=resized_size(original, 4 * LOGITS_SIDE),
            original=original,
        )
        cases.append({"original": list(original), "rle": rle.encode((full[0, 0] > 0).numpy())})
    logits = {
        "side": LOGITS_SIDE,
        "model_size": 4 * LOGITS_SIDE,
        "values": [round(v, 3) for v in values.ravel().tolist()],
    }
    return {"logits": [logits], "cases": cases}


def tidied_vectors() -> dict[str, Any]:
    """Masks without their crumbs and pinholes; clicks are (x, y)."""
    big = ["." * 24, *(["." + "#" * 20 + "..."] * 12), "." * 24]
    spoilt = [list(row) for row in big]
    for x, y in ((5, 4), (9, 8), (10, 9), (1, 6)):
        spoilt[y][x] = "."
    for x, y in ((22, 3), (22, 12), (23, 13)):
        spoilt[y][x] = "#"
    drawings = {**DRAWINGS, "crumbs, pinholes, a notch": ["".join(row) for row in spoilt]}
    cases = []
    for name, rows in drawings.items():
        for clicks in ([], [[22.5, 3.2]], [[0.5, 0.5], [30, 40]]):
            found = regions.tidy(from_rows(rows), [(x, y) for x, y in clicks])
            cases.append({"name": name, "rows": rows, "clicks": clicks, "tidied": to_rows(found)})
    return {"cases": cases}


def color_vectors() -> dict[str, Any]:
    return {"palette": palette(24).tolist()}


def contents() -> dict[str, str]:
    """Return every file's name and text, a case a line."""
    vectors = {"rle.json": rle_vectors(), "frames.json": frame_vectors(), "polygons.json": polygon_vectors()}
    vectors |= {"logits.json": logit_vectors(), "tidied.json": tidied_vectors(), "colors.json": color_vectors()}
    return {name: _text(groups) for name, groups in vectors.items()}


def _text(groups: dict[str, list[Any]]) -> str:
    parts = []
    for name, cases in groups.items():
        lines = ",\n".join(f"    {json.dumps(case)}" for case in cases)
        parts.append(f"  {json.dumps(name)}: [\n{lines}\n  ]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(arguments: list[str]) -> int:
    """Write the files, or with --check say which are stale."""
    stale = [name for name, text in contents().items() if not _is(FOLDER / name, text)]
    if "--check" in arguments:
        for name in stale:
            print(f"{name} is not what tests/vectors/make.py writes", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (FOLDER / name).write_text(contents()[name], encoding="utf-8")
        print(f"wrote {name}")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
