"""What is written is what is read, in every format that can hold it."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from anymask.checkpoints.load import load_model, model_hash, read_checkpoint, save_model
from anymask.errors import CheckpointError, OutputError
from anymask.model import Prompts, Sam, SamConfig, TinyViTConfig, build_sam


def same(one: Sam, other: Sam) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_native(any_model: Sam, tmp_path: Path) -> None:
    save_model(any_model, tmp_path / "file")
    config, _, kind = read_checkpoint(tmp_path / "file")
    assert (config, kind) == (any_model.config, "native")
    again = load_model(tmp_path / "file")
    assert same(again, any_model)
    assert not again.training
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert not any(tensor.is_meta for tensor in [*again.parameters(), *again.buffers()])


def test_meta(public_model: Sam, tmp_path: Path) -> None:
    save_model(public_model, tmp_path / "file", "meta")
    config, _, kind = read_checkpoint(tmp_path / "file")
    assert config == public_model.config
    tiny, hq = isinstance(config.encoder, TinyViTConfig), config.decoder.hq_feature_width is not None
    assert kind == ("sam_hq" if hq else "mobile_sam" if tiny else "meta")
    assert same(load_model(tmp_path / "file"), public_model)


def test_huggingface(folder_model: Sam, tmp_path: Path) -> None:
    save_model(folder_model, tmp_path / "folder", "huggingface")
    config, _, kind = read_checkpoint(tmp_path / "folder")
    assert (config, kind) == (folder_model.config, "huggingface")
    assert same(load_model(tmp_path / "folder"), folder_model)


def test_round_the_formats_and_back(vit_model: Sam, tmp_path: Path) -> None:
    current = vit_model
    for i, format in enumerate(("meta", "huggingface", "native", "huggingface", "meta", "native")):
        save_model(current, tmp_path / str(i), format)
        current = load_model(tmp_path / str(i))
    assert same(current, vit_model)
    assert model_hash(current) == model_hash(vit_model)


def test_legacy_pickles_and_wrapped_states_are_read(model: Sam, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "old", _use_new_zipfile_serialization=False)
    assert same(load_model(tmp_path / "old"), model)
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "wrapped")
    assert same(load_model(tmp_path / "wrapped"), model)


def test_safetensors_with_metas_names_are_read(model: Sam, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(model.state_dict(), tmp_path / "file.pth")
    assert read_checkpoint(tmp_path / "file.pth")[2] == "meta"
    assert same(load_model(tmp_path / "file.pth"), model)


@pytest.mark.parametrize("format", ["native", "meta", "huggingface"])
def test_half_precision_halves_parameters_and_keeps_positions(model: Sam, tmp_path: Path, format: str) -> None:
    save_model(model, tmp_path / "half", format, dtype=torch.float16)
    _, state, _ = read_checkpoint(tmp_path / "half")
    for name, parameter in model.named_parameters():
        assert torch.equal(state[name], parameter.detach().half())
    matrix = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    assert torch.equal(state[matrix], model.state_dict()[matrix])
    again = load_model(tmp_path / "half")
    assert again.dtype == torch.float32


def test_values_too_large_for_half_precision_are_refused(model: Sam, tmp_path: Path) -> None:
    with torch.no_grad():
        model.mask_decoder.iou_token.weight[0, 0] = 1e6
    with pytest.raises(CheckpointError, match=r"mask_decoder\.iou_token\.weight .* torch\.float16 cannot hold"):
        save_model(model, tmp_path / "half", dtype=torch.float16)
    assert not list(tmp_path.iterdir())


def test_loading_in_half_precision_keeps_positions(model: Sam, tmp_path: Path) -> None:
    save_model(model, tmp_path / "file")
    half = load_model(tmp_path / "file", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    for module in (half, model.bfloat16()):
        matrix = module.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        assert matrix.dtype == torch.float32
    points = torch.tensor([[[[11.0, 50.0]]]])
    prompts = Prompts.build(points=points, labels=torch.ones(1, 1, 1, dtype=torch.long))
    with torch.no_grad():
        logits, iou = half.decode(half.encode(torch.zeros(1, 3, 64, 64, dtype=torch.bfloat16)), prompts)
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all() and iou.isfinite().all()


@pytest.mark.parametrize("image_size", [48, 80, 128])
def test_another_image_size_gives_finite_masks(vit_model: Sam, tmp_path: Path, image_size: int) -> None:
    save_model(vit_model, tmp_path / "file", "meta")
    other = load_model(tmp_path / "file", image_size=image_size)
    assert other.image_size == image_size
    boxes = torch.tensor([[[1.0, 2.0, 30.0, 40.0]]])
    with torch.no_grad():
        embedding = other.encode(torch.randn(1, 3, image_size, image_size))
        logits, _ = other.decode(embedding, Prompts.build(boxes=boxes), multimask=True)
    assert logits.shape[-2:] == (image_size // 4, image_size // 4)
    assert logits.isfinite().all()


def test_an_image_size_that_the_stride_does_not_divide_is_refused(model: Sam, tmp_path: Path) -> None:
    save_model(model, tmp_path / "file")
    with pytest.raises(CheckpointError, match="image_size is 100; it must be a positive multiple"):
        load_model(tmp_path / "file", image_size=100)


def test_what_a_format_cannot_say_is_refused(compact_model: Sam, tiny_vit_model: Sam, tmp_path: Path) -> None:
    for format in ("meta", "huggingface"):
        with pytest.raises(CheckpointError, match="compact encoder; save the model as native"):
            save_model(compact_model, tmp_path / "refused", format)
    with pytest.raises(CheckpointError, match="no tiny_vit encoder"):
        save_model(tiny_vit_model, tmp_path / "refused", "huggingface")
    with pytest.raises(CheckpointError, match="no checkpoint format is called 'onnx'"):
        save_model(compact_model, tmp_path / "refused", "onnx")
    with pytest.raises(CheckpointError, match=r"stored as torch\.int8"):
        save_model(compact_model, tmp_path / "refused", dtype=torch.int8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"image_size": 128}, "image_size is 128, not 64"),
        ({"pixel_mean": (0.0, 0.0, 0.0)}, "pixel_mean"),
        ({"pred_iou_thresh": 0.5}, "pred_iou_thresh is 0.5, not 0.88"),
    ],
)
def test_settings_that_metas_format_would_lose_are_refused(
    model: Sam, tmp_path: Path, change: dict[str, object], name: str
) -> None:
    other = build_sam(replace(model.config, **change))
    with pytest.raises(CheckpointError, match=name):
        save_model(other, tmp_path / "refused", "meta")
    assert not list(tmp_path.iterdir())


def test_other_head_counts_need_a_format_that_says_so(model: Sam, tmp_path: Path) -> None:
    other = build_sam(replace(model.config, decoder=replace(model.config.decoder, num_heads=4)))
    with pytest.raises(CheckpointError, match=r"decoder\.num_heads is 4, not 8"):
        save_model(other, tmp_path / "refused", "meta")
    save_model(other, tmp_path / "folder", "huggingface")
    assert read_checkpoint(tmp_path / "folder")[0] == other.config


def test_places_that_cannot_be_written(model: Sam, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        save_model(model, tmp_path / "absent" / "file")
    with pytest.raises(OutputError, match="is a folder"):
        save_model(model, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="no folder can be made"):
        save_model(model, tmp_path / "file", "huggingface")


def test_a_write_that_fails_leaves_the_old_file(model: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(model, tmp_path / "file")
    before = (tmp_path / "file").read_bytes()

    def full(state: object, path: Path, notes: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("anymask.checkpoints.native.save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        save_model(model, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_native_header_is_plain_json(model: Sam, tmp_path: Path) -> None:
    save_model(model, tmp_path / "file")
    with safe_open(tmp_path / "file", framework="pt") as file:
        notes = file.metadata()
    assert notes["anymask.format"] == "1"
    assert SamConfig.from_dict(json.loads(notes["anymask.config"])) == model.config


def test_hash_tells_models_apart(model: Sam) -> None:
    first = model_hash(model)
    assert len(first) == 16 and int(first, 16) >= 0
    drop = replace(model.config, encoder=replace(model.config.encoder, drop_path=0.3))
    trained = build_sam(drop)
    trained.load_state_dict(model.state_dict())
    assert model_hash(trained) == first
    larger = build_sam(replace(model.config, image_size=128))
    larger.load_state_dict(model.state_dict())
    assert model_hash(larger) != first
    with torch.no_grad():
        model.prompt_encoder.no_mask_embed.weight[0, 0] += 1e-3
    assert model_hash(model) != first
    assert model_hash(model.half()) != model_hash(model.float())


WRAPPERS = {
    "DataParallel": lambda state: {f"module.{name}": x for name, x in state.items()},
    "torch.compile of DataParallel": lambda state: {f"module._orig_mod.{name}": x for name, x in state.items()},
    "a compiled encoder": lambda state: {
        name.replace("image_encoder.", "image_encoder._orig_mod."): x for name, x in state.items()
    },
    "a state beside an epoch": lambda state: {"model_state_dict": state, "epoch": 3, "optimizer": {"lr": 1e-3}},
    "a state named otherwise": lambda state: {"model_state": state, "iteration": 3},
    "micro-sam": lambda state: {
        "model_state": {f"sam.{name}": x for name, x in state.items()},
        "decoder_state": {"base.0.weight": torch.ones(3)},
    },
    "Lightning": lambda state: {
        "state_dict": {**{f"model.{name}": x for name, x in state.items()}, "loss.weight": torch.ones(3)},
        "pytorch-lightning_version": "2.4",
    },
    "averaged weights alone": lambda state: {"params_ema": state},
    "a network beside an optimizer": lambda state: {"network": state, "optim": {"state": {}}},
    "numbers of numpy's": lambda state: {"model": state, "best": np.float64(0.5), "history": np.ones(3)},
    "arguments": lambda state: {"model": state, "args": argparse.Namespace(rate=1e-3)},
    "an epoch among the tensors": lambda state: {**state, "epoch": 3},
}


@pytest.mark.parametrize("wrapper", list(WRAPPERS))
def test_what_training_scripts_save_is_the_same_model(wrapper: str, model: Sam, tmp_path: Path) -> None:
    torch.save(WRAPPERS[wrapper](model.state_dict()), tmp_path / "file")
    assert same(load_model(tmp_path / "file"), model)


def test_a_head_that_lacks_tensors_is_refused_whatever_else_fits(model: Sam, tmp_path: Path) -> None:
    state = {name: x for name, x in model.state_dict().items() if "iou_prediction_head.layers.2" not in name}
    torch.save({"state_dict": {f"module.{name}": x for name, x in state.items()}}, tmp_path / "file")
    with pytest.raises(CheckpointError, match="iou_prediction_head"):
        load_model(tmp_path / "file")


def test_weights_that_are_no_numbers_are_refused(model: Sam, tmp_path: Path) -> None:
    state = {name: x.clone() for name, x in model.state_dict().items()}
    state["mask_decoder.iou_token.weight"][0, 0] = float("nan")
    torch.save(state, tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"mask_decoder\.iou_token\.weight holds NaN"):
        load_model(tmp_path / "file")


def test_a_pickle_in_parts_with_an_index_is_read(vit_model: Sam, tmp_path: Path) -> None:
    save_model(vit_model, tmp_path, "huggingface")
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    parts = {name: f"pytorch_model-0000{1 + number % 2}-of-00002.bin" for number, name in enumerate(state)}
    for part in set(parts.values()):
        torch.save({name: state[name] for name in state if parts[name] == part}, tmp_path / part)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": parts}))
    assert same(load_model(tmp_path), vit_model)
