"""What all routes share: the project, the model, the worker, and the events."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar

import numpy as np
from fastapi import Depends, Header, Request
from fastapi import Path as PathParameter
from jaxtyping import Bool, UInt8

from anymask.data.files import write_text_atomic
from anymask.engine.project_model import embedding_cache
from anymask.engine.store import Project, StoredImage
from anymask.geometry import rle
from anymask.inference import EmbeddingCache, Predictor
from anymask.inference.runtimes import AnyModel, weights_hash
from anymask.server.decoder_files import PARTS, Parts
from anymask.server.encoding import Encoding
from anymask.server.errors import ApiError, too_many_requests
from anymask.server.events import Events
from anymask.server.image_files import file_state, local_path, read_pixels
from anymask.server.settings import Settings
from anymask.server.worker import Worker

T = TypeVar("T")

_DECODERS = 2
"""Image files decoded at once; each may take hundreds of megabytes."""


class TextModel(Protocol):
    """A model that finds objects by words."""

    def find(
        self, image: UInt8[np.ndarray, "h w 3"], phrases: list[str], box_threshold: float
    ) -> list[tuple[Bool[np.ndarray, "h w"], float, str]]:
        """Return (mask, score, phrase) of each object found."""
        ...


class Context:
    """One open project and one model, and the threads that serve them."""

    def __init__(
        self,
        *,
        project: Project,
        model: AnyModel,
        model_name: str,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        text: TextModel | None = None,
    ) -> None:
        self.project = project
        self.project_id = project_id(project.folder)
        self.model = model
        self.model_name = model_name
        self.model_hash = weights_hash(model)
        self.settings = settings
        self.text = text
        self.is_engine = project.models.current() is not None
        """Whether people get images from the queues of a data engine; its projects have a model of their own."""
        self.events = Events(loop)
        self.worker = Worker(
            {"encode": settings.max_waiting, "search": settings.max_searches}, threads=settings.threads
        )
        self.encoding = Encoding(
            project=project,
            model=model,
            model_hash=self.model_hash,
            cache=embedding_cache(project),
            worker=self.worker,
            events=self.events,
            max_pixels=settings.max_pixels,
        )
        self.predictor = Predictor(model, cache=embedding_cache(project))
        """For the worker's thread alone; an image that was encoded for the page is not encoded again."""
        self.parts = Parts(
            settings.parts or project.cache / "models", model, name=model_name, model_hash=self.model_hash
        )
        if settings.export_at_start and not all(self.parts.find(part) for part in PARTS):
            self.parts.make()
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decoder")
        self._decoding = 0

    async def decode(self, work: Callable[[], T]) -> T:
        """Run what decodes images on the few threads for that; raises ApiError (429) if too many are waiting."""
        if self._decoding >= self.settings.max_decoding:
            raise too_many_requests("too many images are being read already, try again shortly", 2)
        self._decoding += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, work)
        finally:
            self._decoding -= 1

    def path(self, image: StoredImage) -> Path:
        """Return where an image lies; one of a store elsewhere is fetched first. Raises ImageError."""
        return local_path(self.project, image)

    def pixels(self, image: StoredImage) -> UInt8[np.ndarray, "h w 3"]:
        """Read an image as the model sees it. Raises ImageError."""
        return read_pixels(self.project, image, self.model, max_pixels=self.settings.max_pixels)

    def made_path(self, kind: Literal["shown", "thumbnails"], image: StoredImage) -> Path:
        """Return where a JPEG made from an image is kept; another file or mapping of channels, another JPEG."""
        channels = self.model.channels
        mapping = "" if channels is None else f"-{zlib.crc32(json.dumps(channels, sort_keys=True).encode()):08x}"
        state = f"{zlib.crc32(file_state(self.project, image).encode()):08x}"
        return self.project.cache / kind / f"{image.id}-{state}{mapping}.jpg"

    def close(self) -> None:
        """End the threads; what runs is given a moment."""
        self.events.close()
        self.parts.close()
        self._decoders.shutdown(wait=True, cancel_futures=True)
        self.worker.close(timeout=10)


def get_context(
    request: Request,
    project: Annotated[str | None, Header(alias="X-Project", include_in_schema=False)] = None,
    model: Annotated[str | None, Header(alias="X-Model", include_in_schema=False)] = None,
) -> Context:
    """Return what the server serves; raises ApiError (421) for a page that was loaded from another project or model."""
    context = request.app.state.context
    assert isinstance(context, Context)
    if project not in (None, context.project_id) or model not in (None, context.model_hash):
        raise ApiError(421, "the server has another project or model than this page was loaded from; load it again")
    return context


AtContext = Annotated[Context, Depends(get_context)]


def get_person(request: Request) -> str | None:
    """Return the name of the person whose token the request showed, None where people have none of their own."""
    person: str | None = getattr(request.state, "person", None)
    return person


Person = Annotated[str | None, Depends(get_person)]
ImageId = Annotated[str, PathParameter(pattern=r"^[1-9][0-9]{0,14}$", description="the image's id")]


def get_image(context: AtContext, id: ImageId) -> StoredImage:
    """Return the image of the request's path; raises ApiError (404)."""
    image = context.project.images.get(int(id))
    if image is None:
        raise ApiError(404, f"there is no image {id} in this project")
    return image


OfImage = Annotated[StoredImage, Depends(get_image)]


FILE = "project.id"
_ID = re.compile(r"[0-9a-f]{32}")


def project_id(folder: Path) -> str:
    """Return the id of the project in a folder; made when first asked for, and kept with it.

    Raises OutputError if it cannot be written.
    """
    path = folder / FILE
    kept = path.read_text(errors="replace").strip() if path.is_file() else ""
    if not _ID.fullmatch(kept):
        kept = uuid.uuid4().hex
        write_text_atomic(path, f"{kept}\n")
    return kept


class DetectorWords:
    """A `TextModel` of an open-vocabulary detector and the server's model.

    With the project's cache an image that was encoded for the page is not encoded again, nor the other way round.
    """

    def __init__(self, model: AnyModel, detector: str, cache: EmbeddingCache | None = None) -> None:
        self._predictor = Predictor(model, cache=cache, detector=detector)

    def find(
        self, image: UInt8[np.ndarray, "h w 3"], phrases: list[str], box_threshold: float
    ) -> list[tuple[Bool[np.ndarray, "h w"], float, str]]:
        """Return (mask, score, phrase) of each object found, by falling score of the detector."""
        self._predictor.set_image(image)
        try:
            found = self._predictor.find(phrases, threshold=box_threshold)
        finally:
            self._predictor.reset()
        return [(rle.decode(one.rle), one.score, one.phrase) for one in found]
