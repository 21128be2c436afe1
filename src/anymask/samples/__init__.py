"""The sample photographs that ship with the package, each free to use (README.md beside them names the sources)."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import NamedTuple

from anymask.errors import InputError


class SamplePhotograph(NamedTuple):
    """A sample photograph: its file, and a click that means one clear object."""

    file: str
    point: tuple[int, int]
    """(x, y) in pixels of the photograph."""
    object: str
    """The object that the click is on."""


SAMPLES = {
    "coffee": SamplePhotograph("coffee.jpg", (290, 130), "the cup"),
    "cat": SamplePhotograph("cat.jpg", (180, 60), "the cat"),
    "rocket": SamplePhotograph("rocket.jpg", (322, 260), "the rocket"),
    "astronaut": SamplePhotograph("astronaut.jpg", (200, 350), "the space suit"),
    "camera": SamplePhotograph("camera.jpg", (150, 260), "the man"),
    "meadow": SamplePhotograph("meadow.jpg", (207, 167), "the seed head"),
}


def sample_path(name: str) -> Path:
    """The path of the sample photograph `name`, one of `SAMPLES`.

    Raises:
        InputError: no sample has that name.
    """
    if name not in SAMPLES:
        raise InputError(f"there is no sample photograph {name!r}; there are {', '.join(SAMPLES)}")
    return Path(str(resources.files(__name__).joinpath(SAMPLES[name].file)))
