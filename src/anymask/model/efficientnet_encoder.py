"""An image encoder on EfficientNet-Lite: a trunk that has seen ImageNet, merged top-down to an embedding at stride 8.

The trunk's batch normalisation is folded into its convolutions: what was normalised by the statistics of ImageNet stays
so, however small the batches of a training are. Its deepest features, at stride 32, are merged into those of strides 16
(where a few blocks attend to the whole image), 8 and 4. The features at strides 2 and 4 also leave the encoder as they
are, for the decoder's upscaling. Sources: Tan and Le 2019; TensorFlow's EfficientNet-Lite.

Legend: B images, C channels, H×W cells, S side of the padded square input.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.model.compact_encoder import CompactAttentionBlock, CompactConvBlock
from anymask.model.config import EfficientNetLiteConfig
from anymask.model.dense import LayerNorm2d, drop_path

_STEM_WIDTH = 32
_EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
_KERNELS = (3, 3, 5, 3, 5, 5, 3)
_STRIDES = (1, 2, 2, 2, 1, 2, 1)
_LAST_OF_STRIDE = (0, 1, 2, 4, 6)
"""The stages whose outputs are the last at strides 2, 4, 8, 16 and 32."""
_SLOW_KERNEL = 5


class SameConv(nn.Conv2d):
    """A convolution with bias and TensorFlow's SAME padding: ⌈side / stride⌉ cells, the odd pixel right and below."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out_channels, kernel, stride, kernel // 2, groups=groups)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, o, ⌈h / stride⌉, ⌈w / stride⌉)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if self._is_slow_to_learn(x_BCHW):
            return depthwise(_padded(x_BCHW, kernel, stride), self.weight, self.bias, stride)
        if stride == 1:
            return super().forward(x_BCHW)
        return F.conv2d(_padded(x_BCHW, kernel, stride), self.weight, self.bias, self.stride, groups=self.groups)

    def _is_slow_to_learn(self, x: Tensor) -> bool:
        """Whether the gradient of the kernel is better found by `depthwise`."""
        is_depthwise = self.groups == self.out_channels and self.kernel_size[0] == _SLOW_KERNEL
        return is_depthwise and x.device.type == "cpu" and torch.is_grad_enabled() and self.weight.requires_grad


