"""What makes a model faster at a price, each by choice: a coarser type, waiting for a compiler, memory for graphs."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from anymask.errors import InputError
from anymask.model import Answer, Sam

logger = logging.getLogger("anymask")

_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_MAX_CAPTURES = 8
"""Shapes of prompts whose graphs are kept; the oldest goes first."""


def accelerate(
    model: Sam, *, encoder_dtype: torch.dtype | None = None, compile: bool = False, cuda_graphs: bool = False
) -> Sam:
    """Make a model's inference faster, in place, and return it; call this last, after moves and conversions.

    encoder_dtype is the type that the image encoder alone computes in; prompts and masks keep the model's. bfloat16
    pays on CUDA and on processors with products in it (AVX512-BF16, AMX); on others it is slower, which is logged.
    `compile` hands the image encoder to
    `torch.compile`: the first image of each batch size then takes a minute longer, and the results are the same but for
    rounding. It pays on CUDA; on a CPU our own products are faster than the compiled ones. `cuda_graphs` records
    the mask decoder's work once for each number of prompts and of their points, and replays it: a click is otherwise
    mostly the launching of kernels. The parameters must stay where they are from then on.

    Raises InputError for a type that is none of float32, bfloat16 and float16, for graphs off CUDA, and for a model
    that is its exported graphs alone.
    """
    if not isinstance(model, Sam):
        raise InputError('accelerate takes the network itself: load the model with runtime="torch"')
    if encoder_dtype is not None:
        if encoder_dtype not in _TYPES:
            raise InputError(f"encoder_dtype is {encoder_dtype}; float32, bfloat16 or float16 would do")
        if model.device.type == "cpu" and not _has_products(encoder_dtype):
            logger.warning(
                "this processor has no products in %s: the encoder becomes several times slower, not faster; leave "
                "encoder_dtype out",
                encoder_dtype,
            )
        _convert(model.image_encoder, encoder_dtype, outside=model.dtype)
    if compile:
        model.image_encoder.compile(dynamic=False)
    if cuda_graphs:
        if model.device.type != "cuda":
            raise InputError(f"cuda_graphs need a model on CUDA; this one is on {model.device.type}")
        decoder = model.mask_decoder
        decoder.forward = ReplayedDecoder(decoder.forward)  # type: ignore[method-assign]
    return model


def _has_products(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies matrices of a type; assumed where it is no x86, as torch does not tell."""
    if dtype == torch.float32 or platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    if dtype == torch.bfloat16:
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.cpu._is_amx_fp16_supported())


def _convert(encoder: nn.Module, dtype: torch.dtype, outside: torch.dtype) -> None:
    """Convert an encoder that still takes and gives tensors of another type."""

    def enter(_: nn.Module, images: tuple[Tensor]) -> tuple[Tensor]:
        return (images[0].to(dtype),)

    def leave(_: nn.Module, __: Any, outputs: Any) -> Any:
        return tree_map_only(Tensor, lambda x: x.to(outside), outputs)  # which may nest: an encoder's early features

    encoder.to(dtype)
    encoder.register_forward_pre_hook(enter)
    encoder.register_forward_hook(leave)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Capture:
    """A recorded graph, with the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor | None, ...]
    outputs: Answer


class ReplayedDecoder:
    """A mask decoder's `forward` on CUDA, recorded once for each shape of its operands, then replayed.

    All graphs share their memory, so that what they write is copied before it is handed out. Where a gradient may be
    wanted, the decoder runs as usual.
    """

    def __init__(self, forward: Callable[..., Answer]) -> None:
        self._forward = forward
        self._captures: dict[tuple[object, ...], _Capture] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(
        self,
        image_BQHWC: Tensor,
        image_pe: Tensor,
        tokens: Tensor,
        present: Tensor | None,
        candidates: slice = slice(None),
        hq: Tensor | None = None,
        skips: tuple[Tensor, Tensor] | None = None,
    ) -> Answer:
        """Take and return what `MaskDecoder.forward` does."""
        if torch.is_grad_enabled():
            return self._forward(image_BQHWC, image_pe, tokens, present, candidates, hq, skips)
        operands = (image_BQHWC, image_pe, tokens, present, hq, *(skips or (None, None)))
        shapes = (None if x is None else (x.shape, x.dtype, x.device) for x in operands)
        key = (*shapes, candidates.start, candidates.stop)
        with torch.inference_mode():
            if key not in self._captures:
                if len(self._captures) == _MAX_CAPTURES:
                    del self._captures[next(iter(self._captures))]
                self._captures[key] = self._capture(operands, candidates)
            capture = self._captures[key]
            for mine, given in zip(capture.inputs, operands, strict=True):
                if mine is not None and given is not None:
                    mine.copy_(given)
            capture.graph.replay()
            logits, iou, score = capture.outputs
            return Answer(logits.clone(), iou.clone(), None if score is None else score.clone())

    def _capture(self, operands: tuple[Tensor | None, ...], candidates: slice) -> _Capture:
        inputs = tuple(None if x is None else x.clone() for x in operands)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries set themselves up on first use, which must not be recorded
            for _ in range(3):
                self._run(inputs, candidates)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = self._run(inputs, candidates)
        return _Capture(graph=graph, inputs=inputs, outputs=outputs)

    def _run(self, inputs: tuple[Tensor | None, ...], candidates: slice) -> Answer:
        *operands, hq, coarse, fine = inputs
        return self._forward(*operands, candidates, hq, None if coarse is None else (coarse, fine))
