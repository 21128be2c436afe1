"""Files that are whole or absent: written beside their place, then moved onto it; one, or all of a result."""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from anymask.errors import OutputError

if TYPE_CHECKING:  # verbs import this file before any library
    import numpy as np
    from jaxtyping import Bool, UInt8

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")
_ABANDONED_SECONDS = 3600.0
_TORCH_WRITER = "inline_container"
"""What the RuntimeError names by which torch reports a full disk."""


def cache_folder() -> Path:
    """Where anymask keeps what it downloads: $ANYMASK_HOME, or the user's cache folder. It need not exist."""
    import platformdirs

    home = os.environ.get("ANYMASK_HOME")
    return Path(home).expanduser() if home else platformdirs.user_cache_path("anymask", appauthor=False)


def make_folder(path: str | Path) -> Path:
    """Make a folder, and those above it, where it is missing; raises OutputError where that cannot be."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {path}: {error.strerror}; give one that can be written to"
        ) from error
    return Path(path)


def write_whole(path: str | Path, write: Callable[[Path], object], *, mode: int | None = None) -> None:
    """Let `write` fill a temporary file beside `path`, and move it there when it is whole.

    `mode` is the file's from its first byte, such as 0o600 for what only its owner may read; None leaves it to the
    umask.
    `path` holds its old content or all of the new one, never a part: against a crash of the process and for readers
    meanwhile; a power cut is left to the file system. A link is followed: the file that it points to is replaced.

    Raises:
        OutputError: the folder is missing or read-only, `path` is a folder, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise OutputError(f"{path}: is a folder, the name of a file was expected")
    if not target.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {target.parent}; create it first")
    # Not tempfile: it makes files that only their owner may read, whatever the umask says.
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.touch(0o666 if mode is None else mode)
        made = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(made)  # what writes may have put a file of its own, readable by its owner only, in its place
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and _TORCH_WRITER not in str(error):
            raise
        raise OutputError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path, *, clock: Callable[[], float] = time.time) -> None:
    """Delete temporary files left behind by processes that died while writing; nothing where there is no folder.

    Only those over an hour old: another process may be at work on younger ones.
    """
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if _TEMPORARY.fullmatch(path.name) and path.stat().st_mtime < clock() - _ABANDONED_SECONDS:
                path.unlink()


def write_bytes_atomic(path: str | Path, data: bytes, *, mode: int | None = None) -> None:
    """Write `data` to `path`, as `write_whole` does."""
    write_whole(path, lambda temporary: temporary.write_bytes(data), mode=mode)


def write_text_atomic(path: str | Path, text: str, *, mode: int | None = None) -> None:
    """Write `text` as UTF-8, with the line ends it has; otherwise as `write_bytes_atomic`."""
    write_bytes_atomic(path, text.encode(), mode=mode)


def write_image_atomic(
    path: str | Path,
    image: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"] | UInt8[np.ndarray, "h w 4"] | Bool[np.ndarray, "h w"],
    *,
    quality: int = 95,
) -> None:
    """Write grey, RGB or RGBA pixels, or a mask (as 0 and 255), in the format of the file's suffix.

    `quality` (1 to 100) is that of JPEG and WebP.

    Raises:
        OutputError: the suffix names no image format, the format cannot hold the pixels, or as
            `write_bytes_atomic`.
    """
    import numpy as np
    from PIL import Image

    suffix = Path(path).suffix.lower()
    format_name = Image.registered_extensions().get(suffix)
    if format_name not in Image.SAVE:
        raise OutputError(f"{path}: {suffix or 'no suffix'} names no image format; .png, .jpg or .webp would")
    if not image.size:
        raise OutputError(f"{path}: an image of shape {image.shape} has no pixels to write")
    pixels = image.astype(np.uint8) * np.uint8(255) if image.dtype == np.bool_ else image
    encoded = io.BytesIO()
    try:
        Image.fromarray(pixels).save(encoded, format=format_name, quality=quality)
    except (OSError, ValueError, TypeError, KeyError) as error:
        what = f"{image.dtype} pixels of shape {image.shape}"
        raise OutputError(f"{path}: {format_name} cannot hold {what}") from error
    write_bytes_atomic(path, encoded.getvalue())


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
