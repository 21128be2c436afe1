"""What all routes share: the project, the model, the worker, and who is told of what happens."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as FilePath
from typing import Annotated, Literal, Protocol, TypeVar

import numpy as np
from fastapi import Depends, Header, Path, Request
from jaxtyping import Bool, UInt8

from anymask.checkpoints.load import model_hash
from anymask.engine.store import Project, StoredImage
from anymask.model import Sam
from anymask.server.encoding import Encoding, embedding_cache
from anymask.server.events import Events
from anymask.server.identity import project_id
from anymask.server.parts import PARTS, Parts
from anymask.server.pictures import file_state, local_path, read_pixels
from anymask.server.refusals import Refused, busy
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


class Bench:
    """One open project and one model, and the threads that serve them."""

    def __init__(
        self,
        *,
        project: Project,
        model: Sam,
        model_name: str,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        text: TextModel | None = None,
    ) -> None:
        self.project = project
        self.project_id = project_id(project.folder)
        self.model = model
        self.model_name = model_name
        self.model_hash = model_hash(model)
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
        self.parts = Parts(
            settings.parts or project.cache / "models", model, name=model_name, model_hash=self.model_hash
        )
        if settings.export_at_start and not all(self.parts.find(part) for part in PARTS):
            self.parts.make()
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decoder")
        self._decoding = 0

    async def decode(self, work: Callable[[], T]) -> T:
        """Run what decodes images on the few threads for that; raises Refused (429) if too many are waiting."""
        if self._decoding >= self.settings.max_decoding:
            raise busy("too many images are being read already, try again shortly", 2)
        self._decoding += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, work)
        finally:
            self._decoding -= 1

    def path(self, image: StoredImage) -> FilePath:
        """Return where an image lies; one of a store elsewhere is fetched first. Raises ImageError."""
        return local_path(self.project, image)

    def pixels(self, image: StoredImage) -> UInt8[np.ndarray, "h w 3"]:
        """Read an image as the model sees it. Raises ImageError."""
        return read_pixels(self.project, image, self.model, max_pixels=self.settings.max_pixels)

    def made_path(self, kind: Literal["shown", "thumbnails"], image: StoredImage) -> FilePath:
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


def get_bench(
    request: Request,
    project: Annotated[str | None, Header(alias="X-Project", include_in_schema=False)] = None,
    model: Annotated[str | None, Header(alias="X-Model", include_in_schema=False)] = None,
) -> Bench:
    """Return what the server serves; raises Refused (421) for a page that was loaded from another project or model."""
    bench = request.app.state.bench
    assert isinstance(bench, Bench)
    if project not in (None, bench.project_id) or model not in (None, bench.model_hash):
        raise Refused(421, "the server has another project or model than this page was loaded from; load it anew")
    return bench


AtBench = Annotated[Bench, Depends(get_bench)]


def get_person(request: Request) -> str | None:
    """Return the name of the person whose token the request showed, None where people have none of their own."""
    person: str | None = getattr(request.state, "person", None)
    return person


Person = Annotated[str | None, Depends(get_person)]
ImageId = Annotated[str, Path(pattern=r"^[1-9][0-9]{0,14}$", description="the image's id")]


def get_image(bench: AtBench, id: ImageId) -> StoredImage:
    """Return the image of the request's path; raises Refused (404)."""
    image = bench.project.images.get(int(id))
    if image is None:
        raise Refused(404, f"there is no image {id} in this project")
    return image


OfImage = Annotated[StoredImage, Depends(get_image)]
