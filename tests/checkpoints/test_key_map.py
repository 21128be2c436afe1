"""The names of tensors in two systems: a bijection."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anymask.checkpoints.key_map import KeyMap
from anymask.checkpoints.tensors import empty_model
from anymask.errors import CheckpointError
from anymask.model import SIZES


@pytest.mark.parametrize("size", ["vit_b", "vit_l", "vit_h"])
@pytest.mark.parametrize("hq", [False, True])
@pytest.mark.parametrize("iou_depth", [2, 3, 5])
def test_names_go_there_and_back(size: str, hq: bool, iou_depth: int) -> None:
    config = SIZES[size]
    early = config.encoder.width if hq else None
    config = replace(config, decoder=replace(config.decoder, hq_feature_width=early, iou_depth=iou_depth))
    names = list(empty_model(config).state_dict())
    keys = KeyMap(iou_depth)
    theirs = [keys.to_hugging_face(name) for name in names]
    assert len(set(theirs)) == len(names)
    assert [keys.from_hugging_face(name) for name in theirs] == names


@pytest.mark.parametrize(
    "name",
    [
        "",
        "image_encoder.pos_embed.weight",
        "ximage_encoder.pos_embed",
        "image_encoder.neck.4.weight",
        "mask_decoder.iou_prediction_head.layers.3.weight",
        "mask_decoder.transformer.layers.0.cross.q_proj.weight",
        "image_encoder.pos_embed\n",
    ],
)
def test_names_are_matched_whole(name: str) -> None:
    with pytest.raises(CheckpointError, match="is unknown"):
        KeyMap(3).to_hugging_face(name)
