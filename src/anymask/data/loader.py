"""Endless, seeded batches from weighted sources, resumable at any step.

Item n of a stream depends on the seed and n alone, and batch k of a process is as many items in a row. However many
processes and workers share a stream, together they read the same items; to resume is to start at k.
`Schedule` says which sample the n-th item is: sources take turns by their weights, and each is gone through in a new
random order every epoch, so that every sample of a source comes once per epoch.
Legend: B images, P masks per image, S model size, G grid of the logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8, UInt32
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from anymask.data.sample import SampleSet, Skipped
from anymask.data.transforms import TransformConfig, VariedSample, transform
from anymask.errors import AnymaskError, DataError
from anymask.geometry.frames import Fit
from anymask.threads import use_one_thread

_MAX_TRIES = 50
_CROPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Images with their masks in the padded model frame; where an image has fewer than p masks, they repeat.

    `known` holds the masks that were read of each image, p of which are `masks`; where an image has fewer than o,
    empty ones follow. `skipped` names the samples that were drawn for the batch and could not be used.
    """

    images: UInt8[Tensor, "b 3 s s"]
    masks: Bool[Tensor, "b p g g"]
    known: Bool[Tensor, "b o g g"]
    valid: Bool[Tensor, "b g g"]
    keys: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor."""
        tensors = {n: getattr(self, n).to(device, non_blocking=True) for n in ("images", "masks", "known", "valid")}
        return Batch(**tensors, keys=self.keys, skipped=self.skipped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A set of samples, how often it is drawn from, and how it is varied."""

    files: SampleSet
    weight: float
    transforms: TransformConfig


class BatchStream(IterableDataset[Batch]):
    """Batches `start`, `start + 1`, … of the endless stream that a seed defines.

    Of `count` processes the one of that `rank` takes every `count`-th batch of the stream. A mask that lies within d
    others is drawn 1 + `nested_mask_weight` · d times as often as one that lies in none. Of an image 4 · `num_masks`
    masks are read, twice as many where `nested_mask_weight` is above 0.
    """

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
        count: int = 1,
        nested_mask_weight: float = 0.0,
        fit: Fit = "pad",
    ) -> None:
        super().__init__()
        if not sources or sum(s.weight for s in sources) <= 0:
            raise DataError("no source of training data has a weight above 0")
        self.sources = list(sources)
        self._weights = np.array([s.weight for s in sources]) / sum(s.weight for s in sources)
        self._schedule = Schedule([len(s.files) for s in sources], [s.weight for s in sources], seed)
        self.batch_size, self.num_masks = batch_size, num_masks
        self.image_size, self.mask_size, self.fit = image_size, mask_size, fit
        self.seed, self.start, self.rank, self.count = seed, start, rank, count
        self.nested_mask_weight, self.num_known = nested_mask_weight, num_masks * (8 if nested_mask_weight else 4)
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
        """Make one batch of this process; raises DataError where 50 samples running give no mask."""
        first = (number * self.count + self.rank) * self.batch_size
        skipped: list[str] = []
        drawn: list[tuple[VariedSample, Int[np.ndarray, " p"]]] = []
        for n in range(first, first + self.batch_size):
            rng = np.random.default_rng((self.seed, n))
            item = self._item(n, rng, skipped)
            drawn.append((item, np.resize(self._order(item.masks, rng), self.num_masks)))
        return self._collate(drawn, tuple(skipped))

    def _item(self, n: int, rng: np.random.Generator, skipped: list[str]) -> VariedSample:
        """Make item n: the sample whose turn it is, or random ones until one is readable and its crops show a mask.

        A sample whose crops miss all masks is replaced, but does not count as skipped.
        """
        place = self._schedule(n)
        for _ in range(_MAX_TRIES):
            source, files = self.sources[place[0]], self.sources[place[0]].files
            try:
                sample = files.sample(place[1], max_masks=self.num_known, rng=rng)
            except AnymaskError as error:
                skipped.append(files.key(place[1]))
                self.skipped.add(skipped[-1], error)
            else:
                for _ in range(_CROPS):
                    item = transform(
                        sample,
                        source.transforms,
                        image_size=self.image_size,
                        mask_size=self.mask_size,
                        rng=rng,
                        fit=self.fit,
                    )
                    if item is not None:
                        return item
            instead = int(rng.choice(len(self._weights), p=self._weights))
            place = instead, int(rng.integers(len(self.sources[instead].files)))
        unreadable = f", {len(skipped)} of them unreadable, such as {skipped[-1]}" if skipped else ""
        raise DataError(f"{_MAX_TRIES} samples in a row gave no mask{unreadable}: are the sources the right ones?")

    def _collate(self, drawn: Sequence[tuple[VariedSample, Int[np.ndarray, " p"]]], skipped: tuple[str, ...]) -> Batch:
        items = [item for item, _ in drawn]
        masks = np.stack([item.masks[chosen] for item, chosen in drawn])
        known = np.zeros((len(items), self.num_known, *masks.shape[2:]), bool)
        for slots, item in zip(known, items, strict=True):
            slots[: len(item.masks)] = item.masks[: self.num_known]
        images = np.stack([item.image for item in items]).transpose(0, 3, 1, 2)
        return Batch(
            images=torch.from_numpy(np.ascontiguousarray(images)),
            masks=torch.from_numpy(masks),
            known=torch.from_numpy(known),
            valid=torch.from_numpy(np.stack([item.valid for item in items])),
            keys=tuple(item.key for item in items),
            skipped=skipped,
        )

    def _order(self, masks: Bool[np.ndarray, "m g g"], rng: np.random.Generator) -> Int[np.ndarray, " m"]:
        if not self.nested_mask_weight:
            return rng.permutation(len(masks))
        weights = 1.0 + self.nested_mask_weight * _depth(masks)
        order: Int[np.ndarray, " m"] = rng.choice(len(masks), len(masks), replace=False, p=weights / weights.sum())
        return order


