"""One file over HTTP: resumed where it broke off, verified by its SHA-256, moved into place when whole."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import httpx

from anymask.checkpoints.catalogue import RemoteFile
from anymask.data.files import write_text_atomic
from anymask.errors import DownloadError, OutputError

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes that are there, and the bytes in all where known."""

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 60.0
_log = logging.getLogger(__name__)


class _Interrupted(Exception):
    """An attempt failed in a way that may not recur; `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How interruptions are handled: up to `attempts` in a row without a byte received, with waits doubled from
    `first_wait` s.
    """

    attempts: int = 5
    first_wait: float = 1.0
    sleep: Callable[[float], None] = time.sleep


def fetch(
    file: RemoteFile, target: Path, *, client: httpx.Client, progress: Progress | None = None, retry: Retry
) -> None:
    """Download `file` to `target`, going on from `target`.part if an earlier call was interrupted.

    Raises:
        DownloadError: refused by the server, interrupted too often (what has come is kept for the next call), of a
            wrong size or hash (what has come is deleted), or not to be written.
    """
    part = target.with_name(f"{target.name}.part")
    validator = part.with_name(f"{part.name}.etag")
    failures = 0
    try:
        while True:
            before = _size(part)
            try:
                _attempt(file, part, validator, client, progress)
                break
            except (_Interrupted, httpx.TransportError) as error:
                failures = 1 if _size(part) > before else failures + 1
                if failures >= retry.attempts:
                    raise _gave_up(file, part, failures, error) from error
                wait = getattr(error, "wait", None) or retry.first_wait * 2 ** (failures - 1)
                _log.info("%s: %s; trying again in %.0f s", file.name, error, wait)
                retry.sleep(min(wait, _LONGEST_WAIT))
        verify_checksum(file, part)
        os.replace(part, target)
        validator.unlink(missing_ok=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadError(f"{file.name}: cannot be downloaded from {file.url} ({error})") from error
    except (OSError, OutputError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DownloadError(f"{file.name}: cannot be written to {target.parent} ({reason})") from error


def _attempt(file: RemoteFile, part: Path, validator: Path, client: httpx.Client, progress: Progress | None) -> None:
    """Ask for what is missing and append it; return when the file is whole."""
    start, headers = _resume_point(file, part, validator)
    if file.size is not None and start == file.size:
        return
    with client.stream("GET", file.url, headers=headers, follow_redirects=True) as response:
        if response.status_code == 416 and response.headers.get("Content-Range") == f"bytes */{start}":
            return  # nothing is missing
        _check_status(file, response)
        if (response.status_code == 206 and _range_start(response) != start) or response.status_code == 416:
            part.unlink(missing_ok=True)
            raise _Interrupted("the server cannot go on from where it broke off")
        if response.status_code == 200:
            start = 0  # the server ignores ranges, or the file has changed: from the beginning
        total = _total(response, start)
        _check_room(file, part, start, total)
        store_etag(validator, response)
        _append(file, part, start, total, response, progress)
    if total is not None and _size(part) < total:
        raise _Interrupted(f"the connection ended after {_size(part)} of {total} bytes")


def _resume_point(file: RemoteFile, part: Path, validator: Path) -> tuple[int, dict[str, str]]:
    """The first byte to ask for, and the headers to ask with.

    If-Range makes a server whose file has changed send all of it. Without a validator to put there the hash is
    the only guard, and without a hash what is there cannot be trusted.
    """
    headers = {"Accept-Encoding": "identity"}  # a range counts the bytes that are sent, so they must be the file's
    start = _size(part)
    known = validator.read_text(encoding="utf-8") if validator.is_file() else ""
    if not start or not (known or file.sha256):
        return 0, headers
    headers["Range"] = f"bytes={start}-"
    if known:
        headers["If-Range"] = known
    return start, headers


def _check_status(file: RemoteFile, response: httpx.Response) -> None:
    status = f"{response.status_code} {response.reason_phrase}".strip()
    if response.status_code in _RETRIED:
        wait = response.headers.get("Retry-After", "")
        raise _Interrupted(f"the server answered {status}", float(wait) if wait.isdecimal() else None)
    if response.status_code not in (200, 206, 416):
        raise DownloadError(f"{file.name}: the server answered {status} for {file.url}")


def _range_start(response: httpx.Response) -> int:
    """The first byte of a partial answer ("bytes 100-199/200"), or -1 where it does not say."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdecimal() else -1


def _total(response: httpx.Response, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _check_room(file: RemoteFile, part: Path, start: int, total: int | None) -> None:
    if file.size is not None and total is not None and total != file.size:
        part.unlink(missing_ok=True)
        raise DownloadError(f"{file.name}: {file.url} has {total:,} bytes, {file.size:,} were published")
    missing = (total or file.size or 0) - start
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise DownloadError(
            f"{file.name}: needs {missing / 1e6:,.0f} MB more, {part.parent} has {free / 1e6:,.0f} MB free; "
            "make room, or set ANYMASK_HOME to another disk"
        )


def store_etag(validator: Path, response: httpx.Response) -> None:
    """Keep what If-Range may hold: a strong ETag, else the date of the last change (RFC 9110, sec. 13.1.5)."""
    etag = response.headers.get("ETag", "")
    strong = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    write_text_atomic(validator, strong)


def _append(
    file: RemoteFile,
    part: Path,
    start: int,
    total: int | None,
    response: httpx.Response,
    progress: Progress | None,
) -> None:
    done = start
    with part.open("r+b" if start else "wb") as output:
        output.seek(start)
        for chunk in response.iter_raw():
            output.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(file.name, done, total or file.size)
            if file.size is not None and done > file.size:
                break  # a server without end must not fill the disk; the hash will tell


def verify_checksum(file: RemoteFile, part: Path) -> None:
    """Delete what is not the published file, and say so."""
    reason = file.mismatch(part)
    if reason:
        part.unlink()
        raise DownloadError(
            f"{file.name}: {reason}; the download is deleted. Try again, and if it repeats do not trust {file.url}"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _gave_up(file: RemoteFile, part: Path, attempts: int, error: Exception) -> DownloadError:
    kept = f"; {_size(part) / 1e6:,.1f} MB are kept, and the next try goes on from there" if _size(part) else ""
    reason = " ".join(str(error).split()) or type(error).__name__
    return DownloadError(f"{file.name}: given up after {attempts} failed attempts ({reason}){kept}")
