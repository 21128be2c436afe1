"""Results: files that appear all or none, and the exit status of a result that lacks some."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anymask.errors import OutputError

SOME_FAILED = 1
"""Exit status where all was done but for some images, which are named."""


def check_folder(folder: Path) -> None:
    """Raise OutputError if `folder` surely cannot be made or written to; nothing is made yet."""
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise OutputError(f"{existing}: is no folder, results cannot be written into it")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{existing}: cannot be written to; give -o a folder that can")


@contextmanager
def all_or_nothing(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write to; at the end its files move to `folder`, made if need be.

    If anything fails before, or a file's place is taken by a folder, `folder` is left as it was, and if it was not
    there it still is not. Raises OutputError.
    """
    check_folder(folder)
    made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    staging: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".anymask-", dir=folder))
        yield staging
        written = sorted(staging.iterdir())
        for path in written:
            if (folder / path.name).is_dir():
                raise OutputError(f"{folder / path.name}: is a folder, in the place of a result")
        for path in written:
            os.replace(path, folder / path.name)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written to ({error.strerror or error})") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        for path in made:  # no effect on those that got a file
            with suppress(OSError):
                path.rmdir()
