"""Models of transformers that lie on this machine: found, read, and where one is missing, said how it is fetched.

transformers itself (extra `text`) is imported when a model is first read.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from anymask.errors import CheckpointError, MissingPackageError

T = TypeVar("T")


def read_local(name: str | os.PathLike[str], what: str, read: Callable[[Any, str], T]) -> T:
    """Return `read(transformers, name)`, of a folder or of a name in transformers' cache; nothing is downloaded.

    `what` says in an error what was looked for, such as "open-vocabulary detector". Raises CheckpointError where the
    weights are not on this machine, with the command that fetches them, or are none of that kind; InputError where
    transformers is missing.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingPackageError("words need transformers: pip install 'anymask[text]'") from error
    if not is_on_this_machine(name):
        raise CheckpointError(missing(name))
    try:
        with _quiet():
            return read(transformers, str(name))
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise CheckpointError(f"{name}: holds no {what} that transformers can read ({_first_line(error)})") from error


def is_on_this_machine(name: str | os.PathLike[str]) -> bool:
    """Say whether `name` is a folder or a model in transformers' cache; False too where its packages are missing."""
    if Path(name).is_dir():
        return True
    if importlib.util.find_spec("transformers") is None or not _is_name(name):
        return False
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(str(name), "config.json"), str)


def missing(name: str | os.PathLike[str]) -> str:
    """Return the sentence that says that a model is not here, and what would bring it."""
    if not _is_name(name):
        return f"{name}: there is no such folder; give one as transformers saves it, or a model's name"
    return f"the weights of {name} are not on this machine: `hf download {name}` fetches them"


def _is_name(name: str | os.PathLike[str]) -> bool:
    """Say whether it can be a model's name, OWNER/MODEL, rather than a folder's path."""
    parts = str(name).split("/")
    return isinstance(name, str) and len(parts) == 2 and all(parts) and parts[0][0] not in ".~"


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what transformers logs and draws while it reads weights."""
    from transformers.utils import logging

    settings: Any = logging
    level, has_bar = settings.get_verbosity(), settings.is_progress_bar_enabled()
    settings.set_verbosity_error()
    settings.disable_progress_bar()
    try:
        yield
    finally:
        settings.set_verbosity(level)
        if has_bar:
            settings.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
