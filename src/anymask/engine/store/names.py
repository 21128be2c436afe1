"""What keys of annotations and names of classes have to be like, so that a page can receive them and send them back."""

from __future__ import annotations

import hashlib
import re

from anymask.errors import DataError

KEY = "[A-Za-z0-9_.:-]{1,64}"
"""A regular expression that the whole of a key matches."""
MACHINES = ("model", "verifier")
"""Authors that are no people: who made a mask, and who accepted one."""
MODEL, VERIFIER = MACHINES

MAX_NAME = 200
"""The most characters of a name."""
MAX_CLASSES = 10_000
"""The most classes of a project."""
_READABLE = 40


def plain_key(key: str) -> str:
    """Return a key as it may be: itself, or what is readable of its end and a hash of it.

    The result for a key never changes: masks that were imported before are recognised by it.
    """
    if re.fullmatch(KEY, key):
        return key
    digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"{re.sub('[^A-Za-z0-9_.:-]+', '_', key)[-_READABLE:]}-{digest}"


def plain_name(name: str) -> str:
    """Return a name without control characters and space around it; it may be empty, or longer than `MAX_NAME`.

    What is no character (a lone surrogate, as broken JSON has it) becomes the sign for that, as no text can hold it.
    """
    return re.sub(r"[\x00-\x1f\x7f]+", " ", mended(name)).strip()


def mended(text: str) -> str:
    """Return a text with the sign for what is no character in the place of each lone surrogate."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def check_text(text: str | None, what: str) -> None:
    """Refuse a text that cannot be stored and sent to a page; raises DataError that calls it `what`."""
    if text is not None and (mended(text) != text or "\0" in text):
        raise DataError(f"{what} {mended(text)[:60]!r} is no text: it holds what is no character")
