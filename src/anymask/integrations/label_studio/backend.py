"""What Label Studio asks of a model, without HTTP: projects are set up, prompts answered, tasks annotated."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import numpy as np
from jaxtyping import Bool

from anymask.data.images import read_image
from anymask.data.readers.label_studio import region_label, region_mask
from anymask.data.writers.label_studio import brush_region, polygon_region
from anymask.engine.formats.outlines import one_ring, outlines
from anymask.errors import InputError, PromptError
from anymask.geometry import rle
from anymask.inference import AutomaticMasks, AutomaticOptions, EmbeddingCache, Predictor
from anymask.inference.runtimes import AnyModel
from anymask.integrations.label_studio.images import Access, fetch
from anymask.integrations.label_studio.labels import LabelConfig, parse_config

_KEPT = 8
"""Images whose embeddings are held for the next click."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """How masks are given."""

    detail: float = 0.5
    """Polygons are simpler than the mask's outline by so many pixels."""
    automatic: AutomaticOptions | None = None
    """Of masks of everything; None: as `AutomaticMasks` has them."""
    url: str | None = None
    """Label Studio's address, where it is not the one that Label Studio says itself."""
    token: str | None = None
    """A token for its images, where it is not the one that Label Studio says itself."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 <= self.detail <= 100:
            raise InputError(f"detail is {self.detail}; it must be 0 to 100 pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Project:
    source: Access
    config: LabelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """An image that was asked about."""

    predictor: Predictor
    content: bytes
    size: tuple[int, int]


class Backend:
    """Answers for any number of projects, each with its own configuration and token; one request at a time."""

    def __init__(
        self,
        model: AnyModel,
        *,
        version: str,
        options: BackendOptions | None = None,
        cache: EmbeddingCache | None = None,
        client: httpx.Client | None = None,
    ) -> None:
        self.model, self.version = model, version
        self.options = options or BackendOptions()
        self._cache, self._client = cache, client or httpx.Client()
        self._projects: dict[str, _Project] = {}
        self._seen: OrderedDict[tuple[str, str], _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def setup(self, project: str, config: str, *, url: str, token: str | None) -> None:
        """Take a project; raises InputError for a configuration without an image or a tag for masks."""
        source = Access(url=self.options.url or url, token=self.options.token or token)
        found = _Project(source=source, config=parse_config(config))
        with self._lock:
            self._projects[project] = found

    def predict(
        self, project: str, tasks: Sequence[Mapping[str, Any]], *, config: str, context: Mapping[str, Any] | None
    ) -> list[dict[str, Any]]:
        """Return a prediction for each task: of its prompts, where there is a context, else of everything.

        Raises AnymaskError.
        """
        with self._lock:
            known = self._project(project, config)
            return [self._predict(known, task, context) for task in tasks]

    def _project(self, project: str, config: str) -> _Project:
        """Return a project as it is now; one that was not set up, as after a restart, has what the options say."""
        known = self._projects.get(project)
        if known is None:
            source = Access(url=self.options.url or "", token=self.options.token)
            return _Project(source=source, config=parse_config(config))
        return replace(known, config=parse_config(config)) if config else known

    def _predict(self, project: _Project, task: Mapping[str, Any], context: Mapping[str, Any] | None) -> dict[str, Any]:
        data = task.get("data")
        seen = self._image(project, data.get(project.config.key) if isinstance(data, Mapping) else None)
        regions = context.get("result") if context else None
        if regions:
            found, score = self._prompted(project, seen, [each for each in regions if isinstance(each, Mapping)])
        else:
            found, score = self._everything(project, seen)
        return {"result": found, "score": score, "model_version": self.version}

    def _image(self, project: _Project, address: object) -> _Seen:
        key = (project.source.url, str(address))
        if key not in self._seen:
            content = fetch(address, project.source, client=self._client)
            predictor = Predictor(self.model, cache=self._cache)
            predictor.set_image(content)
            seen = _Seen(predictor=predictor, content=content, size=predictor.image.frame.original)
            self._seen[key] = seen
            while len(self._seen) > _KEPT:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        return self._seen[key]

    def _prompted(
        self, project: _Project, seen: _Seen, regions: Sequence[Mapping[str, Any]]
    ) -> tuple[list[dict[str, Any]], float]:
        prompt = read_prompt(regions, seen.size)
        answer = seen.predictor.predict(**prompt)
        labels = [label for label in map(region_label, regions) if label is not None]
        score = float(answer.scores[0])
        return self._regions(project, answer.best, labels[-1] if labels else None, score), score

    def _everything(self, project: _Project, seen: _Seen) -> tuple[list[dict[str, Any]], float]:
        records = AutomaticMasks(self.model, self.options.automatic).generate(read_image(seen.content))
        found = [
            region
            for record in records
            for region in self._regions(project, rle.decode(record.rle), None, record.predicted_iou)
        ]
        scores = [record.predicted_iou for record in records]
        return found, float(np.mean(scores)) if scores else 0.0

    def _regions(
        self, project: _Project, mask: Bool[np.ndarray, "h w"], label: str | None, score: float
    ) -> list[dict[str, Any]]:
        """Return a mask as one region of a brush, or as a polygon for each of its pieces."""
        config = project.config
        labels, size = config.labels_for(label), (mask.shape[0], mask.shape[1])
        if config.is_brush:
            return [brush_region(mask, labels, config.tags, score=score)]
        pieces = outlines(rle.encode(mask), self.options.detail)
        return [polygon_region(one_ring([piece]), size, labels, config.tags, score=score) for piece in pieces]


def read_prompt(regions: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> dict[str, Any]:
    """Return the prompt that regions of a task are, for an image of `size` = (height, width).

    Key points are points, on the object unless they say otherwise; a rectangle is a box, the last of several; strokes
    of a brush are a mask, and so are polygons. Raises PromptError where there is none of them.
    """
    points: list[tuple[float, float]] = []
    labels: list[int] = []
    masks: list[Bool[np.ndarray, "h w"]] = []
    prompt: dict[str, Any] = {}
    height, width = size
    for region in regions:
        kind, value = str(region.get("type", "")), region.get("value")
        try:
            if not isinstance(value, Mapping):
                raise ValueError("it has no value")
            if kind.startswith("keypoint"):
                points.append((float(value["x"]) / 100 * width, float(value["y"]) / 100 * height))
                labels.append(0 if region.get("is_positive") in (0, False) else 1)
            elif kind.startswith("rectangle"):
                x, y = float(value["x"]) / 100 * width, float(value["y"]) / 100 * height
                right, down = float(value["width"]) / 100 * width, float(value["height"]) / 100 * height
                prompt["box"] = (max(x, 0), max(y, 0), min(x + right, width), min(y + down, height))
            elif kind.startswith(("brush", "polygon", "ellipse")) and (mask := region_mask(region, size)) is not None:
                masks.append(mask)
        except (KeyError, TypeError, ValueError) as error:
            raise PromptError(f"a region of type {kind or 'unknown'} is malformed ({error})") from error
    if points:
        prompt |= {"points": points, "labels": labels}
    if masks:
        prompt["mask"] = np.logical_or.reduce(masks)
    if not prompt:
        raise PromptError("the task has no prompt: click, draw a rectangle, or paint with a tag that has smart=true")
    return prompt
