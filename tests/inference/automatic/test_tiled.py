"""Tiles joined again: objects drawn in plain colours, and a stand-in for the model that finds each colour it sees."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from anymask.data.channels import ChannelMapping
from anymask.errors import ImageError, InputError
from anymask.geometry import rle
from anymask.inference import AutomaticMasks, MaskRecord
from anymask.inference.automatic.tiled import TiledMasks, as_windows
from anymask.model import Sam

GROUND = 0
Tiled = Callable[..., TiledMasks]


def _colours(self: AutomaticMasks, images: Iterable[np.ndarray], **_: object) -> Iterator[list[MaskRecord]]:
    """A record for each red value but the ground's; the greater the mask the less confident."""
    for image in images:
        records = []
        for value in np.unique(image[..., 0]):
            mask = image[..., 0] == value
            if value == GROUND:
                continue
            y, x = np.argwhere(mask)[0]
            stored = rle.encode(mask)
            records.append(
                MaskRecord(
                    rle=stored,
                    bbox=rle.bbox(stored),
                    area=int(mask.sum()),
                    predicted_iou=1 - mask.mean() / 2,
                    stability_score=0.9,
                    point_coords=((float(x), float(y)),),
                    crop_box=(0, 0, image.shape[1], image.shape[0]),
                )
            )
        yield records


@pytest.fixture
def tiled(small_sam: Sam, monkeypatch: pytest.MonkeyPatch) -> Tiled:
    monkeypatch.setattr(AutomaticMasks, "generate_many", _colours)
    return lambda **settings: TiledMasks(small_sam, **{"tile": 64, "overlap": 24, **settings})


def canvas(height: int = 150, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), GROUND, np.uint8)


def decoded(records: list[MaskRecord]) -> list[np.ndarray]:
    return [rle.decode(record.rle) for record in records]


def test_objects_over_any_number_of_tiles_become_one(tiled: Tiled) -> None:
    image = canvas()
    image[10:14, 3:190] = 50  # over all columns of tiles
    image[20:140, 60:100] = 90  # over six
    image[100:110, 120:128] = 130  # whole in several
    image[120, 5:195] = image[60:121, 5] = 170  # an angle
    records = tiled().generate(image)
    assert len(records) == 4
    for record, mask in zip(records, decoded(records), strict=True):
        (value,) = set(np.unique(image[mask][:, 0]))
        assert np.array_equal(mask, image[..., 0] == value)
        assert record.area == mask.sum() and record.bbox == rle.bbox(record.rle)
        x, y, width, height = record.crop_box
        assert mask[y : y + height, x : x + width].sum() == record.area
        assert all(image[int(py), int(px), 0] == value for px, py in record.point_coords)


def test_one_tile_is_the_image_itself(tiled: Tiled) -> None:
    image = canvas(40, 60)
    image[5:20, 5:50] = 80
    tiles = tiled()
    assert tiles.generate(image) == next(tiles.automatic.generate_many([image]))


def test_a_ring_that_one_tile_sees_twice(tiled: Tiled) -> None:
    image = canvas(100, 100)
    image[30:70, 30:70] = 60
    image[32:68, 32:68] = GROUND
    (record,) = tiled(tile=60, overlap=20).generate(image)
    assert np.array_equal(rle.decode(record.rle), image[..., 0] == 60)


