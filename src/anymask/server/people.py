"""People who may use a server, each with a token: a file of names and of what shows that a token is theirs.

The file holds no token, only its SHA-256: tokens are 24 random bytes, which nobody finds by trying.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

from filelock import FileLock

from anymask.data.files import write_bytes_atomic
from anymask.engine.store.names import MACHINES, MAX_NAME
from anymask.errors import InputError

_TOKEN_BYTES = 24


class People:
    """The people of a file, which is read again when it has changed: additions and removals take effect at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: tuple[int, int] | None = None
        self._names: dict[str, str] = {}
        self._read()

    def name_of(self, token: str) -> str | None:
        """Return whose token it is, None if nobody's."""
        self._read()
        return self._names.get(_digest(token))

    def _read(self) -> None:
        """Read the file if it is another than before; one that cannot be read lets nobody in. Raises InputError."""
        try:
            found = self._path.stat()
        except OSError as error:
            self._names = {}
            raise InputError(f"{self._path}: {error.strerror or error}; `anymask people add NAME` makes one") from error
        state = (found.st_mtime_ns, found.st_size)
        if state != self._state:
            self._names = {digest: name for name, digest in _load(self._path).items()}
            self._state = state


def add_person(path: Path, name: str) -> str:
    """Add a person to a file, which is made if need be, and return the token, which is kept nowhere.

    Raises InputError for a name that is there already or cannot be one, or a file of another kind.
    """
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or name != name.strip() or name in MACHINES:
        raise InputError(
            f"{name[:40]!r} cannot be a person's name: 1 to {MAX_NAME} printable characters, without spaces around them"
        )
    with _changing(path):
        people = _load(path) if path.exists() else {}
        if name in people:
            raise InputError(f"{name} is in {path} already; remove the name first to give it another token")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        _save(path, people | {name: _digest(token)})
    return token


def remove_person(path: Path, name: str) -> None:
    """Remove a person, whose token no longer opens anything; raises InputError where there is none of the name."""
    with _changing(path):
        people = _load(path)
        if name not in people:
            raise InputError(f"{name} is not in {path}; there are {', '.join(people) or 'no people'}")
        _save(path, {each: digest for each, digest in people.items() if each != name})


def list_people(path: Path) -> list[str]:
    """Return the names in a file; raises InputError."""
    return list(_load(path))


def _changing(path: Path) -> FileLock:
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: there is no such folder")
    return FileLock(path.with_name(f".{path.name}.lock"))


def _load(path: Path) -> dict[str, str]:
    """Return the digest of each person's token."""
    try:
        people: Any = json.loads(path.read_text(encoding="utf-8"))["people"]
        found = {each["name"]: each["sha256"] for each in people}
        if not all(isinstance(part, str) for pair in found.items() for part in pair):
            raise TypeError
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; `anymask people add NAME` makes one") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: is no file of people, as `anymask people add NAME` makes it") from error
    return found


def _save(path: Path, people: dict[str, str]) -> None:
    listed = [{"name": name, "sha256": digest} for name, digest in people.items()]
    text = json.dumps({"people": listed}, indent=1, ensure_ascii=False)
    write_bytes_atomic(path, text.encode(), mode=0o600)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
