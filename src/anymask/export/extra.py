"""The packages of the extra `export`, asked for before anything is computed."""

from __future__ import annotations

from importlib.util import find_spec

from anymask.errors import MissingPackageError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_packages() -> None:
    """Raise MissingPackageError unless all packages of the extra are here."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"exports need {' and '.join(missing)}: pip install 'anymask[export]' brings what is missing"
        )
