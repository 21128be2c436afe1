"""The draw of an object of any kind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from anymask.data.synthetic.artefacts import bottle, cuboid, sign, tool, vehicle, window
from anymask.data.synthetic.creatures import beast, figure, hand
from anymask.data.synthetic.divisions import banded, cracked, detailed, joined, nested, plain
from anymask.data.synthetic.pieces import Body, Cutouts
from anymask.data.synthetic.plants import bunch, flower, fruit, strand, tree

Maker = Callable[[np.random.Generator, Cutouts], Body]

MAKERS: tuple[tuple[Maker, float], ...] = (
    (plain, 4.5),
    (banded, 1.6),
    (cracked, 0.8),
    (detailed, 2.0),
    (nested, 1.0),
    (joined, 1.6),
    (figure, 1.2),
    (beast, 1.3),
    (hand, 0.7),
    (tool, 1.4),
    (vehicle, 0.7),
    (cuboid, 1.2),
    (bottle, 1.1),
    (window, 0.4),
    (sign, 0.6),
    (flower, 0.7),
    (bunch, 0.8),
    (tree, 0.5),
    (strand, 0.7),
    (fruit, 1.0),
)
_CHANCES = np.array([weight for _, weight in MAKERS]) / sum(weight for _, weight in MAKERS)


def draw_body(rng: np.random.Generator, cutouts: Cutouts = ()) -> Body:
    """An object of any kind; cut-outs lend their silhouettes."""
    return MAKERS[int(rng.choice(len(MAKERS), p=_CHANCES))][0](rng, cutouts)
