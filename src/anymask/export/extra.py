"""The packages of the extra `export`, asked for before anything is computed."""

from __future__ import annotations

from importlib.util import find_spec

from anymask.errors import InputError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_packages() -> None:
    """Raise InputError, which says what to install, unless all packages of the extra are here."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(f"exports need {' and '.join(missing)}: pip install 'anymask[export]' brings what is missing")
