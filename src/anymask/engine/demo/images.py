"""Pictures of one kind, drawn for the demo where there are no photographs: leaves on sheets of paper.

They are as alike as a team's own pictures are, so that a model which knows nothing can learn them in minutes; the
scenes of `anymask.data.synthetic` teach a model to segment anything, which takes hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from anymask.data.files import make_folder
from anymask.data.writers.sa1b import encode_jpeg
from anymask.engine.formats.pairs import pair, records, write_tar
from anymask.engine.store import Annotation
from anymask.geometry import rle

SIZE = (240, 320)
_TRIES = 40
_GAP = 5
"""Pixels that are left between two leaves."""


def leaf_tars(folder: Path, *, train: int = 40, held_out: int = 6, seed: int = 0) -> tuple[Path, Path]:
    """Draw sheets, and write them with their masks as two tars of SA-1B's layout; the same seed draws the same."""
    made = []
    for place, (name, count) in enumerate((("train", train), ("held-out", held_out))):
        path = make_folder(folder) / f"{name}.tar"
        write_tar(path, _files(name, count, np.random.default_rng((seed, place))))
        made.append(path)
    return made[0], made[1]


def sheet(rng: np.random.Generator) -> tuple[UInt8[np.ndarray, "h w 3"], list[Bool[np.ndarray, "h w"]]]:
    """Draw a sheet with three to seven leaves, and return their masks, none of which touches another."""
    pixels = np.full((*SIZE, 3), rng.uniform((215, 205, 180), (245, 238, 220)), np.float32)
    grain = cv2.resize(rng.normal(0, 6, (SIZE[0] // 4, SIZE[1] // 4)).astype(np.float32), SIZE[::-1])
    pixels += grain[..., None] + np.linspace(0, rng.uniform(-30, 10), SIZE[1])[None, :, None]
    taken = np.zeros(SIZE, np.uint8)
    masks: list[Bool[np.ndarray, "h w"]] = []
    wanted = int(rng.integers(3, 8))
    for _ in range(_TRIES):
        leaf, rib = _leaf(rng)
        if leaf.sum() < 200 or (leaf & taken).any():
            continue
        taken[cv2.dilate(leaf, np.ones((2 * _GAP + 1, 2 * _GAP + 1), np.uint8)) > 0] = 1
        mask = leaf > 0
        colour = rng.uniform((40, 90, 30), (150, 150, 70))
        pixels[mask] = colour + grain[mask][:, None] * 2
        pixels[mask & (rib > 0)] *= 0.8
        masks.append(mask)
        if len(masks) == wanted:
            break
    return np.clip(pixels + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8), masks


def _leaf(rng: np.random.Generator) -> tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]:
    """Draw a leaf, wholly on the sheet, and its midrib."""
    length, angle = rng.uniform(60, 120), rng.uniform(0, np.pi)
    along = np.linspace(0, 1, 40)
    half = length * rng.uniform(0.15, 0.3) * np.sin(np.pi * along ** rng.uniform(0.6, 1.2))
    half *= 1 + rng.uniform(0, 0.12) * np.sin(along * rng.uniform(15, 40))
    x = np.concatenate([along, along[::-1]]) * length - length / 2
    y = np.concatenate([half, -half[::-1]])
    turned = np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], axis=1)
    low, high = -turned.min(axis=0), np.array(SIZE[::-1]) - turned.max(axis=0)
    outline = turned + rng.uniform(low, high)
    leaf, rib = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    cv2.fillPoly(leaf, [np.round(outline).astype(np.int32)], 1)
    ends = np.round(outline[[0, 39]]).astype(int).tolist()
    cv2.line(rib, ends[0], ends[1], 1, 2)
    return leaf, rib


def _files(name: str, count: int, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for number in range(count):
        pixels, masks = sheet(rng)
        drawn = [Annotation(id=str(index), rle=rle.encode(mask)) for index, mask in enumerate(masks)]
        made = records(drawn)
        yield from pair(f"{name}-{number:03d}", "jpg", encode_jpeg(pixels), SIZE, number, made)
