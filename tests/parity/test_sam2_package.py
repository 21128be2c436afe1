"""SAM 2's files and whole network against the package `sam2`, of whose class every tensor's name comes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anymask.checkpoints.load import load_model, read_checkpoint, read_memory, save_model
from anymask.inference.predictor import Predictor
from anymask.inference.refinement import PLAIN
from anymask.model import SIZES, Sam

TOLERANCE = 1e-4


def error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.fixture(scope="module")
def build(sam2_package: ModuleType) -> Callable[..., nn.Module]:
    """Build the package's model as the published configuration of SAM 2.1 tiny does, by hand."""

    def part(name: str) -> ModuleType:
        return importlib.import_module(f"sam2.modeling.{name}")

    def sine(features: int) -> nn.Module:
        return part("position_encoding").PositionEmbeddingSine(num_pos_feats=features, normalize=True)

    def attention(**kwargs: object) -> nn.Module:
        sizes = {"embedding_dim": 256, "num_heads": 1, "downsample_rate": 1}
        return part("sam.transformer").RoPEAttention(feat_sizes=(8, 8), **sizes, **kwargs)

    def model(*, newest: bool = True) -> nn.Module:
        trunk = part("backbones.hieradet").Hiera(
            stages=(1, 2, 7, 2), global_att_blocks=(5, 7, 9), window_pos_embed_bkg_spatial_size=(7, 7)
        )
        neck = part("backbones.image_encoder").FpnNeck(
            sine(256), 256, [768, 384, 192, 96], fpn_top_down_levels=[2, 3], fpn_interp_model="nearest"
        )
        memory, base = part("memory_encoder"), part("sam2_base")
        layer = part("memory_attention").MemoryAttentionLayer(
            "relu", attention(kv_in_dim=64, rope_k_repeat=True), 256, 2048, 0.1, False, True, False, attention()
        )
        return base.SAM2Base(
            image_encoder=part("backbones.image_encoder").ImageEncoder(trunk, neck, scalp=1),
            memory_attention=part("memory_attention").MemoryAttention(256, True, layer, 1),
            memory_encoder=memory.MemoryEncoder(
                64,
                memory.MaskDownSampler(kernel_size=3, stride=2, padding=1),
                memory.Fuser(memory.CXBlock(256), 1),
                sine(64),
            ),
            image_size=256,
            directly_add_no_mem_embed=True,
            use_high_res_features_in_sam=True,
            iou_prediction_use_sigmoid=True,
            use_obj_ptrs_in_encoder=True,
            proj_tpos_enc_in_obj_ptrs=newest,
            no_obj_embed_spatial=newest,
            pred_obj_scores=True,
            pred_obj_scores_mlp=True,
            fixed_no_obj_ptr=True,
            use_mlp_for_obj_ptr_proj=True,
            sam_mask_decoder_extra_args={"dynamic_multimask_via_stability": True},
        ).eval()

    return model


