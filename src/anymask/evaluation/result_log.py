"""Which images of a set a benchmark takes, and their results: a line per image, appended as soon as it is there, so
that a stopped run can be resumed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from anymask.data.files import make_folder, write_text_atomic
from anymask.data.sample import Skipped
from anymask.errors import AnymaskError, DataError, OutputError

_VERSION = 1


class Keyed(Protocol):
    """Images that have names."""

    def key(self, index: int, /) -> str:
        """Return an image's name."""
        ...


class ResultLog:
    """Results by image in a file of JSON lines, the first of which holds what they all depend on.

    A file of other settings, or one that anymask did not write, is started again; a line that a crash cut short is
    dropped. Raises OutputError where the file cannot be written.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        make_folder(self.path.parent)
        self._head = json.dumps({"version": _VERSION, **settings}, sort_keys=True) + "\n"
        self._whole = self._length()
        if not self._whole:
            write_text_atomic(self.path, self._head)
            self._whole = len(self._head.encode())

    def read(self) -> Iterator[tuple[str, Any]]:
        """Yield each image's key and result, a line in memory at a time."""
        with self.path.open("rb") as file:
            file.readline()
            while file.tell() < self._whole:
                key, result = json.loads(file.readline())
                yield key, result

    def append(self, key: str, result: object) -> None:
        """Keep an image's result, which JSON must be able to hold."""
        line = (json.dumps([key, result], separators=(",", ":")) + "\n").encode()
        try:
            with self.path.open("r+b") as file:
                file.seek(self._whole)
                file.write(line)
                file.truncate()
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        self._whole += len(line)

    def _length(self) -> int:
        """Return how many bytes from the beginning are whole lines of ours; 0 where the settings are others."""
        try:
            with self.path.open("rb") as file:
                if file.readline() != self._head.encode():
                    return 0
                whole = file.tell()
                for line in file:
                    if not _is_record(line):
                        break
                    whole += len(line)
                return whole
        except OSError:
            return 0


def _is_record(line: bytes) -> bool:
    try:
        match json.loads(line):
            case [str(), _]:
                return line.endswith(b"\n")
    except ValueError:
        pass
    return False


def measured(
    name: str,
    images: Keyed,
    chosen: Sequence[int],
    measure: Callable[[int], Any],
    skipped: Skipped,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    result_log: ResultLog | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield each chosen image's index and what `measure` makes of it, in values that JSON holds, an image at a time.

    What the log has is not measured again, and what is measured is kept there. Images that cannot be used are added to
    `skipped`; `progress` is called with the set, the images done and their number. Raises DataError where none can be
    used.
    """
    kept = {} if result_log is None else dict(result_log.read())
    for done, index in enumerate(chosen, start=1):
        key = images.key(index)
        try:
            record = kept.pop(key, None)
            if record is None:
                record = measure(index)
                if result_log is not None:
                    result_log.append(key, record)
            yield index, record
        except AnymaskError as error:
            skipped.add(key, error)
        if progress is not None:
            progress(name, done, len(chosen))
    if skipped.total == len(chosen):
        raise DataError(f"{name}: none of its {len(chosen)} images can be evaluated")


def seeded(seed: int, name: str) -> np.random.Generator:
    """Return a generator of a seed and a name, the same wherever and after whatever else it is asked for."""
    return np.random.default_rng([seed, zlib.crc32(name.encode(errors="surrogateescape"))])


def draw_images(count: int, limit: int | None, rng: np.random.Generator) -> list[int]:
    """Return the indices of `count` images, or of `limit` of them drawn at random, in ascending order."""
    if limit is None or count <= limit:
        return list(range(count))
    drawn: list[int] = rng.choice(count, limit, replace=False).tolist()
    return sorted(drawn)


def num_drawn(sets: Iterable[Sized], limit: int | None) -> int:
    """Return how many images `draw_images` takes of several sets together, each of at most `limit`."""
    return sum(len(each) if limit is None else min(len(each), limit) for each in sets)
