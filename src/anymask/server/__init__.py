"""The browser tool's server: images, embeddings, annotations and exports over HTTP, one process, no other service.

Whether its packages are there is asked here, before they are imported.
"""

from __future__ import annotations

import importlib.util

from anymask.errors import MissingPackageError

_SERVER_PACKAGES = ("fastapi", "uvicorn", "multipart", "sqlalchemy", "alembic")
"""By the names that are imported; `pip install 'anymask[server]'` brings them."""


def check_server_packages() -> None:
    """Raise MissingPackageError if a package of the server's is not installed."""
    for name in _SERVER_PACKAGES:
        try:
            missing = importlib.util.find_spec(name) is None
        except ValueError:  # it is there as nothing
            missing = True
        if missing:
            raise MissingPackageError(f"the server's packages are missing ({name}): pip install 'anymask[server]'")
