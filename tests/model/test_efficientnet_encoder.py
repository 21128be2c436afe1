"""EfficientNet-Lite as an encoder: TensorFlow's padding, features at their strides, skips that reach the masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from anymask.model import SIZES, DecoderConfig, EfficientNetLiteConfig, Embedding, Prompts, Sam, SamConfig, build_sam
from anymask.model.efficientnet_encoder import EfficientNetLite, SameConv

SMALL = SamConfig(
    encoder=EfficientNetLiteConfig(
        widths=(8, 8, 16, 16, 16, 24, 24), depths=(1, 1, 1, 1, 2, 1, 1), merge_width=32, merge_depth=1, num_heads=4
    ),
    decoder=DecoderConfig(num_heads=4, mlp_dim=64, iou_hidden=32, skip_widths=(8, 8)),
    width=32,
    image_size=96,
)


@pytest.fixture
def model(randomise: Callable[..., None]) -> Sam:
    torch.manual_seed(0)
    sam = build_sam(SMALL).eval()
    randomise(sam)
    return sam


def _same(image: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Convolve as TensorFlow's documentation of "SAME" says, by another library."""
    padded = image
    for axis, side in enumerate(image.shape):
        out = int(np.ceil(side / stride))
        total = max((out - 1) * stride + kernel.shape[axis] - side, 0)
        widths = [(0, 0), (0, 0)]
        widths[axis] = (total // 2, total - total // 2)
        padded = np.pad(padded, widths)
    return correlate2d(padded, kernel, mode="valid")[::stride, ::stride]


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (9, 8), (7, 11)])
def test_padding_is_tensorflows_same(kernel: int, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    convolution = SameConv(1, 1, kernel, stride)
    x = torch.randn(1, 1, *size)
    assert convolution.bias is not None
    expected = _same(x[0, 0].numpy(), convolution.weight[0, 0].detach().numpy(), stride) + float(
        convolution.bias.detach()
    )
    np.testing.assert_allclose(convolution(x)[0, 0].detach().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["lite0", "lite2"])
def test_features_come_at_their_strides(name: str) -> None:
    config = SIZES[name].encoder
    assert isinstance(config, EfficientNetLiteConfig)
    with torch.device("meta"):
        features = EfficientNetLite(config)(torch.empty(1, 3, 96, 96))
    assert [tuple(x.shape[1:]) for x in features] == [
        (config.widths[stage], 96 // stride, 96 // stride)
        for stage, stride in zip((0, 1, 2, 4, 6), (2, 4, 8, 16, 32), strict=True)
    ]


def test_sides_that_are_no_multiples_of_32_are_encoded() -> None:
    config = dataclasses.replace(SMALL, image_size=104)
    sam = build_sam(config).eval()
    embedding = sam.encode(torch.randn(1, 3, 104, 104))
    assert {name: tuple(x.shape[1:]) for name, x in embedding.tensors().items()} == sam.embedding_shapes()


def test_fresh_skips_add_nothing_and_learn() -> None:
    torch.manual_seed(0)
    sam = build_sam(SMALL)
    prompts = Prompts.build(points=torch.tensor([[[[40.0, 50.0]]]]), labels=torch.ones(1, 1, 1, dtype=torch.long))
    embedding = sam.encode(torch.randn(1, 3, 96, 96))
    with_skips, _ = sam.decode(embedding, prompts)
    without, _ = sam.decode(Embedding(features=embedding.features), prompts)
    torch.testing.assert_close(with_skips, without)
    with_skips.square().sum().backward()
    for convolution in (sam.mask_decoder.conv_s0, sam.mask_decoder.conv_s1):
        assert convolution is not None and convolution.weight.grad is not None
        assert float(convolution.weight.grad.abs().max()) > 0


def test_skips_reach_the_pixels_that_they_belong_to(model: Sam) -> None:
    prompts = Prompts.build(points=torch.tensor([[[[40.0, 50.0]]]]), labels=torch.ones(1, 1, 1, dtype=torch.long))
    with torch.inference_mode():
        embedding = model.encode(torch.randn(1, 3, 96, 96))
        before, _ = model.decode(embedding, prompts)
        assert embedding.skips is not None
        for index, scale in enumerate((2, 1)):
            changed = [skip.clone() for skip in embedding.skips]
            changed[index][0, :, 7, 12] += 1.0
            after, _ = model.decode(dataclasses.replace(embedding, skips=(changed[0], changed[1])), prompts)
            moved = (after != before)[0, 0].any(0).nonzero()
            rows, columns = 7 * scale + torch.arange(scale), 12 * scale + torch.arange(scale)
            assert moved.tolist() == torch.cartesian_prod(rows, columns).tolist()


def test_an_embedding_and_its_tensors_are_one(model: Sam) -> None:
    with torch.inference_mode():
        embedding = model.encode(torch.randn(2, 3, 96, 96))
    again = Embedding.from_tensors(embedding.tensors())
    assert list(again.tensors()) == list(model.embedding_shapes()) == ["features", "skip2", "skip4"]
    halves = embedding.map(torch.Tensor.half)
    assert all(x.dtype == torch.float16 for x in halves.tensors().values()) and halves.side is None
    assert SamConfig.from_dict(SMALL.to_dict()) == SMALL