def _padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    down, right = (max(-(side // -stride) * stride - stride + kernel - side, 0) for side in x.shape[-2:])
    return F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Filter each channel of (b, c, h, w) by its own 5×5 kernel of (c, 1, 5, 5), without padding.

    What `torch.nn.functional.conv2d` gives, under autocast too; the gradient of the kernels comes many times faster.
    """
    if torch.is_autocast_enabled("cpu"):
        lower = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(lower), weight.to(lower), None if bias is None else bias.to(lower)
    y: Tensor = _Depthwise5.apply(x, weight, bias, stride)  # type: ignore[no-untyped-call]  # torch's stub
    return y


class _Depthwise5(torch.autograd.Function):
    """A depthwise 5×5 convolution whose kernels' gradient is put together from four of 3×3.

    On a CPU oneDNN takes 10 to 60 times longer for the former than for one of the latter, whose windows cover rows and
    columns 0 to 2 and 2 to 4.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.has_bias = stride, bias is not None
        return F.conv2d(x, weight, bias, stride, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        gradient, (x, weight), stride = gradients[0], ctx.saved_tensors, ctx.stride
        own = _convolution_backward(gradient, x, weight, stride, (True, False))[0] if ctx.needs_input_grad[0] else None
        if stride > 1:  # in which bfloat16 is slower than float32
            gradient, x = gradient.float(), x.float()
        kernels = weight.new_empty(weight.shape, dtype=gradient.dtype)
        rows, columns = (stride * (side - 1) + 3 for side in gradient.shape[-2:])
        for top in (0, 2):
            for left in (0, 2):
                window = x[..., top : top + rows, left : left + columns]
                part = kernels[..., top : top + 3, left : left + 3]
                found = _convolution_backward(gradient, window, part, stride, (False, True))[1]
                kernels[..., top : top + 3, left : left + 3] = found
        return own, kernels.to(weight.dtype), gradient.sum((0, 2, 3)) if ctx.has_bias else None, None


def _convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Return the gradients of a depthwise convolution without padding, of its input and its kernels, where wanted."""
    x, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight))
    strides, none, ones = [stride, stride], [0, 0], [1, 1]
    operands = (gradient, x, weight, None, strides, none, ones, False, none, len(weight))
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(*operands, [*wanted, False])
    return found[:2]


class InvertedResidual(nn.Module):
    """Expand by a 1×1 convolution, filter each channel, project; added to the input where shapes allow."""

    def __init__(
        self, channels: int, out_channels: int, expansion: int, kernel: int, stride: int, drop_path: float
    ) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = None if expansion == 1 else SameConv(channels, inner, 1)
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, out_channels, 1)
        self.is_residual = stride == 1 and channels == out_channels
        self.drop_path = drop_path

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, o, ⌈h / stride⌉, ⌈w / stride⌉)."""
        y = x_BCHW if self.expand is None else F.relu6(self.expand(x_BCHW))
        y = self.project(F.relu6(self.depthwise(y)))
        return x_BCHW + drop_path(y, self.drop_path, self.training) if self.is_residual else y


class EfficientNetLite(nn.Module):
    """The convolutional trunk, without its classifier."""

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__()
        self.stem = SameConv(3, _STEM_WIDTH, 3, 2)
        rates = iter(torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").tolist())
        stages: list[nn.Module] = []
        channels = _STEM_WIDTH
        for width, depth, expansion, kernel, stride in zip(
            config.widths, config.depths, _EXPANSIONS, _KERNELS, _STRIDES, strict=True
        ):
            blocks = []
            for index in range(depth):
                first_stride = stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, width, expansion, kernel, first_stride, next(rates)))
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, images_B3SS: Float[Tensor, "b 3 s s"]) -> list[Float[Tensor, "b c h w"]]:
        """Return the features at strides 2, 4, 8, 16 and 32."""
        x = F.relu6(self.stem(images_B3SS.contiguous(memory_format=torch.channels_last)))
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return [outputs[index] for index in _LAST_OF_STRIDE]


class EfficientNetEncoder(nn.Module):
    """An image embedding at stride 8 from the trunk's features at strides 4 to 32."""

    def __init__(self, config: EfficientNetLiteConfig, out_channels: int) -> None:
        super().__init__()
        self.trunk = EfficientNetLite(config)
        at4, at8, at16, at32 = (config.widths[stage] for stage in _LAST_OF_STRIDE[1:])
        width = config.merge_width
        self.lateral32 = nn.Conv2d(at32, width, 1)
        self.lateral16 = nn.Conv2d(at16, width, 1)
        self.stage16 = nn.Sequential(
            *[CompactAttentionBlock(width, config.num_heads, config.drop_path) for _ in range(config.merge_depth)]
        )
        self.from16 = nn.Conv2d(width, out_channels, 1)
        self.from8 = nn.Conv2d(at8, out_channels, 1)
        self.from4 = nn.Conv2d(at4, out_channels, 3, 2, 1)
        self.stage8 = CompactConvBlock(out_channels, config.drop_path)
        self.merge = nn.Sequential(nn.GELU(), nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False))
        self.norm = LayerNorm2d(out_channels)

    def forward(
        self, images_B3SS: Float[Tensor, "b 3 s s"]
    ) -> tuple[Float[Tensor, "b c h w"], tuple[Float[Tensor, "b d h4 w4"], Float[Tensor, "b e h2 w2"]]]:
        """Return the image embedding, and the trunk's features at four times and at twice its size."""
        x2, x4, x8, x16, x32 = self.trunk(images_B3SS)
        x16 = self.stage16(self.lateral16(x16) + _enlarged(self.lateral32(x32), x16))
        x8 = self.from8(x8) + self.from4(x4) + _enlarged(self.from16(x16), x8)
        return self.norm(self.merge(self.stage8(x8))), (x2, x4)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
