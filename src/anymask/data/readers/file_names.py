"""Names of images as files of annotations have them, and the files that are meant."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from anymask.errors import DataError


class FileIndex:
    """Finds the file of each of some names below a folder; no file is found for two of them.

    A name is taken as it is, with the separators of Windows for those of here, and then without the folders that it
    begins with, the longest end first: files are moved, and annotations keep the path of another machine. macOS may
    write accents as letters and marks, which are the same name.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self._contents: dict[Path, dict[str, str]] = {}
        self._found: dict[str, Path] = {}
        self._claims: dict[Path, list[str]] = defaultdict(list)
        for name in dict.fromkeys(names):
            found = self._exact(name)
            if found is not None:
                self._found[name] = found
        taken = set(self._found.values())
        moved: dict[Path, list[str]] = defaultdict(list)
        for name in dict.fromkeys(names):
            found = None if name in self._found else self._by_ending(name)
            if found is not None:
                moved[found].append(name)
        for path, claimants in moved.items():
            if path in taken or len(claimants) > 1:
                self._claims[path] = claimants
            else:
                self._found[claimants[0]] = path

    def has(self, name: str) -> bool:
        """Whether a name's file is there, and no other name's."""
        return name in self._found

    def find(self, name: str) -> Path:
        """Return the file of one of the names; raises DataError, in words that follow the name, where there is none."""
        found = self._found.get(name)
        if found is not None:
            return found
        for path, claimants in self._claims.items():
            if name in claimants:
                others = [other for other in claimants if other != name]
                whose = f"it could be that of {others[0]} as well" if others else "that is another image's"
                raise DataError(f"is not in {self.folder}; {path.name} is there, but {whose}")
        raise DataError(f"is not in {self.folder}")

    def _exact(self, name: str) -> Path | None:
        for each in dict.fromkeys((name, name.replace("\\", "/"))):
            try:
                if each and (self.folder / each).is_file():
                    return self.folder / each
            except (OSError, ValueError):  # too long for a name, or with a null character
                return None
        return None

    def _by_ending(self, name: str) -> Path | None:
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
        for start in range(len(parts)):
            found = self._normalised(parts[start:])
            if found is not None:
                return found
        return None

    def _normalised(self, parts: Sequence[str]) -> Path | None:
        """Return the file below the folder at a path of parts, whichever way their accents are written."""
        path = self.folder
        try:
            if (path / "/".join(parts)).is_file():
                return path / "/".join(parts)
        except (OSError, ValueError):
            return None
        if all(part.isascii() for part in parts):
            return None
        for part in parts:
            name = self._names_in(path).get(unicodedata.normalize("NFC", part))
            if name is None:
                return None
            path /= name
        return path if path.is_file() else None

    def _names_in(self, folder: Path) -> dict[str, str]:
        if folder not in self._contents:
            inside = folder.iterdir() if folder.is_dir() else ()
            self._contents[folder] = {unicodedata.normalize("NFC", path.name): path.name for path in inside}
        return self._contents[folder]
