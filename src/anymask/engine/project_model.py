"""The project's model, kept in its folder by the hash of its weights, so that provenance can be followed; and its
embeddings, made once for all of the engine and the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from anymask.data.files import make_folder
from anymask.engine.store import Project, StoredModel
from anymask.errors import DataError
from anymask.inference.answers import EncodedImage, encode, kept_image
from anymask.inference.embeddings import EmbeddingCache, embedding_key
from anymask.inference.loading import load
from anymask.inference.runtimes import model_name

if TYPE_CHECKING:
    from anymask.model import Sam


FOLDER = "models"


def set_project_model(project: Project, model: Sam, *, trigger: str = "by hand") -> StoredModel:
    """Make a model the project's, as it is, with no gate."""
    return keep(project, model, trigger=trigger, num_masks=0, scores={}, verdict="promoted", promote=True)


def keep(
    project: Project,
    model: Sam,
    *,
    trigger: str,
    num_masks: int,
    scores: Mapping[str, float],
    verdict: str,
    promote: bool,
) -> StoredModel:
    """Write a model into the project's folder and note it in the history."""
    from anymask.checkpoints.load import model_hash, save_model

    digest = model_hash(model)
    path = make_folder(project.folder / FOLDER) / f"{digest}.safetensors"
    if not path.exists():
        save_model(model, path)
    current = project.models.current()
    return project.models.add(
        hash=digest,
        path=f"{FOLDER}/{path.name}",
        parent=None if current is None else current.id,
        trigger=trigger,
        num_masks=num_masks,
        scores=scores,
        verdict=verdict,
        promote=promote,
    )


def model_path(project: Project, stored: StoredModel | None = None) -> Path:
    """Return the file of the project's model, or of one of its history. Raises DataError where there is none."""
    chosen = stored or project.models.current()
    if chosen is None:
        raise DataError(f"{project.folder}: this project has no model yet; `anymask engine init` gives it one")
    path = project.path(chosen.path)
    if not path.is_file():
        raise DataError(f"{path}: the file of model {chosen.id} is gone")
    return path


def open_project_model(project: Project, *, device: str = "cpu") -> Sam:
    """Load the project's model."""
    return load(model_path(project), device=device)


def embedding_cache(project: Project) -> EmbeddingCache:
    """Return where a project's embeddings are kept; raises OutputError if the folder cannot be made."""
    return EmbeddingCache(project.cache / "embeddings")


class KeptEmbeddings:
    """Encodes images of a project, each once."""

    def __init__(self, project: Project, model: Sam) -> None:
        self._cache, self._model, self._name = embedding_cache(project), model, model_name(model)

    def encode(self, pixels: UInt8[np.ndarray, "h w 3"]) -> EncodedImage:
        """Return an image with its embedding, from the cache or into it."""
        key = embedding_key(pixels, self._name)
        embedding = self._cache.get(key)
        if embedding is not None:
            return kept_image(self._model, embedding, pixels, partial(encode, self._model))
        encoded = encode(self._model, [pixels])[0]
        self._cache.put(key, encoded.embedding)
        return encoded
