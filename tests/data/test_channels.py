from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from anymask.checkpoints import load_model, save_model
from anymask.data.channels import ChannelMapping, read_bands, read_mapped
from anymask.data.images import read_image
from anymask.errors import CheckpointError, ImageError, InputError
from anymask.inference import Predictor
from anymask.model import SIZES, build_sam

tifffile = pytest.importorskip("tifffile")

MAPPING = ChannelMapping(bands=(4, 0, 2), low=(0.0, 100.0, -1.0), high=(1000.0, 300.0, 1.0))


@pytest.fixture
def bands() -> np.ndarray:
    values = np.zeros((6, 8, 5), np.float32)
    values[..., 4] = np.linspace(0, 1000, 48).reshape(6, 8)
    values[..., 0] = 200
    values[..., 2] = np.nan
    values[0, 0, 2] = 5
    return values


def test_bands_become_colours_in_the_stated_range(bands: np.ndarray) -> None:
    rgb = MAPPING.apply(bands)
    assert rgb.dtype == np.uint8 and rgb.shape == (6, 8, 3)
    assert rgb[0, 0].tolist() == [0, 128, 255], "beyond a range is cut off"
    assert rgb[-1, -1].tolist() == [255, 128, 0], "NaN is 0"
    assert rgb[3, 0, 0] == round(255 * 24 / 47)


@pytest.mark.parametrize("layout", ["interleaved", "planar", "pages"])
def test_tiff_of_any_layout_is_the_same_bands(bands: np.ndarray, tmp_path: Path, layout: str) -> None:
    path, values = tmp_path / "x.tif", np.nan_to_num(bands).astype(np.uint16)
    if layout == "interleaved":
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")
    elif layout == "planar":
        tifffile.imwrite(path, values.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate")
    else:
        tifffile.imwrite(path, values.transpose(2, 0, 1), photometric="minisblack")
    assert np.array_equal(read_bands(path), values)
    assert np.array_equal(read_mapped(path, MAPPING), MAPPING.apply(values))


def test_deep_grey_and_colour_png(tmp_path: Path) -> None:
    grey = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    found = read_mapped(tmp_path / "grey.png", ChannelMapping.parse("0:0..47000"))
    assert found[-1, -1].tolist() == [255, 255, 255] and found[0, 1, 0] == round(255 / 47)
    colour = np.random.default_rng(0).integers(0, 60000, (6, 8, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "colour.png"), colour[..., ::-1])
    assert np.array_equal(read_bands(tmp_path / "colour.png"), colour)


def test_what_is_rgb_already_and_what_has_no_mapping_is_left_alone(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    assert read_mapped(rgb, MAPPING) is rgb
    assert np.array_equal(read_mapped(rgb, None), read_image(rgb))


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3", "a:0..1", "0:1", "0:5..x", "1,2,3,4:0..1"])
def test_words_that_are_no_mapping(text: str) -> None:
    with pytest.raises(InputError, match="are not BANDS:LOW"):
        ChannelMapping.parse(text)


def test_senseless_mappings_are_refused() -> None:
    with pytest.raises(InputError, match="each low must be below its high"):
        ChannelMapping.parse("0:5..5")
    with pytest.raises(InputError, match="is no mapping of channels"):
        ChannelMapping.from_dict({"bands": [0, 1, 2]})
    with pytest.raises(ImageError, match="has 2 bands; the model's mapping asks for band 4"):
        MAPPING.apply(np.zeros((4, 4, 2)))


def test_files_that_cannot_be_read_by_bands(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(b"II*\0 nothing")
    with pytest.raises(ImageError, match=r"x\.tif: damaged TIFF"):
        read_bands(tmp_path / "x.tif")
    with pytest.raises(ImageError, match="there is no such file"):
        read_bands(tmp_path / "y.tif")


def test_a_checkpoint_keeps_its_mapping_and_applies_it(bands: np.ndarray, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_sam(SIZES["smoke"])
    model.channels = MAPPING.to_dict()
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.channels == MAPPING.to_dict()
    tifffile.imwrite(tmp_path / "x.tif", bands, photometric="minisblack", planarconfig="contig")
    first, second = Predictor(loaded), Predictor(loaded)
    first.set_image(tmp_path / "x.tif")
    second.set_image(MAPPING.apply(bands))
    assert torch.equal(first.image.embedding.features, second.image.embedding.features)


def test_a_checkpoint_without_one_has_none(tmp_path: Path) -> None:
    save_model(build_sam(SIZES["smoke"]), tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").channels is None


def test_a_format_that_cannot_keep_it_is_refused(tmp_path: Path) -> None:
    model = build_sam(SIZES["smoke"])
    model.channels = MAPPING.to_dict()
    with pytest.raises(CheckpointError, match="channels"):
        save_model(model, tmp_path / "folder", format="huggingface")
