"""The stream of batches: a function of seed and number alone, whoever makes them and wherever they begin."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from anymask.data.loader import Batch, BatchStream, Schedule, Source, batches
from anymask.data.readers.tars import TarFiles
from anymask.data.sample import Sample
from anymask.data.transforms import TransformConfig
from anymask.errors import DataError

VARIED = TransformConfig(scale=(0.5, 2.0), flip=True, turn=0.5, color=0.5)


class Drawn:
    """Samples with `counts[i]` masks, each a stripe; those of count 0 cannot be read."""

    def __init__(self, counts: list[int], name: str = "drawn") -> None:
        self.counts, self.name = counts, name

    def __len__(self) -> int:
        return len(self.counts)

    def key(self, index: int) -> str:
        return f"{self.name}/{index}"

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        count = self.counts[index]
        if not count:
            raise DataError("unreadable")
        masks = np.zeros((count, 32, 48), bool)
        for k in range(count):
            masks[k, 4 * k : 4 * k + 4] = True
        return Sample(key=self.key(index), image=np.full((32, 48, 3), 10 * (index % 20), np.uint8), masks=masks)


def make(*sources: Source, seed: int = 3, start: int = 0, num_masks: int = 4) -> BatchStream:
    return BatchStream(sources, batch_size=3, num_masks=num_masks, image_size=64, mask_size=32, seed=seed, start=start)


def take(stream: BatchStream, count: int, workers: int = 0) -> list[Batch]:
    return list(itertools.islice(batches(stream, num_workers=workers), count))


def same(a: Batch, b: Batch) -> bool:
    equal = all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("images", "masks", "valid"))
    return equal and a.keys == b.keys and a.skipped == b.skipped


@pytest.fixture
def source(write_tar: Callable[..., Path], pair_of: Callable[..., list[tuple[str, bytes]]]) -> Source:
    path = write_tar("a.tar", [m for i in range(6) for m in pair_of(i)] + [("broken.jpg", b"x"), ("broken.json", b"{")])
    return Source(files=TarFiles([path]), weight=1.0, transforms=VARIED)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_workers(source: Source, workers: int) -> None:
    wanted = take(make(source), 5)
    state = torch.get_rng_state()
    assert all(map(same, take(make(source), 5, workers), wanted))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_goes_on_where_it_was_left(source: Source, workers: int) -> None:
    wanted = take(make(source), 7)[4:]
    assert all(map(same, take(make(source, start=4), 3, workers), wanted))


def test_seeds_numbers_and_ranks_differ(source: Source) -> None:
    first, second = take(make(source), 2)
    (other,) = take(make(source, seed=4), 1)
    elsewhere = BatchStream([source], batch_size=3, num_masks=4, image_size=64, mask_size=32, seed=3, rank=2, count=3)
    images = [b.images for b in (first, second, other, elsewhere.batch(0))]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(images, 2))


def test_shapes_and_frames() -> None:
    (batch,) = take(make(Source(files=Drawn([3]), weight=1.0, transforms=TransformConfig())), 1)
    assert batch.images.shape == (3, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert batch.masks.shape == (3, 4, 32, 32) and batch.masks.dtype == torch.bool
    assert batch.valid[:, :22].all() and not batch.valid[:, 22:].any()  # 32 of 48 pixels are 43 of 64, 21.5 cells
    assert not (batch.masks & ~batch.valid[:, None]).any()
    assert batch.to("cpu").keys == batch.keys


def test_few_masks_repeat_evenly_and_many_are_drawn_without_repeats() -> None:
    few = make(Source(files=Drawn([3]), weight=1.0, transforms=TransformConfig()), num_masks=8)
    many = make(Source(files=Drawn([8]), weight=1.0, transforms=TransformConfig()), num_masks=6)
    for image in few.batch(0).masks:
        counts = torch.unique(image.flatten(1), dim=0, return_counts=True)[1]
        assert sorted(counts.tolist()) == [2, 3, 3]
    for image in many.batch(0).masks:
        assert len(torch.unique(image.flatten(1), dim=0)) == 6


def test_weights_decide_how_often_a_source_is_drawn_from() -> None:
    plain = TransformConfig()
    stream = make(
        Source(files=Drawn([1] * 50, "rare"), weight=1.0, transforms=plain),
        Source(files=Drawn([1], "often"), weight=3.0, transforms=plain),
        Source(files=Drawn([1], "never"), weight=0.0, transforms=plain),
    )
    names = [key.split("/")[0] for number in range(200) for key in stream.batch(number).keys]
    assert "never" not in names
    assert 0.69 < names.count("often") / len(names) < 0.81


def test_unreadable_samples_are_passed_over_named_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    stream = make(Source(files=Drawn([1, 0, 2]), weight=1.0, transforms=TransformConfig()))
    made = [stream.batch(number) for number in range(20)]
    assert {key for batch in made for key in batch.keys} == {"drawn/0", "drawn/2"}
    skipped = [key for batch in made for key in batch.skipped]
    assert set(skipped) == {"drawn/1"} and len(skipped) == stream.skipped.total > 5
    assert [record.message for record in caplog.records] == ["skipped drawn/1: unreadable"]


def test_a_crop_that_misses_all_masks_is_no_event(caplog: pytest.LogCaptureFixture) -> None:
    corner = Drawn([1])
    stream = make(Source(files=corner, weight=1.0, transforms=TransformConfig(scale=(2.0, 2.0))))
    with caplog.at_level(logging.DEBUG):
        made = [stream.batch(number) for number in range(10)]
    assert all(batch.masks.flatten(2).any(2).all() for batch in made)
    assert not caplog.records and not stream.skipped.total and not any(batch.skipped for batch in made)


def test_sources_without_anything_usable_end_with_a_word() -> None:
    broken = make(Source(files=Drawn([0]), weight=1.0, transforms=TransformConfig()))
    with pytest.raises(DataError, match="50 of them unreadable, such as drawn/0"):
        broken.batch(0)
    too_small = make(Source(files=Drawn([1]), weight=1.0, transforms=TransformConfig(min_cells=10**6)))
    with pytest.raises(DataError, match="gave no mask: are"):
        too_small.batch(0)
    with pytest.raises(DataError, match="weight"):
        make(Source(files=Drawn([1]), weight=0.0, transforms=TransformConfig()))


class Nested(Drawn):
    """A whole, a part and a subpart, and five small wholes, in every sample."""

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        masks = np.zeros((8, 64, 64), bool)
        for mask, side in zip(masks, (32, 20, 10), strict=False):
            mask[:side, :side] = True
        for k in range(5):
            masks[3 + k, 40:60, 6 * k : 6 * k + 6] = True
        return Sample(key=self.key(index), image=np.zeros((64, 64, 3), np.uint8), masks=masks)


def test_deep_masks_are_drawn_more_often_by_their_depth() -> None:
    source = Source(files=Nested([8]), weight=1.0, transforms=TransformConfig(min_cells=1))
    stream = BatchStream(
        [source], batch_size=20, num_masks=1, image_size=64, mask_size=64, seed=3, nested_mask_weight=4.0
    )
    areas = torch.cat([stream.batch(n).masks.sum((1, 2, 3)) for n in range(40)])
    share = [(areas == side**2).float().mean().item() for side in (32, 20, 10)]
    assert share == pytest.approx([1 / 20, 5 / 20, 9 / 20], abs=0.05)


def test_all_masks_that_were_read_go_along_and_empty_ones_fill_up() -> None:
    batch = make(Source(files=Drawn([3]), weight=1.0, transforms=TransformConfig(min_cells=1)), num_masks=2).batch(0)
    assert batch.known.shape == (3, 8, 32, 32)
    assert batch.known.any((2, 3)).tolist() == [[True] * 3 + [False] * 5] * 3
    for masks, known in zip(batch.masks, batch.known, strict=True):
        assert all(any(torch.equal(mask, other) for other in known) for mask in masks)


def part(source: Source, batch_size: int, rank: int = 0, count: int = 1) -> BatchStream:
    return BatchStream(
        [source], batch_size=batch_size, num_masks=2, image_size=64, mask_size=32, seed=3, rank=rank, count=count
    )


def test_processes_together_read_what_one_alone_would() -> None:
    source = Source(files=Drawn([4] * 11), weight=1.0, transforms=VARIED)
    alone = [part(source, 6).batch(n) for n in range(4)]
    shared = [[part(source, 2, rank, 3).batch(n) for rank in range(3)] for n in range(4)]
    for whole, parts in zip(alone, shared, strict=True):
        assert whole.keys == tuple(key for batch in parts for key in batch.keys)
        assert torch.equal(whole.images, torch.cat([batch.images for batch in parts]))
        assert torch.equal(whole.masks, torch.cat([batch.masks for batch in parts]))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_of_two_processes_holds_every_sample_once(workers: int) -> None:
    source = Source(files=Drawn([4] * 24), weight=1.0, transforms=TransformConfig(min_cells=1))
    read = [[key for batch in take(part(source, 3, rank, 2), 8, workers) for key in batch.keys] for rank in range(2)]
    first, second = ([key for keys in read for key in keys[epoch * 12 : epoch * 12 + 12]] for epoch in range(2))
    assert sorted(first) == sorted(second) == sorted(f"drawn/{i}" for i in range(24))
    assert first != second


def test_each_of_several_sources_has_epochs_of_its_own() -> None:
    schedule = Schedule([7, 50], [1.0, 3.0], seed=5)
    drawn = [schedule(n) for n in range(2000)]
    for source, length in ((0, 7), (1, 50)):
        indices = [index for which, index in drawn if which == source]
        for epoch in range(len(indices) // length):
            assert sorted(indices[epoch * length : (epoch + 1) * length]) == list(range(length))
    assert [sum(which == source for which, _ in drawn) for source in (0, 1)] == [500, 1500]


def test_a_source_of_little_weight_still_has_its_turn() -> None:
    assert {Schedule([5, 5], [1e-6, 1.0], seed=5)(n)[0] for n in range(1001)} == {0, 1}