@pytest.fixture(scope="module")
def tiny(
    build: Callable[..., nn.Module], randomise: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """The package's model with random weights, and the file that its training would leave of it."""
    reference = build()
    randomise(reference)
    path = tmp_path_factory.mktemp("sam2") / "sam2.1_hiera_tiny_256.pt"
    torch.save({"model": reference.state_dict(), "optimizer": {}}, path)
    return SimpleNamespace(reference=reference, path=path)


def predictor(tiny: SimpleNamespace, picture: np.ndarray) -> SimpleNamespace:
    """The package's predictor, about a picture; its features are for images of 1024 pixels, unless told."""
    peer = importlib.import_module("sam2.sam2_image_predictor").SAM2ImagePredictor(tiny.reference)
    peer._bb_feat_sizes = [(64, 64), (32, 32), (16, 16)]
    peer.set_image(picture)
    return peer


def test_the_config_is_read_off_the_file(tiny: SimpleNamespace) -> None:
    config, _, kind = read_checkpoint(tiny.path)
    assert (config, kind) == (replace(SIZES["hiera_t"], image_size=256), "sam2")


@pytest.mark.parametrize("prompt", ["point", "points", "box", "box and point", "mask"])
def test_whole_path(tiny: SimpleNamespace, prompt: str) -> None:
    """From a picture of no square to masks, their quality, and logits to go on from."""
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    peer = predictor(tiny, picture)
    ours = Predictor(load_model(tiny.path), refinement=PLAIN)
    ours.set_image(picture)
    asked = {
        "point": {"points": [[60.0, 90.0]], "labels": [1]},
        "points": {"points": [[60.0, 90.0], [200.0, 30.0]], "labels": [1, 0]},
        "box": {"box": [20.0, 30.0, 200.0, 180.0]},
        "box and point": {"box": [20.0, 30.0, 200.0, 180.0], "points": [[60.0, 90.0]], "labels": [1]},
    }.get(prompt, {"points": [[60.0, 90.0]], "labels": [1]})
    if prompt == "mask":
        asked["mask"] = ours.predict(**asked).logits[0]
    for multimask in (True, False):
        found = ours.predict(**asked, multimask=multimask)
        theirs = peer.predict(
            point_coords=np.array(asked["points"]) if "points" in asked else None,
            point_labels=np.array(asked["labels"]) if "labels" in asked else None,
            box=np.array(asked["box"]) if "box" in asked else None,
            mask_input=asked["mask"][None] if "mask" in asked else None,
            multimask_output=multimask,
        )
        order = np.argsort(-theirs[1], kind="stable")
        assert error(torch.from_numpy(found.scores), torch.from_numpy(theirs[1][order])) < TOLERANCE
        logits = torch.from_numpy(found.logits).clamp(-32, 32)  # as the package clips what it hands out
        assert error(logits, torch.from_numpy(theirs[2][order])) < TOLERANCE
        assert (found.masks == theirs[0][order]).mean() > 0.9999
        assert found.object_score is not None


def test_a_picture_of_no_square_is_stretched(tiny: SimpleNamespace) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (120, 300, 3), np.uint8)
    small = np.kron(picture[::12, ::12], np.ones((12, 12, 1), np.uint8))  # smooth enough for any filter
    peer, ours = predictor(tiny, small), Predictor(load_model(tiny.path), refinement=PLAIN)
    ours.set_image(small)
    found = ours.predict(points=[[200.0, 50.0]], labels=[1], multimask=True)
    masks, scores, _ = peer.predict(point_coords=np.array([[200.0, 50.0]]), point_labels=np.array([1]))
    order = np.argsort(-scores, kind="stable")
    assert found.masks.shape == masks.shape
    assert (found.masks == masks[order]).mean() > 0.97


def test_memory_is_kept_on_request(tiny: SimpleNamespace, tmp_path: Path) -> None:
    model, memory = load_model(tiny.path), read_memory(tiny.path)
    save_model(model, tmp_path / "ours.safetensors", memory=memory)
    again = load_model(tmp_path / "ours.safetensors")
    kept = read_memory(tmp_path / "ours.safetensors")
    assert kept.keys() == memory.keys() and all(torch.equal(kept[name], memory[name]) for name in memory)
    save_model(again, tmp_path / "theirs_256.pt", "meta", memory=kept)
    stored = torch.load(tmp_path / "theirs_256.pt", weights_only=True)["model"]
    report = tiny.reference.load_state_dict(stored, strict=True)
    assert not report.missing_keys and not report.unexpected_keys


@pytest.mark.parametrize("newest", [True, False])
def test_names_are_a_bijection_on_what_is_kept(build: Callable[..., nn.Module], newest: bool) -> None:
    from anymask.checkpoints.sam2 import meta_name, our_name

    theirs = build(newest=newest).state_dict()
    with torch.device("meta"):
        ours = Sam(replace(SIZES["hiera_t"], image_size=256)).state_dict()
    assert {meta_name(name) for name in ours} <= set(theirs)
    assert [our_name(meta_name(name)) for name in ours] == list(ours)
    assert [meta_name(our_name(name)) for name in theirs] == list(theirs)
    assert {our_name(name) for name in theirs} >= set(ours)
