"""Files that are no good: one clear sentence each, and nothing of them is run."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from anymask.checkpoints import EMBEDDED
from anymask.checkpoints.load import load_model, read_checkpoint, save_model
from anymask.errors import CheckpointError, UnknownModelError, UnsafeCheckpointError
from anymask.model import Sam

TOKEN = "mask_decoder.iou_token.weight"


class Malicious:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def refusal(path: Path, error: type[CheckpointError] = CheckpointError) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert type(caught.value) is error
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code(tmp_path: Path, zipped: bool) -> None:
    torch.save({"x": Malicious(tmp_path / "ran")}, tmp_path / "evil", _use_new_zipfile_serialization=zipped)
    assert "mkdir" in refusal(tmp_path / "evil", UnsafeCheckpointError)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_that_runs_code(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "evil").write_bytes(pickle.dumps(Malicious(tmp_path / "ran"), protocol=protocol))
    assert "would run code" in refusal(tmp_path / "evil", UnsafeCheckpointError)
    assert not (tmp_path / "ran").exists()


def test_a_folder_whose_pickle_runs_code(model: Sam, tmp_path: Path) -> None:
    save_model(model, tmp_path / "folder", "huggingface")
    (tmp_path / "folder" / "model.safetensors").unlink()
    torch.save({"x": Malicious(tmp_path / "ran")}, tmp_path / "folder" / "pytorch_model.bin")
    refusal(tmp_path / "folder", UnsafeCheckpointError)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("format", ["native", "meta"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_truncated_files(model: Sam, tmp_path: Path, format: str, kept: float) -> None:
    save_model(model, tmp_path / "file", format)
    data = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(data[: int(len(data) * kept)])
    message = refusal(tmp_path / "file")
    assert ("empty" if kept == 0 else "damaged") in message


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n" + bytes(100), b"hello", b"{}", b"PK\x03\x04 not a zip", bytes(99)]
)
def test_files_of_another_kind(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file.pth").write_bytes(data)
    assert "no checkpoint" in refusal(tmp_path / "file.pth")


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"conv1.weight": torch.zeros(3)}, torch.zeros(2)])
def test_checkpoints_of_other_things(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "file")
    refusal(tmp_path / "file", UnknownModelError)


@pytest.mark.parametrize("format", ["native", "meta", "huggingface"])
def test_tensors_that_do_not_fit(model: Sam, tmp_path: Path, format: str) -> None:
    path = tmp_path / "file"
    save_model(model, path, format)

    def rewrite(change: dict[str, torch.Tensor | None]) -> None:
        file = path / "model.safetensors" if format == "huggingface" else path
        if format == "meta":
            state = torch.load(file, weights_only=True)
        else:
            state = load_file(file)
        state = {name: x for name, x in (state | change).items() if x is not None}
        if format == "meta":
            torch.save(state, path)
            return
        notes = {"anymask.format": "1", "anymask.config": json.dumps(model.config.to_dict())}
        save_file(state, file, notes if format == "native" else {})

    name = "prompt_encoder.no_mask_embed.weight"
    rewrite({name: None})
    assert f"the tensor {name} is missing" in refusal(path)
    rewrite({name: torch.zeros(1, 65)})
    assert f"the tensor {name} has shape [1, 65], [1, 64] was expected" in refusal(path)
    rewrite({name: torch.zeros(1, 64, dtype=torch.int32)})
    assert f"the tensor {name} is of type torch.int32" in refusal(path)
    rewrite({name: torch.zeros(1, 64), "mask_decoder.surplus": torch.zeros(1)})
    assert "mask_decoder.surplus is unknown" in refusal(path)
    rewrite({"mask_decoder.surplus": None, TOKEN: torch.zeros(64)})
    assert f"the tensor {TOKEN} has shape [64]" in refusal(path)
    rewrite({TOKEN: None})
    assert f"the tensor {TOKEN} is missing" in refusal(path)


def test_a_missing_block_is_told_by_its_surplus(model: Sam, tmp_path: Path) -> None:
    state = {name: x for name, x in model.state_dict().items() if ".blocks.1." not in name}
    torch.save(state, tmp_path / "file")
    assert "image_encoder.blocks.2." in refusal(tmp_path / "file")


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        ({"anymask.format": "2", "anymask.config": "{}"}, "version 2 of anymask's format"),
        ({"anymask.format": "1"}, "no readable configuration"),
        ({"anymask.format": "1", "anymask.config": "[1]"}, "no readable configuration"),
        ({"anymask.format": "1", "anymask.config": "{}"}, "configuration is not one of anymask's"),
        (
            {"anymask.format": "1", "anymask.config": '{"encoder": {"kind": "vit", "width": "x"}}'},
            "no model can be built",
        ),
        (
            {"anymask.format": "1", "anymask.config": '{"encoder": {"kind": "vit", "width": -4}}'},
            "no model can be built",
        ),
        ({"anymask.format": "1", "anymask.config": '{"encoder": {"kind": "rnn"}}'}, "configuration is not one"),
    ],
)
def test_native_headers(model: Sam, tmp_path: Path, notes: dict[str, str], words: str) -> None:
    save_file(model.state_dict(), tmp_path / "file", notes)
    assert words in refusal(tmp_path / "file")


def test_folders(model: Sam, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    save_model(model, folder, "huggingface")
    config, weights = folder / "config.json", folder / "model.safetensors"
    values = json.loads(config.read_text())
    assert "give the folder" in refusal(weights)

    config.write_text("{")
    assert "no readable JSON" in refusal(folder)
    config.write_text("[]")
    assert "no JSON object" in refusal(folder)
    config.write_text(json.dumps(values | {"model_type": "bert"}))
    assert "model type 'bert'" in refusal(folder, UnknownModelError)
    config.write_text(json.dumps(values | {"vision_config": values["vision_config"] | {"use_rel_pos": False}}))
    assert "use_rel_pos = False" in refusal(folder)
    config.write_text(json.dumps(values | {"vision_config": values["vision_config"] | {"hidden_size": "wide"}}))
    assert "cannot be used" in refusal(folder)
    config.write_text(json.dumps(values | {"vision_config": values["vision_config"] | {"num_hidden_layers": 3}}))
    assert "image_encoder.blocks.3." in refusal(folder)
    config.write_text(json.dumps(values))
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "damaged" in refusal(folder)
    weights.unlink()
    assert "no model.safetensors" in refusal(folder)
    config.unlink()
    assert "no config.json" in refusal(folder, UnknownModelError)


def test_sharded_folders_are_read(model: Sam, tmp_path: Path) -> None:
    save_model(model, tmp_path, "huggingface")
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(state)
    save_file({name: state[name] for name in names[::2]}, tmp_path / "one.safetensors")
    save_file({name: state[name] for name in names[1::2]}, tmp_path / "two.safetensors")
    files = {name: ("one", "two")[i % 2] + ".safetensors" for i, name in enumerate(names)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    assert read_checkpoint(tmp_path)[0] == model.config
    (tmp_path / "two.safetensors").unlink()
    assert "two.safetensors" in refusal(tmp_path)


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYMASK_OFFLINE", "1")
    monkeypatch.setenv("ANYMASK_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"absent\.pth: there is no such file"):
        load_model(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match=r"weights/absent: there is no such file"):
        load_model("weights/absent")
    with pytest.raises(UnknownModelError, match=r"'sam-vit-bb'; did you mean sam-vit-b.*anymask-s is built in"):
        load_model("sam-vit-bb")
    with pytest.raises(CheckpointError, match="sam-vit-b is not in the cache"):
        load_model("sam-vit-b")


def test_embedded_weights_that_are_absent_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EMBEDDED, "anymask-s", "absent.safetensors")
    with pytest.raises(CheckpointError, match="anymask-s: its weights are not in this build"):
        load_model("anymask-s")


def test_types_that_no_model_has(model: Sam, tmp_path: Path) -> None:
    save_model(model, tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"torch\.int8"):
        load_model(tmp_path / "file", dtype=torch.int8)
