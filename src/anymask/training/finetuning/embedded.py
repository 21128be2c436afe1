"""Images encoded once, in several views, and kept in files: what training the decoder alone needs of them.

With the encoder frozen an image's embedding changes only where the picture does, so that it is computed once a view
and then read through a memory map: float16, for anymask-s 400 KiB a view, for Meta's models 2 MiB.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import IterableDataset

from anymask.data.files import make_folder
from anymask.data.loader import Batch
from anymask.data.sample import SampleSet, Skipped
from anymask.data.transforms import TransformConfig, VariedSample, transform
from anymask.errors import AnymaskError, DataError, OutputError
from anymask.model import Embedding, Sam

Progress = Callable[[int, int], None]
"""Hears how many views are made, and of how many."""

_OBJECTS_DRAWN = 3
"""Objects decoded of an image for each that a view keeps at most: some are cut off, or too small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedBatch(Batch):
    """A batch whose images are encoded already; its `images` have no pixels."""

    embedding: Embedding

    def to(self, device: torch.device | str) -> EmbeddedBatch:
        """Move every tensor."""
        moved = {name: x.to(device, non_blocking=True) for name, x in _tensors(self).items()}
        embedding = self.embedding.map(lambda x: x.to(device, non_blocking=True))
        return dataclasses.replace(self, **moved, embedding=embedding)  # type: ignore[arg-type]  # names of fields


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """One view: its masks as packed bits, one row each, and the part of the square that is image."""

    key: str
    masks: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    inside: tuple[int, int]


class EmbeddedViews:
    """Views of a set's images: embeddings on disk, their objects' masks beside them.

    The first view of an image is the image as it is, each further one varied by `transforms`. Of an image at most
    `max_objects` objects are kept a view, and of all views as many as `max_bytes` of embeddings hold: fewer views an
    image first, then fewer images, drawn at random.
    """

    def __init__(
        self,
        model: Sam,
        files: SampleSet,
        transforms: TransformConfig,
        folder: Path,
        *,
        views: int,
        max_objects: int,
        max_bytes: int,
        seed: int,
        progress: Progress | None = None,
    ) -> None:
        make_folder(folder)
        self.mask_size, self.max_objects, self.skipped = model.mask_size, max_objects, Skipped()
        plan = plan_views(model, len(files), views, max_bytes)
        self.num_images, self.views = plan
        check_room(folder, plan[0] * plan[1] * view_bytes(model))
        rng = np.random.default_rng((seed, 1))
        order = sorted(rng.permutation(len(files))[: self.num_images].tolist())
        self._views: list[_View] = []
        writers = _Writers(folder, model)
        plain = TransformConfig(min_cells=transforms.min_cells, max_share=transforms.max_share)
        with writers:
            for done, index in enumerate(order, start=1):
                for item in self._items(files, index, (plain, transforms), model, max_objects, seed):
                    writers.add(item)
                    self._views.append(_packed(item))
                if progress is not None:
                    progress(done * self.views, len(order) * self.views)
        if not self._views:
            raise DataError(f"none of {len(files)} images shows a mask that can be learned from")
        self._embeddings = writers.mapped(len(self._views))

    def __len__(self) -> int:
        """Return the number of views."""
        return len(self._views)

    def batch(self, indices: Sequence[int], num_masks: int, rng: np.random.Generator) -> EmbeddedBatch:
        """Return some views with `num_masks` objects each; they repeat where there are fewer."""
        views = [self._views[i] for i in indices]
        drawn = [view.masks[np.resize(rng.permutation(len(view.masks)), num_masks)] for view in views]
        masks = np.stack([_unpacked(rows, self.mask_size) for rows in drawn])
        known = np.zeros((len(views), self.max_objects, *masks.shape[2:]), bool)
        for all_of_them, view in zip(known, views, strict=True):
            all_of_them[: len(view.masks)] = _unpacked(view.masks, self.mask_size)
        valid = np.zeros((len(views), self.mask_size, self.mask_size), bool)
        for inside, view in zip(valid, views, strict=True):
            inside[: view.inside[0], : view.inside[1]] = True
        places = list(indices)
        return EmbeddedBatch(
            images=torch.empty((len(views), 3, 0, 0), dtype=torch.uint8),
            masks=torch.from_numpy(masks),
            known=torch.from_numpy(known),
            valid=torch.from_numpy(valid),
            keys=tuple(view.key for view in views),
            embedding=Embedding.from_tensors(
                {name: torch.from_numpy(stored[places]).float() for name, stored in self._embeddings.items()}
            ),
        )

    def _items(
        self,
        files: SampleSet,
        index: int,
        kinds: tuple[TransformConfig, TransformConfig],
        model: Sam,
        max_objects: int,
        seed: int,
    ) -> Iterator[VariedSample]:
        """Yield an image's views that show an object; none where it cannot be used."""
        rng = np.random.default_rng((seed, index))
        try:
            sample = files.sample(index, max_masks=_OBJECTS_DRAWN * max_objects, rng=rng)
        except AnymaskError as error:
            self.skipped.add(files.key(index), error)
            return
        for view in range(self.views):
            kind = kinds[min(view, 1)]
            side, fit = model.image_size, model.config.fit
            item = transform(sample, kind, image_size=side, mask_size=model.mask_size, rng=rng, fit=fit)
            if item is not None and len(item.masks) > max_objects:
                item = dataclasses.replace(item, masks=item.masks[rng.permutation(len(item.masks))[:max_objects]])
            if item is not None:
                yield item


