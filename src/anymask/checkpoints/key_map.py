"""Names of tensors: Meta's, which are ours, and Hugging Face's, each way by one table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from anymask.errors import CheckpointError

TIED = "prompt_encoder.shared_embedding.positional_embedding"
"""A second name of `SHARED`, which older folders hold as well, or instead."""
SHARED = "shared_image_embedding.positional_embedding"

_SHARED_PAIRS = (
    ("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", SHARED),
    ("prompt_encoder.not_a_point_embed.weight", "prompt_encoder.not_a_point_embed.weight"),
    ("prompt_encoder.no_mask_embed.weight", "prompt_encoder.no_mask_embed.weight"),
    ("prompt_encoder.mask_downscaling.0.{p}", "prompt_encoder.mask_embed.conv1.{p}"),
    ("prompt_encoder.mask_downscaling.1.{p}", "prompt_encoder.mask_embed.layer_norm1.{p}"),
    ("prompt_encoder.mask_downscaling.3.{p}", "prompt_encoder.mask_embed.conv2.{p}"),
    ("prompt_encoder.mask_downscaling.4.{p}", "prompt_encoder.mask_embed.layer_norm2.{p}"),
    ("prompt_encoder.mask_downscaling.6.{p}", "prompt_encoder.mask_embed.conv3.{p}"),
    ("mask_decoder.iou_token.weight", "mask_decoder.iou_token.weight"),
    ("mask_decoder.mask_tokens.weight", "mask_decoder.mask_tokens.weight"),
    ("mask_decoder.transformer.layers.{n}.norm{m}.{p}", "mask_decoder.transformer.layers.{n}.layer_norm{m}.{p}"),
    ("mask_decoder.transformer.norm_final_attn.{p}", "mask_decoder.transformer.layer_norm_final_attn.{p}"),
    ("mask_decoder.output_upscaling.0.{p}", "mask_decoder.upscale_conv1.{p}"),
    ("mask_decoder.output_upscaling.1.{p}", "mask_decoder.upscale_layer_norm.{p}"),
    ("mask_decoder.output_upscaling.3.{p}", "mask_decoder.upscale_conv2.{p}"),
)
_SAM_PAIRS = (
    ("image_encoder.pos_embed", "vision_encoder.pos_embed"),
    ("image_encoder.patch_embed.proj.{p}", "vision_encoder.patch_embed.projection.{p}"),
    ("image_encoder.blocks.{n}.norm{m}.{p}", "vision_encoder.layers.{n}.layer_norm{m}.{p}"),
    ("image_encoder.blocks.{n}.attn.{rest}", "vision_encoder.layers.{n}.attn.{rest}"),
    ("image_encoder.blocks.{n}.mlp.{rest}", "vision_encoder.layers.{n}.mlp.{rest}"),
    ("image_encoder.neck.0.weight", "vision_encoder.neck.conv1.weight"),
    ("image_encoder.neck.1.{p}", "vision_encoder.neck.layer_norm1.{p}"),
    ("image_encoder.neck.2.weight", "vision_encoder.neck.conv2.weight"),
    ("image_encoder.neck.3.{p}", "vision_encoder.neck.layer_norm2.{p}"),
    ("prompt_encoder.point_embeddings.{n}.weight", "prompt_encoder.point_embed.{n}.weight"),
    ("mask_decoder.transformer.layers.{n}.mlp.{rest}", "mask_decoder.transformer.layers.{n}.mlp.{rest}"),
    ("mask_decoder.transformer.layers.{n}.{attn}.{rest}", "mask_decoder.transformer.layers.{n}.{attn}.{rest}"),
    ("mask_decoder.transformer.{final}.{rest}", "mask_decoder.transformer.{final}.{rest}"),
    ("mask_decoder.hf_token.weight", "mask_decoder.hq_token.weight"),
    ("mask_decoder.compress_vit_feat.0.{p}", "mask_decoder.compress_vit_conv1.{p}"),
    ("mask_decoder.compress_vit_feat.1.{p}", "mask_decoder.compress_vit_norm.{p}"),
    ("mask_decoder.compress_vit_feat.3.{p}", "mask_decoder.compress_vit_conv2.{p}"),
    ("mask_decoder.embedding_encoder.0.{p}", "mask_decoder.encoder_conv1.{p}"),
    ("mask_decoder.embedding_encoder.1.{p}", "mask_decoder.encoder_norm.{p}"),
    ("mask_decoder.embedding_encoder.3.{p}", "mask_decoder.encoder_conv2.{p}"),
    ("mask_decoder.embedding_maskfeature.0.{p}", "mask_decoder.mask_conv1.{p}"),
    ("mask_decoder.embedding_maskfeature.1.{p}", "mask_decoder.mask_norm.{p}"),
    ("mask_decoder.embedding_maskfeature.3.{p}", "mask_decoder.mask_conv2.{p}"),
)
_SAM2_PAIRS = (
    ("image_encoder.trunk.pos_embed", "vision_encoder.backbone.pos_embed"),
    ("image_encoder.trunk.pos_embed_window", "vision_encoder.backbone.pos_embed_window"),
    ("image_encoder.trunk.patch_embed.proj.{p}", "vision_encoder.backbone.patch_embed.projection.{p}"),
    ("image_encoder.trunk.body.{rest}", "vision_encoder.backbone.timm_model.{rest}"),
    ("image_encoder.trunk.blocks.{n}.norm{m}.{p}", "vision_encoder.backbone.blocks.{n}.layer_norm{m}.{p}"),
    ("image_encoder.trunk.blocks.{n}.attn.{rest}", "vision_encoder.backbone.blocks.{n}.attn.{rest}"),
    ("image_encoder.trunk.blocks.{n}.mlp.layers.0.{p}", "vision_encoder.backbone.blocks.{n}.mlp.proj_in.{p}"),
    ("image_encoder.trunk.blocks.{n}.mlp.layers.1.{p}", "vision_encoder.backbone.blocks.{n}.mlp.proj_out.{p}"),
    ("image_encoder.trunk.blocks.{n}.proj.{p}", "vision_encoder.backbone.blocks.{n}.proj.{p}"),
    ("image_encoder.neck.convs.{n}.conv.{p}", "vision_encoder.neck.convs.{n}.{p}"),
    ("image_encoder.no_mem_embed", "no_memory_embedding"),
    ("prompt_encoder.point_embeddings.{n}.weight", "prompt_encoder.point_embed.weight.{n}"),
    ("mask_decoder.transformer.layers.{n}.mlp.lin1.{p}", "mask_decoder.transformer.layers.{n}.mlp.proj_in.{p}"),
    ("mask_decoder.transformer.layers.{n}.mlp.lin2.{p}", "mask_decoder.transformer.layers.{n}.mlp.proj_out.{p}"),
    (
        "mask_decoder.transformer.layers.{n}.{attn}.out_proj.{p}",
        "mask_decoder.transformer.layers.{n}.{attn}.o_proj.{p}",
    ),
    ("mask_decoder.transformer.layers.{n}.{attn}.{qkv}.{p}", "mask_decoder.transformer.layers.{n}.{attn}.{qkv}.{p}"),
    ("mask_decoder.transformer.{final}.out_proj.{p}", "mask_decoder.transformer.{final}.o_proj.{p}"),
    ("mask_decoder.transformer.{final}.{qkv}.{p}", "mask_decoder.transformer.{final}.{qkv}.{p}"),
    ("mask_decoder.conv_s{n}.{p}", "mask_decoder.conv_s{n}.{p}"),
    ("mask_decoder.obj_score_token.weight", "mask_decoder.obj_score_token.weight"),
)
"""The rows of `prompt_encoder.point_embed.weight` stand here as tensors of their own, `…weight.N`."""

_BLANKS = {
    "n": r"\d+",
    "m": r"\d",
    "p": "weight|bias",
    "attn": "self_attn|cross_attn_token_to_image|cross_attn_image_to_token",
    "final": "final_attn_token_to_image",
    "qkv": "[qkv]_proj",
    "rest": r"[a-z_0-9.]+",
}


class KeyMap:
    """Names of tensors, ours (Meta's) and Hugging Face's, each way; what has no pair raises `CheckpointError`."""

    def __init__(self, iou_depth: int, *, sam2: bool = False) -> None:
        pairs = [*_SHARED_PAIRS, *(_SAM2_PAIRS if sam2 else _SAM_PAIRS), *_mlp_pairs(iou_depth)]
        self._theirs = [(_pattern(ours), theirs) for ours, theirs in pairs]
        self._ours = [(_pattern(theirs), ours) for ours, theirs in pairs]

    def to_hugging_face(self, name: str) -> str:
        """Rename one of our tensors."""
        return _renamed(name, self._theirs)

    def from_hugging_face(self, name: str) -> str:
        """Rename one of theirs."""
        return _renamed(name, self._ours)


def _mlp_pairs(iou_depth: int) -> Iterable[tuple[str, str]]:
    """Pair a chain of layers, which transformers splits into proj_in, layers and proj_out."""
    chains = {
        ("output_hypernetworks_mlps.{n}",) * 2: 3,
        ("hf_mlp", "hq_mask_mlp"): 3,
        ("pred_obj_score_head",) * 2: 3,
        ("iou_prediction_head",) * 2: iou_depth,
    }
    for (ours, theirs), depth in chains.items():
        names = ["proj_in", *(f"layers.{i}" for i in range(depth - 2)), "proj_out"]
        for i, name in enumerate(names):
            yield f"mask_decoder.{ours}.layers.{i}.{{p}}", f"mask_decoder.{theirs}.{name}.{{p}}"


@lru_cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    blanks = [f"(?P<{blank}>{_BLANKS[blank]})" for blank in parts[1::2]]
    return re.compile("".join(re.escape(text) + blank for text, blank in zip(parts[::2], [*blanks, ""], strict=True)))


def _renamed(name: str, table: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, template in table:
        if match := pattern.fullmatch(name):
            return template.format(**match.groupdict())
    raise CheckpointError(f"the tensor {name} is unknown")
