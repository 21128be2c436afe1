"""An image's embedding, made once for all of the engine and the page: kept in the project's cache."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import UInt8

from anymask.engine.store import Project
from anymask.inference.answers import EncodedImage, encode, kept_image
from anymask.inference.embeddings import EmbeddingCache, embedding_key
from anymask.inference.runtimes import model_name
from anymask.model import Sam


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
