"""Endless, seeded batches from weighted sources, resumable at any step.

Batch k of a stream depends on the seed and k alone, whatever the number of workers: to resume is to start at k.
Legend: B images, P masks an image, S model size, G grid of the logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from anymask.data.sa1b import Skipped, TarFiles
from anymask.data.transforms import Item, TransformConfig, transform
from anymask.errors import AnymaskError, DataError

_MAX_TRIES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Images with their masks in the padded model frame; where an image has fewer than p masks, they repeat."""

    images: UInt8[Tensor, "b 3 s s"]
    masks: Bool[Tensor, "b p g g"]
    valid: Bool[Tensor, "b g g"]
    keys: tuple[str, ...]

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor."""
        tensors = {n: getattr(self, n).to(device, non_blocking=True) for n in ("images", "masks", "valid")}
        return Batch(**tensors, keys=self.keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A set of tars, how often it is drawn from, and how it is varied."""

    files: TarFiles
    weight: float
    transforms: TransformConfig


class BatchStream(IterableDataset[Batch]):
    """Batches `start`, `start + 1`, … of the endless stream that a seed defines."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        batch_size: int,
        num_masks: int,
        image_size: int,
        mask_size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
    ) -> None:
        super().__init__()
        if not sources or sum(s.weight for s in sources) <= 0:
            raise DataError("no source of training data has a weight above 0")
        self.sources = list(sources)
        self.batch_size, self.num_masks = batch_size, num_masks
        self.image_size, self.mask_size = image_size, mask_size
        self.seed, self.start, self.rank = seed, start, rank
        self.skipped = Skipped()

    def __iter__(self) -> Iterator[Batch]:
        """Yield this worker's share of the batches, in order."""
        worker = get_worker_info()
        index, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        number = self.start + index
        while True:
            yield self.batch(number)
            number += step

    def batch(self, number: int) -> Batch:
        """Make one batch."""
        rng = np.random.default_rng((self.seed, self.rank, number))
        return self._collate([self._item(rng) for _ in range(self.batch_size)], rng)

    def _item(self, rng: np.random.Generator) -> Item:
        weights = np.array([s.weight for s in self.sources])
        for _ in range(_MAX_TRIES):
            source = self.sources[int(rng.choice(len(weights), p=weights / weights.sum()))]
            index = int(rng.integers(len(source.files)))
            try:
                sample = source.files.sample(index, max_masks=4 * self.num_masks, rng=rng)
            except AnymaskError as error:
                self.skipped.add(source.files.key(index), error)
                continue
            item = transform(sample, source.transforms, image_size=self.image_size, mask_size=self.mask_size, rng=rng)
            if item is not None:
                return item
        raise DataError(
            f"{_MAX_TRIES} samples in a row gave no mask; unreadable ones so far: {dict(self.skipped.reasons)}"
        )

    def _collate(self, items: Sequence[Item], rng: np.random.Generator) -> Batch:
        drawn = [np.resize(rng.permutation(len(item.masks)), self.num_masks) for item in items]
        masks = np.stack([item.masks[chosen] for item, chosen in zip(items, drawn, strict=True)])
        images = np.stack([item.image for item in items]).transpose(0, 3, 1, 2)
        return Batch(
            images=torch.from_numpy(np.ascontiguousarray(images)),
            masks=torch.from_numpy(masks),
            valid=torch.from_numpy(np.stack([item.valid for item in items])),
            keys=tuple(item.key for item in items),
        )


def batches(stream: BatchStream, *, num_workers: int) -> Iterator[Batch]:
    """Run a stream through `num_workers` processes (0: in this one), in the stream's order."""
    loader: DataLoader[Batch] = DataLoader(
        stream,
        batch_size=None,
        num_workers=num_workers,
        prefetch_factor=4 if num_workers else None,
        worker_init_fn=_one_thread,
    )
    return iter(loader)


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
