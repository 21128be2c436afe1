"""Checkpoints of SAM 2's kinds: what their files and names tell, what wraps them, what they lack."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from anymask.checkpoints.huggingface_sam2 import format_config
from anymask.checkpoints.key_map import KeyMap
from anymask.checkpoints.load import load_model, read_checkpoint, read_memory, save_model
from anymask.checkpoints.sam2 import meta_name, our_name, side_of
from anymask.checkpoints.tensors import State, empty_model
from anymask.errors import CheckpointError, UnknownModelError
from anymask.model import SIZES, Sam, SamConfig
from sam2_models import small

KINDS = ("hiera", "repvit", "plain_vit")
OF_SAM2 = [name for name, config in SIZES.items() if config.encoder.kind in KINDS]


@pytest.fixture(scope="module")
def config() -> SamConfig:
    return replace(SIZES["hiera_t"], image_size=256)


@pytest.fixture(scope="module")
def tiny(config: SamConfig) -> Sam:
    """A model of the smallest published size, each of whose tensors is one number, and takes no more room."""
    model = empty_model(config).eval()
    named = model.state_dict().items()
    values = {name: torch.tensor(0.01 * i).expand(tensor.shape) for i, (name, tensor) in enumerate(named)}
    model.load_state_dict(values, assign=True)
    return model


@pytest.fixture(scope="module")
def state(tiny: Sam) -> State:
    """By Meta's names."""
    return {meta_name(name): tensor for name, tensor in tiny.state_dict().items()}


def same(one: Sam, other: Sam) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("size", OF_SAM2)
def test_names_go_there_and_back(size: str) -> None:
    names = list(empty_model(SIZES[size]).state_dict())
    keys = KeyMap(3, sam2=True)
    maps = [(meta_name, our_name), (keys.to_hugging_face, keys.from_hugging_face)]
    if SIZES[size].encoder.kind == "plain_vit":  # which transformers does not have
        maps.pop()
    for there, back in maps:
        theirs = [there(name) for name in names]
        assert len(set(theirs)) == len(names)
        assert [back(name) for name in theirs] == names


@pytest.mark.parametrize("size", OF_SAM2)
def test_the_published_sizes_are_told_by_their_tensors(size: str, tmp_path: Path) -> None:
    from anymask.checkpoints.sam2 import parse

    tensors = {meta_name(name): tensor for name, tensor in empty_model(SIZES[size]).state_dict().items()}
    assert parse(tensors, "any.pt")[0] == SIZES[size]


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("sam2.1_hiera_tiny.pt", 1024),
        ("MedSAM2_512.pt", 512),
        ("MedSAM2_latest.pt", 512),
        ("MedSAM2_2411.pt", 512),
        ("efficienttam_s_512x512.pt", 512),
        ("tiny-1512.pt", 1024),
    ],
)
def test_the_side_of_images_is_told_by_the_name(name: str, side: int) -> None:
    assert side_of(name) == side


def test_an_image_size_may_be_given(state: State, tmp_path: Path) -> None:
    torch.save({"model": state}, tmp_path / "tuned.pt")
    assert load_model(tmp_path / "tuned.pt").image_size == 1024
    assert load_model(tmp_path / "tuned.pt", image_size=512).embedding_size == 32
    with pytest.raises(CheckpointError, match="multiple of 32"):
        load_model(tmp_path / "tuned.pt", image_size=528)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3, "optimizer": {"state": {}}},
        lambda state: {"model_state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
        lambda state: {
            "state_dict": {f"model.{name}": tensor for name, tensor in state.items()} | {"loss.w": torch.ones(1)}
        },
        lambda state: {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"model_state": {f"sam.{name}": tensor for name, tensor in state.items()}, "decoder_state": {}},
        lambda state: {name.replace("image_encoder.", "image_encoder._orig_mod."): x for name, x in state.items()},
    ],
    ids=["bare", "model", "data parallel", "Lightning", "compiled", "micro-sam", "a compiled part"],
)
def test_what_training_scripts_put_around(
    wrap: Callable[[State], dict[str, object]], state: State, tiny: Sam, tmp_path: Path
) -> None:
    torch.save(wrap(state), tmp_path / "tuned_256.pt")
    assert same(load_model(tmp_path / "tuned_256.pt"), tiny)