def view_bytes(model: Sam) -> int:
    """Return the bytes that a view's embedding takes on disk."""
    return 2 * sum(math.prod(shape) for shape in model.embedding_shapes().values())


def plan_views(model: Sam, num_images: int, views: int, max_bytes: int) -> tuple[int, int]:
    """Return how many images are kept, and in how many views each, within `max_bytes`; raises DataError for none."""
    most = max_bytes // view_bytes(model)
    if most < 1:
        raise DataError(
            f"the cache of {max_bytes >> 20} MiB holds no embedding, of {view_bytes(model) / 2**20:.1f} MiB"
        )
    return min(num_images, most), max(1, min(views, most // num_images))


def check_room(folder: Path, needed: int) -> None:
    """Raise OutputError unless the disk has room."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{folder}: embeddings need {needed / 2**30:.1f} GiB on this disk, {free / 2**30:.1f} are free; lower "
            "cache_mib"
        )


class EmbeddedStream(IterableDataset[Batch]):
    """Batches `start`, `start + 1`, … of weighted sets of views; each depends on the seed and its number alone."""

    def __init__(
        self, sets: Sequence[tuple[EmbeddedViews, float]], *, batch_size: int, num_masks: int, seed: int, start: int = 0
    ) -> None:
        super().__init__()
        self.sets = list(sets)
        self.batch_size, self.num_masks, self.seed, self.start = batch_size, num_masks, seed, start

    def __iter__(self) -> Iterator[EmbeddedBatch]:
        """Yield the batches, without end."""
        number = self.start
        while True:
            yield self.batch(number)
            number += 1

    def batch(self, number: int) -> EmbeddedBatch:
        """Make one batch; each image is of a set drawn by the weights."""
        rng = np.random.default_rng((self.seed, number))
        weights = np.array([weight for _, weight in self.sets])
        counts = rng.multinomial(self.batch_size, weights / weights.sum())
        parts = [
            views.batch(rng.choice(len(views), count, replace=count > len(views)).tolist(), self.num_masks, rng)
            for (views, _), count in zip(self.sets, counts.tolist(), strict=True)
            if count
        ]
        return _joined(parts)


def _joined(parts: Sequence[EmbeddedBatch]) -> EmbeddedBatch:
    joined = {name: torch.cat([_tensors(part)[name] for part in parts]) for name in _tensors(parts[0])}
    encoded = [part.embedding.tensors() for part in parts]
    embedding = Embedding.from_tensors({name: torch.cat([one[name] for one in encoded]) for name in encoded[0]})
    keys = tuple(key for part in parts for key in part.keys)
    return dataclasses.replace(parts[0], **joined, embedding=embedding, keys=keys)  # type: ignore[arg-type]


def _tensors(batch: EmbeddedBatch) -> dict[str, Tensor]:
    values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _packed(item: VariedSample) -> _View:
    rows, columns = item.valid.any(1), item.valid.any(0)
    packed = np.packbits(item.masks.reshape(len(item.masks), -1), axis=1)
    return _View(key=item.key, masks=packed, inside=(int(rows.sum()), int(columns.sum())))


def _unpacked(rows: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], side: int) -> Bool[np.ndarray, "m g g"]:
    return np.unpackbits(rows, axis=1, count=side * side).reshape(-1, side, side).view(np.bool_)


class _Writers:
    """Encodes views and appends their embeddings to files."""

    _AT_ONCE = 4

    def __init__(self, folder: Path, model: Sam) -> None:
        self.folder, self.model = folder, model
        self._waiting: list[VariedSample] = []

    def __enter__(self) -> _Writers:
        """Open no file yet: what there was is written over."""
        for name in self.model.embedding_shapes():
            self._file(name).unlink(missing_ok=True)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Encode what waits."""
        if kind is None:
            self._flush()

    def add(self, item: VariedSample) -> None:
        """Take a view."""
        self._waiting.append(item)
        if len(self._waiting) == self._AT_ONCE:
            self._flush()

    def mapped(self, count: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return the embeddings' arrays by name, float16, as maps of the files."""
        shapes = self.model.embedding_shapes()
        return {name: np.memmap(self._file(name), np.float16, "r", shape=(count, *s)) for name, s in shapes.items()}

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.f16"

    def _flush(self) -> None:
        if not self._waiting:
            return
        encoded = encode_items(self.model, self._waiting)
        for name, tensor in encoded.tensors().items():
            try:
                with self._file(name).open("ab") as file:
                    file.write(np.ascontiguousarray(tensor.cpu().numpy().astype(np.float16)).data)
            except OSError as error:
                raise OutputError(f"{self.folder}: embeddings cannot be written ({error.strerror})") from error
        self._waiting = []


@torch.inference_mode()
def encode_items(model: Sam, items: Sequence[VariedSample]) -> Embedding:
    """Return the embeddings of views in float32."""
    pixels = np.ascontiguousarray(np.stack([item.image for item in items]).transpose(0, 3, 1, 2))
    valid = torch.from_numpy(np.stack([item.valid for item in items]))
    images = model.preprocess(torch.from_numpy(pixels).to(model.device))
    inside = F.interpolate(valid[:, None].float(), images.shape[-2:], mode="nearest").to(images.device)
    return model.encode(images * inside.to(images.dtype)).map(torch.Tensor.float)
