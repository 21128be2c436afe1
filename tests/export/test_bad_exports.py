"""What cannot be exported or verified, and what is said about it."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
from onnx import TensorProto, helper, save

from anymask.errors import InputError
from anymask.export.description import FILE_NAME, Description, read_description, require_packages
from anymask.export.onnx import export_onnx, parts_of
from anymask.export.verify import find_files, open_exported
from anymask.model import SIZES, Sam, build_sam


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, stirred: Sam, tmp_path: Path) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "anymask.export.description.find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    with pytest.raises(InputError, match=r"exports need onnxscript: pip install 'anymask\[export\]'"):
        require_packages()
    with pytest.raises(InputError, match="onnxscript"):
        export_onnx(stirred, tmp_path / "out", name="x")
    assert not (tmp_path / "out").exists()


def test_an_opset_that_is_not_written_is_refused_and_leaves_nothing(stirred: Sam, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="opset 9 cannot be exported; 18, 19, 20 can"):
        export_onnx(stirred, tmp_path, name="x", parts=["image"], opset=9)
    assert not list(tmp_path.iterdir())


def test_a_part_that_there_is_not(stirred: Sam, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no part 'text' to export; there are encoder, decoder"):
        export_onnx(stirred, tmp_path, name="x", parts=["text"])  # type: ignore[list-item]


def test_sam_hq_has_no_form_of_metas_decoder(tmp_path: Path) -> None:
    config = SIZES["smoke"]
    tiny = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, hq_feature_width=8))
    model = build_sam(tiny)
    assert "meta" not in parts_of(model)
    with pytest.raises(InputError, match="SAM-HQ has no form of Meta's decoder"):
        export_onnx(model, tmp_path, name="x", parts=["meta"])


def test_half_precision_is_refused(tmp_path: Path) -> None:
    model = build_sam(SIZES["smoke"]).to(torch.bfloat16)
    with pytest.raises(InputError, match="exports are made of float32 on the CPU"):
        export_onnx(model, tmp_path, name="x")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.onnx: there is no such file"):
        find_files([tmp_path / "x.onnx"])
    with pytest.raises(InputError, match=r"model\.json: does not describe exported files"):
        find_files([tmp_path])


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 2}', "\xff"])
def test_a_model_json_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="does not describe exported files"):
        read_description(tmp_path / FILE_NAME)


def test_a_model_json_of_another_version(tmp_path: Path, stirred: Sam) -> None:
    described = Description.of(stirred, name="x", licence=None, opset=18)
    (tmp_path / FILE_NAME).write_text(described.to_json())
    assert read_description(tmp_path / FILE_NAME) == described
    (tmp_path / FILE_NAME).write_text(dataclasses.replace(described, format=99).to_json())
    with pytest.raises(InputError, match="another version"):
        read_description(tmp_path / FILE_NAME)


def test_a_file_that_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(InputError, match=r"x\.onnx: cannot be read as ONNX"):
        open_exported(tmp_path / "x.onnx")


def test_an_onnx_file_of_others(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [x], [y])
    opsets = [helper.make_opsetid("", 18)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "x.onnx")
    with pytest.raises(InputError, match="was not exported by this version of anymask"):
        open_exported(tmp_path / "x.onnx")