def test_other_parts_are_named_and_left(
    state: State, tiny: Sam, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = {"memory_attention.norm.weight": torch.ones(4), "obj_ptr_proj.bias": torch.ones(2)}
    torch.save({"model": state | more}, tmp_path / "video_256.pt")
    with caplog.at_level(logging.INFO, "anymask"):
        model = load_model(tmp_path / "video_256.pt")
    assert "memory_attention, obj_ptr_proj" in caplog.text
    assert same(model, tiny)
    assert read_memory(tmp_path / "video_256.pt").keys() == more.keys()


@pytest.mark.parametrize(
    "name",
    ["sam_mask_decoder.pred_obj_score_head.layers.2.bias", "no_mem_embed", "sam_prompt_encoder.no_mask_embed.weight"],
)
def test_a_missing_tensor_is_refused(state: State, tmp_path: Path, name: str) -> None:
    torch.save({"model": {key: tensor for key, tensor in state.items() if key != name}}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=r"the tensor .* is missing"):
        read_checkpoint(tmp_path / "file.pt")


@pytest.mark.parametrize(("device", "words"), [("meta", "has no values"), ("sparse", "sparse or quantized")])
def test_a_part_without_plain_values_is_refused(state: State, tmp_path: Path, device: str, words: str) -> None:
    name = "image_encoder.neck.convs.0.conv.bias"
    part = state[name].to("meta") if device == "meta" else torch.ones_like(state[name]).to_sparse()
    torch.save({"model": {**state, name: part}}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=rf"{name} .*{words}"):
        read_checkpoint(tmp_path / "file.pt")


def test_a_file_without_its_head_is_refused(state: State, tmp_path: Path) -> None:
    headless = {name: tensor for name, tensor in state.items() if not name.startswith("sam_mask_decoder.")}
    torch.save({"model": headless}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=r"mask_decoder\..* is missing"):
        read_checkpoint(tmp_path / "file.pt")


def test_an_encoder_of_no_published_size_is_refused(state: State, tmp_path: Path) -> None:
    shallow = {name: tensor for name, tensor in state.items() if ".blocks.11." not in name}
    torch.save({"model": shallow}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=r"width 96 .* windows no tensor tells"):
        read_checkpoint(tmp_path / "file.pt")


def test_a_truncated_file_is_refused(state: State, tmp_path: Path) -> None:
    torch.save({"model": state}, tmp_path / "file.pt")
    data = (tmp_path / "file.pt").read_bytes()
    (tmp_path / "file.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_checkpoint(tmp_path / "file.pt")


def test_a_folder_whose_size_the_tensors_contradict_is_refused(tmp_path: Path) -> None:
    model = small("hiera")
    save_model(model, tmp_path / "folder", "huggingface")
    for changed, said in (({"depths": (1, 1, 3, 1)}, "tensors are missing"), ({"width": 32}, "was expected")):
        config = replace(model.config, encoder=replace(model.config.encoder, **changed))
        values = format_config(config, torch.float32)
        (tmp_path / "folder" / "config.json").write_text(json.dumps(values))
        with pytest.raises(CheckpointError, match=rf"image_encoder\.trunk\..* {said}|{said}.*image_encoder\.trunk"):
            read_checkpoint(tmp_path / "folder")
    values["prompt_encoder_config"]["image_size"] = [256, 512]
    (tmp_path / "folder" / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="no squares"):
        read_checkpoint(tmp_path / "folder")


def test_transformers_has_no_efficienttam(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no SAM 2 with a plain_vit encoder; save the model as native"):
        save_model(small("plain_vit"), tmp_path / "folder", "huggingface")
    assert not (tmp_path / "folder").exists()


def test_sam_3_is_named_with_its_licence(tmp_path: Path) -> None:
    torch.save({"model": {"detector.backbone.trunk.pos_embed": torch.ones(1)}}, tmp_path / "sam3.pt")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text('{"model_type": "sam3_video"}')
    for path in (tmp_path / "sam3.pt", tmp_path / "folder"):
        with pytest.raises(UnknownModelError, match=r"SAM 3, .* SAM License"):
            read_checkpoint(path)


def test_metas_format_refuses_what_it_cannot_say(tiny: Sam, config: SamConfig, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the file's name, and tiny\.pt says 1024, not 256"):
        save_model(tiny, tmp_path / "tiny.pt", "meta")
    other = empty_model(replace(config, decoder=replace(config.decoder, min_stability=None)))
    other.load_state_dict(tiny.state_dict(), assign=True)
    with pytest.raises(CheckpointError, match=r"cannot say that decoder\.min_stability is"):
        save_model(other, tmp_path / "other_256.pt", "meta")


def test_there_is_no_memory_to_keep(tiny: Sam, tmp_path: Path) -> None:
    save_model(tiny, tmp_path / "ours.safetensors")
    with pytest.raises(CheckpointError, match="holds no memory"):
        read_memory(tmp_path / "ours.safetensors")
    with pytest.raises(CheckpointError, match="cannot keep a video's memory"):
        save_model(tiny, tmp_path / "folder", "huggingface", memory={"no_obj_ptr": torch.ones(1)})