def _depth(masks: Bool[np.ndarray, "m g g"]) -> Int[np.ndarray, " m"]:
    """Count, for each mask, the masks at least a quarter larger in which nine tenths of it lie."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    area = flat.sum(1)
    inside = flat @ flat.T >= 0.9 * area[:, None]
    depth: Int[np.ndarray, " m"] = (inside & (area > 1.25 * area[:, None])).sum(1)
    return depth


def batches(stream: IterableDataset[Batch], *, num_workers: int) -> Iterator[Batch]:
    """Run a stream through `num_workers` processes (0: in this one), in the stream's order.

    Neither this nor the workers draw from torch's global generator, on whose state a resumed run depends.
    """
    loader: DataLoader[Batch] = DataLoader(
        stream,
        batch_size=None,
        num_workers=num_workers,
        prefetch_factor=4 if num_workers else None,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),
    )
    return iter(loader)


def _one_thread(_: int) -> None:
    use_one_thread()


_PERIOD = 1000
"""Items over which the weights are met exactly, but for rounding; no source with a weight gets none."""


class Schedule:
    """The order of samples drawn from sources of some lengths by some weights."""

    def __init__(self, lengths: Sequence[int], weights: Sequence[float], seed: int) -> None:
        self._lengths, self._seed = list(lengths), seed
        shares = np.asarray(weights, float) / sum(weights)
        turns = np.repeat(np.arange(len(shares)), _turns(shares))
        self._turns: Int[np.ndarray, " period"] = np.random.default_rng((seed, 0)).permutation(turns)
        is_source = self._turns[:, None] == np.arange(len(shares))
        self._counts: Int[np.ndarray, " sources"] = is_source.sum(0)
        self._earlier: Int[np.ndarray, "period sources"] = is_source.cumsum(0) - is_source
        self._order = lru_cache(maxsize=2 * len(shares))(self._new_order)  # two: at an epoch's border both are in use

    def __call__(self, n: int) -> tuple[int, int]:
        """Return the source of item n, and the index of its sample there."""
        period, turn = divmod(n, len(self._turns))
        source = int(self._turns[turn])
        drawn = period * int(self._counts[source]) + int(self._earlier[turn, source])
        epoch, place = divmod(drawn, self._lengths[source])
        return source, int(self._order(source, epoch)[place])

    def _new_order(self, source: int, epoch: int) -> UInt32[np.ndarray, " n"]:
        rng = np.random.default_rng((self._seed, 1 + source, epoch))
        order: UInt32[np.ndarray, " n"] = rng.permutation(np.arange(self._lengths[source], dtype=np.uint32))
        return order

    def __getstate__(self) -> dict[str, object]:
        """Pickle without the cached orders; a worker makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_order"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Begin with no cached order."""
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2 * len(self._counts))(self._new_order)


def _turns(shares: np.ndarray) -> Int[np.ndarray, " sources"]:
    """Turns of each source in a period: its share, rounded, but at least one for a share above 0."""
    turns = np.rint(shares * _PERIOD).astype(int)
    at_least: Int[np.ndarray, " sources"] = np.maximum(turns, shares > 0)
    return at_least
