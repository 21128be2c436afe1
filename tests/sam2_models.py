"""Models of SAM 2's kinds small enough to compute: each of the three trunks before a narrow decoder."""

from __future__ import annotations

from anymask.model import DecoderConfig, HieraConfig, PlainViTConfig, RepViTConfig, Sam, SamConfig, build_sam

ENCODERS = {
    "hiera": HieraConfig(width=16, depths=(1, 1, 2, 1), global_blocks=(3,), window_sizes=(4, 2, 4, 2), position_grid=3),
    "repvit": RepViTConfig(widths=(16, 24, 32, 40), depths=(1, 2, 2, 1)),
    "plain_vit": PlainViTConfig(width=32, depth=3, num_heads=2, global_blocks=(2,), window_size=3, position_grid=3),
}


def small_config(kind: str) -> SamConfig:
    """Return the config of a kind; a plain trunk has no levels for skips."""
    decoder = DecoderConfig(
        mlp_dim=64,
        iou_hidden=32,
        skip_widths=None if kind == "plain_vit" else (64, 64),
        object_score=True,
        sigmoid_iou=True,
        min_stability=0.98,
    )
    return SamConfig(
        encoder=ENCODERS[kind],
        decoder=decoder,
        width=64,
        image_size=96,
        pred_iou_thresh=0.8,
        fit="stretch",
        pads_boxes=True,
    )


def small(kind: str) -> Sam:
    """Build a model of a kind, of random weights, for inference."""
    return build_sam(small_config(kind)).eval()
