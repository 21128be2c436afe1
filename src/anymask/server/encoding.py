"""Embeddings: made by the worker once per image, kept in the cache, sent compactly."""

from __future__ import annotations

import gzip
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float16

from anymask.engine.store import Project, StoredImage
from anymask.errors import AnymaskError, ImageError
from anymask.geometry import arrays
from anymask.inference import EmbeddingCache
from anymask.inference.answers import encode
from anymask.inference.embeddings import embedding_key
from anymask.inference.runtimes import AnyModel, ExportedModel, model_name
from anymask.server import schemas
from anymask.server.errors import ApiError, without_folders
from anymask.server.events import Events
from anymask.server.image_files import file_state, read_pixels
from anymask.server.worker import Priority, Worker

logger = logging.getLogger("anymask.server")

_KEPT = 16
"""Number of compressed embeddings held in memory."""
_LEVEL = 1
"""The level of gzip: half-precision features are nearly noise, and higher levels only take longer."""
_STEP = 0.04
"""Progress is published when it has grown by this much."""


class Encoding:
    """The state of each image's encoding, and the embeddings that are there."""

    def __init__(
        self,
        *,
        project: Project,
        model: AnyModel,
        model_hash: str,
        cache: EmbeddingCache,
        worker: Worker,
        events: Events,
        max_pixels: int,
    ) -> None:
        self._project = project
        self._model = model
        self._name = model_name(model, model_hash)
        self._cache = cache
        self._worker = worker
        self._events = events
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self._states: dict[int, tuple[schemas.ImageState, str | None]] = {
            image_id: ("ready", None) for image_id in project.images.encoded(self._name)
        }
        self._packed: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._calls = 0

    def describe(self, image: StoredImage) -> schemas.Image:
        """Return an image as it goes over the wire."""
        with self._lock:
            state, error = self._states.get(image.id, ("new", None))
        height, width = image.size
        return schemas.Image(
            id=str(image.id),
            name=image.name,
            width=width,
            height=height,
            state=state,
            error=error,
            revision=image.revision,
            num_annotations=image.num_annotations,
        )

    def request(self, image: StoredImage, priority: Priority) -> None:
        """Have an image encoded unless it is already; raises ApiError (429) if too many wait."""
        with self._lock:
            before = self._states.get(image.id, ("new", None))
        if before[0] == "ready" and self._is_kept(image):
            return
        is_new = before[0] not in ("waiting", "encoding")
        if is_new:
            self._set(image.id, "waiting")
        try:
            future = self._worker.submit(f"encode {image.id}", "encode", lambda: self._work(image), priority)
        except ApiError:
            if is_new:
                self._set(image.id, *before)
            raise
        future.add_done_callback(lambda done: self._set(image.id, "new") if done.cancelled() else None)

    def packed(self, image: StoredImage) -> bytes | None:
        """Return the embedding's arrays as gzip of float16, little-endian, in C order; None while there are none."""
        with self._lock:
            if self._states.get(image.id, ("new", None))[0] != "ready":
                return None
        state = file_state(self._project, image)
        with self._lock:
            packed = self._packed.get((image.id, state))
            if packed is not None:
                self._packed.move_to_end((image.id, state))
                return packed
        key = self._key(image)
        embedding = None if key is None else self._cache.get(key)
        if embedding is None:  # the cache had to make room for others, or another file is there now
            self._set(image.id, "new")
            return None
        packed = pack([arrays.to_numpy(tensor[0]) for tensor in embedding.tensors().values()])
        with self._lock:
            self._packed[image.id, state] = packed
            while len(self._packed) > _KEPT:
                self._packed.popitem(last=False)
        return packed

    def _key(self, image: StoredImage) -> str | None:
        """Return the key of an image's embedding; None where there is none, or of a file that was there before."""
        kept = self._project.images.embedding_key(image.id, self._name)
        key, _, state = (kept or "").partition("@")
        return key if key and state in ("", file_state(self._project, image)) else None

    def _is_kept(self, image: StoredImage) -> bool:
        key = self._key(image)
        return key is not None and self._cache.get(key) is not None

    def _work(self, image: StoredImage) -> None:
        """Encode on the worker's thread; whatever happens becomes the image's state."""
        self._set(image.id, "encoding")
        try:
            self._encode(image)
        except AnymaskError as error:
            self._set(image.id, "failed", without_folders(str(error)))
        except Exception as error:
            logger.exception("image %s could not be encoded", image.id)
            short = isinstance(error, MemoryError) or "alloc" in str(error)
            reason = "there was not enough memory; make the image smaller" if short else "the server's log says more"
            self._set(image.id, "failed", f"the model failed on this image: {reason}")
        else:
            self._set(image.id, "ready")

    def _encode(self, image: StoredImage) -> None:
        state = file_state(self._project, image)
        pixels = read_pixels(self._project, image, self._model, max_pixels=self._max_pixels)
        if pixels.shape[:2] != image.size and not self._project.images.resize(image.id, pixels.shape[:2]):
            raise ImageError(f"{image.name}: has another size than when it was annotated; restore the file as it was")
        key = embedding_key(pixels, self._name)
        if self._cache.get(key) is None:
            with self._progress(image.id):
                encoded = encode(self._model, [pixels])[0]
            self._cache.put(key, encoded.embedding)
            if self._cache.get(key) is None:
                raise ImageError(f"{image.name}: its embedding could not be kept; is the disk full?")
        self._project.images.set_embedding(image.id, self._name, f"{key}@{state}")

    def _set(self, image_id: int, state: schemas.ImageState, error: str | None = None) -> None:
        with self._lock:
            self._states[image_id] = (state, error)
        self._tell(image_id)

    def _tell(self, image_id: int) -> None:
        try:
            image = self._project.images.get(image_id)
        except AnymaskError as error:  # the database does not answer: pages ask again when it does
            logger.error("%s", error)
            return
        if image is not None:
            self._events.publish(schemas.ImageEvent(image=self.describe(image)))

    @contextmanager
    def _progress(self, image_id: int) -> Iterator[None]:
        """Publish how far the encoder is, by counting its modules' calls; how many there are is known after the first
        time.

        Of a graph nothing is told before it is done.
        """
        if isinstance(self._model, ExportedModel):
            yield
            return
        leaves = [module for module in self._model.image_encoder.modules() if not any(module.children())]
        total, done, told = self._calls or len(leaves), 0, 0.0

        def count(*_: object) -> None:
            nonlocal done, told
            done += 1
            fraction = min(done / total, 1.0)
            if fraction >= told + _STEP:
                told = fraction
                self._events.publish(schemas.ProgressEvent(id=str(image_id), fraction=round(fraction, 3)))

        handles = [module.register_forward_hook(count) for module in leaves]
        try:
            yield
            self._calls = done
        finally:
            for handle in handles:
                handle.remove()


def pack(arrays: Sequence[Float16[np.ndarray, "c h w"]]) -> bytes:
    """Return float16 (c, h, w) arrays, one after the other, as gzip; the same arrays give the same bytes."""
    plain = b"".join(np.ascontiguousarray(array, "<f2").tobytes() for array in arrays)
    return gzip.compress(plain, _LEVEL, mtime=0)