def test_a_mask_no_one_continues(tiled: Tiled, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(self: AutomaticMasks, images: Iterable[np.ndarray], **_: object) -> Iterator[list[MaskRecord]]:
        """Find nothing in the second tile."""
        for number, records in enumerate(_colours(self, images)):
            yield [] if number else records

    monkeypatch.setattr(AutomaticMasks, "generate_many", blind)
    image = canvas(64, 104)  # two tiles, from 0 to 64 and from 40 to 104
    image[10:20, 30:90] = 60  # 34 of its columns are in the first tile, which alone sees 10 of them
    for min_own, areas in ((0, [340]), (0.29, [340]), (0.3, [])):
        assert [record.area for record in tiled(min_own=min_own).generate(image)] == areas


def test_whole_and_part_stay_apart(tiled: Tiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that looks like its whole in the shared zone is not joined with it."""

    def nested(self: AutomaticMasks, images: Iterable[np.ndarray], **_: object) -> Iterator[list[MaskRecord]]:
        for image, records in zip([0, 1], _colours(self, images), strict=True):
            extra = []
            if image == 1:  # the second tile also sees the left half of the object
                mask = rle.decode(records[0].rle)
                mask[:, 30:] = False
                stored = rle.encode(mask)
                extra = [
                    MaskRecord(
                        rle=stored,
                        bbox=rle.bbox(stored),
                        area=int(mask.sum()),
                        predicted_iou=0.5,
                        stability_score=0.5,
                        point_coords=((0.0, 0.0),),
                        crop_box=(0, 0, 64, 64),
                    )
                ]
            yield records + extra

    monkeypatch.setattr(AutomaticMasks, "generate_many", nested)
    image = canvas(64, 104)
    image[10:20, 20:90] = 60
    records = tiled(min_own=0, crop_nms_thresh=1.0).generate(image)
    assert sorted(record.area for record in records) == [300, 700]


def test_only_windows_are_read(tiled: Tiled) -> None:
    image = canvas(300, 500)
    image[10:290, 10:490] = 70
    read = []

    class Source:
        size = (300, 500)

        def read(self, box: tuple[int, int, int, int]) -> np.ndarray:
            read.append(box)
            x0, y0, x1, y1 = box
            return image[y0:y1, x0:x1]

    told = []
    (record,) = tiled().generate(Source(), on_tile=lambda done, total: told.append((done, total)))
    assert record.area == 280 * 480
    assert all(x1 - x0 == y1 - y0 == 64 for x0, y0, x1, y1 in read)
    assert told == [(n + 1, len(read)) for n in range(len(read))]


def test_a_hundred_megapixels_in_little_memory(tiled: Tiled, tmp_path: Path) -> None:
    image = np.memmap(tmp_path / "large.raw", np.uint8, "w+", shape=(10_000, 10_000, 3))  # a sparse file
    image[200:9_800, 5_000:5_010] = 90
    tiles = tiled(tile=1024, overlap=100)
    tracemalloc.start()
    records = tiles.generate(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [record.area for record in records] == [9_600 * 10]
    assert peak < 30_000_000  # a byte a pixel would be 100 million


def test_an_image_of_more_pixels_than_run_lengths_count_is_refused_before_it_is_read(tiled: Tiled) -> None:
    class Source:
        size = (70_000, 70_000)

        def read(self, box: tuple[int, int, int, int]) -> np.ndarray:
            pytest.fail("read")

    with pytest.raises(InputError, match="70000 x 70000 pixels cannot be stored"):
        tiled().generate(Source())


def test_deep_arrays_are_read_window_by_window_where_the_model_has_a_mapping(
    tiled: Tiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((150, 200, 4), np.uint16)
    image[20:140, 60:100, 3] = 5000
    image[..., 0] = 60000  # by which the others would be stretched
    tiles = tiled()
    monkeypatch.setattr(tiles.automatic.model, "channels", ChannelMapping.parse("3,2,1:0..10000").to_dict())
    (record,) = tiles.generate(image)
    assert np.array_equal(rle.decode(record.rle), image[..., 3] > 0)
    assert as_windows(tiles.automatic.model, image).read((60, 20, 62, 22))[0, 0].tolist() == [128, 0, 0]
    with pytest.raises(ImageError, match="has 2 bands"):
        tiles.generate(image[..., :2])


def test_numpys_numbers_are_numbers(small_sam: Sam) -> None:
    tiles = TiledMasks(small_sam, tile=np.int64(64), overlap=np.uint8(24), merge_iou=np.float32(0.5))
    assert [type(value) for value in (tiles.tile, tiles.overlap, tiles.merge_iou)] == [int, int, float]


def test_what_makes_no_sense_is_refused(small_sam: Sam) -> None:
    for settings, words in (
        ({"tile": 10, "overlap": 10}, "cannot overlap by 10"),
        ({"tile": 10.0, "overlap": True}, "cannot overlap by True"),
        ({"merge_iou": 0}, "merge_iou is 0"),
        ({"min_own": -1}, "min_own -1"),
        ({"points": 3}, "no option 'points'"),
    ):
        with pytest.raises(InputError, match=words):
            TiledMasks(small_sam, **settings)


def test_the_model_itself_on_tiles(small_sam: Sam, picture: Callable[..., np.ndarray]) -> None:
    tiles = TiledMasks(
        small_sam,
        tile=64,
        overlap=24,
        points_per_side=4,
        pred_iou_thresh=0,
        stability_score_thresh=0,
    )
    image = picture(100, 120)
    records = tiles.generate(image)
    assert records
    for record in records:
        assert record.rle["size"] == [100, 120] and record.area == rle.area(record.rle) > 0
