"""A model known by its exported graphs alone: it answers prompts on the CPU in float32, and torch is not imported.

Legend: P prompts, M masks of each.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from anymask.errors import InputError
from anymask.geometry import arrays
from anymask.geometry.frames import Frame
from anymask.inference.runtimes.engines import EngineName, Graph, open_graph
from anymask.inference.runtimes.graphs import IMAGE_FILE, Part, graph_path, read_exported
from anymask.model import Answer, Embedding, PointLabel, Prompts
from anymask.model.embedding import flatten

if TYPE_CHECKING:
    from anymask.model import Sam

AnyModel: TypeAlias = "Sam | ExportedModel"
"""What prompts are answered by."""


class ExportedModel:
    """A model as its graphs: what `Predictor`, `AutomaticMasks` and all else of inference take in a `Sam`'s place.

    It cannot be trained, moved to a GPU or prompted by words; `anymask.load(..., runtime="torch")` gives the network
    itself. `engines` names what runs each part. Graphs are opened when they are first needed.

    Raises InputError where the folder holds no graphs of this version.
    """

    device = "cpu"
    dtype = "torch.float32"
    """The parameters' type, as torch calls it."""

    def __init__(self, folder: Path, engines: Mapping[Part, EngineName], *, threads: int) -> None:
        exported = read_exported(folder)
        if exported is None:
            raise InputError(f"{folder}: holds no graphs of a model as this version of anymask exports them")
        self.folder = folder
        self.config = exported.config
        self.channels: dict[str, Any] | None = exported.channels
        """How pictures become RGB for these weights, as plain values; None: as any picture does."""
        self.hash = exported.hash
        """That of the model that was exported (`anymask.checkpoints.model_hash`)."""
        self.graphs = dict(engines)
        self._threads = threads
        self._opened: dict[tuple[EngineName, Path], Graph] = {}
        self._lock = threading.Lock()

    @property
    def image_size(self) -> int:
        """Side of the padded square input, in pixels."""
        return self.config.image_size

    @property
    def embedding_size(self) -> int:
        """Side of the image embedding, in cells."""
        return self.config.embedding_size

    @property
    def mask_size(self) -> int:
        """Side of the mask logits, and of mask prompts."""
        return self.config.mask_size

    def frame(self, size: tuple[int, int]) -> Frame:
        """Return how an image of `size` = (height, width) becomes the model's square; raises InputError for none."""
        return Frame(size, self.image_size, self.config.fit)

    def embedding_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Return the shapes (channels, height, width) of what `Embedding.tensors` holds of an image."""
        return self.config.embedding_shapes()

    def to(self, *, device: object = None, dtype: object = None) -> ExportedModel:
        """Return the model itself; raises InputError for another device than the CPU or another type than float32."""
        if str(device or "cpu") != "cpu" or str(dtype or self.dtype) != self.dtype:
            raise InputError(
                f"exported graphs run on the CPU in float32, not on {device or 'cpu'} in {dtype or self.dtype}: "
                'load the model with runtime="torch"'
            )
        return self

    def encode(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> list[Embedding]:
        """Encode RGB images whose long sides are the model's; each embedding is a batch of one, and prepared."""
        graph = self._graph("encoder")
        found = (graph.run({"image": np.ascontiguousarray(image)}) for image in images)
        return [self._prepared(Embedding.from_tensors(each)) for each in found]

    def restored(self, embedding: Embedding) -> Embedding:
        """Prepare an embedding that was kept, of any type and kind, for prompts."""
        return self._prepared(embedding.map(lambda x: arrays.to_numpy(arrays.float32(x))))

    def decode(
        self, embedding: Embedding, prompts: Prompts, *, multimask: bool | None
    ) -> tuple[Float[np.ndarray, "1 p m hm wm"], Float[np.ndarray, "1 p m"]]:
        """Answer prompts about one image, as `Sam.decode` does."""
        answer = self.answer(embedding, prompts, multimask=multimask)
        return answer.logits, answer.iou

    def answer(self, embedding: Embedding, prompts: Prompts, *, multimask: bool | None) -> Answer:
        """Answer prompts of NumPy's arrays about one image, as `Sam.answer` does; those of one length together."""
        if prompts.text is not None:
            raise InputError('words are not in the exported graphs: load the model with runtime="torch"')
        places, batches = self._batches(prompts)
        shared = flatten(embedding.tensors()) | flatten(embedding.side)
        graph = self._graph("click" if prompts.points.shape[1] == 1 else "batch")
        candidates = {True: slice(1, None), False: slice(0, 1), None: slice(None)}[multimask]
        answers = []
        for batch in batches:
            given = shared | batch
            found = graph.run({name: np.ascontiguousarray(given[name]) for name in graph.inputs})
            answers.append([found[name] for name in Answer._fields if name in found])
        order = np.argsort(np.concatenate(places), kind="stable")
        parts = [parts[0] if len(parts) == 1 else np.concatenate(parts)[order] for parts in zip(*answers, strict=True)]
        logits, iou, *score = parts
        return Answer(logits[None, :, candidates], iou[None, :, candidates], score[0][None] if score else None)

    def _prepared(self, embedding: Embedding) -> Embedding:
        """Add what all prompts of the image share."""
        graph = self._open(self.graphs["encoder"], self.folder / IMAGE_FILE)
        tensors = embedding.tensors()
        return replace(embedding, side=graph.run({name: tensors[name] for name in graph.inputs}))

    def _batches(self, prompts: Prompts) -> tuple[list[NDArray[np.int64]], list[dict[str, NDArray[Any]]]]:
        """Return the graph's inputs for prompts of each length, and which prompts they are."""
        points, labels = prompts.points[0], prompts.labels[0]
        if self.config.pads_boxes and not prompts.has_padding:
            points = np.concatenate([points, np.zeros_like(points[:, :1])], 1)
            lacking = ~(labels == PointLabel.NOT_A_POINT).any(1)
            last = np.where(lacking, int(PointLabel.NOT_A_POINT), int(PointLabel.ABSENT))
            labels = np.concatenate([labels, last[:, None]], 1)
        present = labels != PointLabel.ABSENT
        lengths = present.sum(1)
        places, batches = [], []
        for length in np.unique(lengths).tolist():
            members = np.flatnonzero(lengths == length)
            own = present[members]
            count, side = len(members), self.mask_size
            masks = prompts.masks
            blank = np.zeros((count, side, side), np.float32)
            batches.append(
                {
                    "points": points[members][own].reshape(count, length, 2).astype(np.float32, copy=False),
                    "labels": labels[members][own].reshape(count, length).astype(np.float32),
                    "mask_input": blank if masks is None else masks[0][members],
                    "has_mask_input": np.full(count, masks is not None, np.float32),
                }
            )
            places.append(members)
        return places, batches

    def _graph(self, part: Part) -> Graph:
        return self._open(self.graphs[part], graph_path(self.folder, part))

    def _open(self, engine: EngineName, path: Path) -> Graph:
        """Open a graph once, whoever asks first."""
        with self._lock:
            if (engine, path) not in self._opened:
                self._opened[engine, path] = open_graph(engine, path, self._threads)
            return self._opened[engine, path]


def weights_hash(model: AnyModel) -> str:
    """Return the hash of a model's config and weights (`anymask.checkpoints.model_hash`)."""
    if isinstance(model, ExportedModel):
        return model.hash
    from anymask.checkpoints.load import model_hash

    return model_hash(model)


def model_name(model: AnyModel, hash: str | None = None) -> str:
    """Return all that an embedding depends on besides the image; `hash` is that of the weights, where it is known."""
    return f"{hash or weights_hash(model)} {model.image_size} {model.dtype}"
