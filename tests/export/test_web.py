"""The page as a static site: what its folder holds, and where it may go."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest

import anymask.export.web as web
from anymask.errors import InputError, OutputError
from anymask.export.description import FILE_NAME, read_description
from anymask.export.web import check_site, export_web
from anymask.model import SIZES, Sam, build_sam


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a built page looks like."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("index.html", "assets/index-1234.js", "ort/runtime.wasm", "samples/coffee.jpg", "samples/cat.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture(scope="module")
def site(stirred: Sam, kept_traces: None, page: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sites") / "new" / "site"
    export_web(stirred, folder, name="stirred", licence="CC0-1.0", page=page, int8=True)
    return folder


def _files(folder: Path) -> Iterator[str]:
    return (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_site_is_the_page_its_configuration_and_the_model(site: Path, page: Path) -> None:
    models = {"models/model.json", "models/encoder.onnx", "models/image.onnx", "models/prompt.onnx"}
    assert set(_files(site)) == {*_files(page), "config.json", "README.txt", "_headers", *models}
    config = json.loads((site / "config.json").read_text())
    assert config == {"backend": "local", "models": "models/", "samples": ["coffee.jpg", "cat.jpg"]}
    assert not list(site.glob(".anymask-*"))


def test_the_8_bit_files_are_where_the_page_looks(site: Path) -> None:
    description = read_description(site / "models" / FILE_NAME)
    assert (description.name, description.image_size, description.mask_size) == ("stirred", 128, 64)
    assert {file.file for file in description.files} == {"encoder.onnx", "image.onnx", "prompt.onnx"}
    for file in description.files:
        path = site / "models" / file.file
        assert file.int8 and file.bytes == path.stat().st_size
        told = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
        assert told["int8"] == "yes" and told["part"] == file.part


def test_the_note_and_the_headers_file_ask_for_isolation(site: Path) -> None:
    for name in ("README.txt", "_headers"):
        text = (site / name).read_text()
        assert "Cross-Origin-Opener-Policy: same-origin" in text
        assert "Cross-Origin-Embedder-Policy: require-corp" in text
    assert (site / "_headers").read_text().startswith("/*\n    Cross-Origin-")


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch, stirred: Sam) -> None:
    """Tracing takes long: let the model's files be a line each."""

    def export_onnx(model: Sam, folder: Path, *, name: str, **_: object) -> web.Description:
        folder.mkdir()
        (folder / "prompt.onnx").write_text(name)
        return web.Description.of(model, name=name, licence=None, opset=20)

    monkeypatch.setattr(web, "export_onnx", export_onnx)


@pytest.mark.usefixtures("no_export")
def test_an_earlier_site_gives_way_and_what_lies_beside_it_stays(stirred: Sam, page: Path, tmp_path: Path) -> None:
    export_web(stirred, tmp_path, name="first", page=page)
    (tmp_path / "CNAME").write_text("masks.example")
    (tmp_path / "assets" / "index-0000.js").write_text("an older build")
    export_web(stirred, tmp_path, name="second", page=page)
    assert (tmp_path / "models" / "prompt.onnx").read_text() == "second"
    assert (tmp_path / "CNAME").read_text() == "masks.example"
    assert {path.name for path in (tmp_path / "assets").iterdir()} == {"index-1234.js"}
    assert not list(tmp_path.glob(".anymask-*"))


def test_a_folder_of_something_else_is_refused_and_left_alone(stirred: Sam, page: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    (tmp_path / "config.json").write_text('{"backend": "mine"}')
    with pytest.raises(OutputError, match="holds files that are not an exported site's; give a folder that is empty"):
        export_web(stirred, tmp_path, name="x", page=page)
    assert (tmp_path / "index.html").read_text() == "mine" and len(list(tmp_path.iterdir())) == 2
    with pytest.raises(OutputError, match=r"index\.html: is no folder"):
        check_site(tmp_path / "index.html")


def test_what_fails_leaves_no_folder(stirred: Sam, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(web, "export_onnx", fail)
    with pytest.raises(OutputError, match=r"cannot be written to \(No space left on device"):
        export_web(stirred, tmp_path / "site", name="x", page=page)
    assert not (tmp_path / "site").exists()


def test_sam_hq_is_refused(page: Path, tmp_path: Path) -> None:
    config = SIZES["smoke"]
    tiny = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, hq_feature_width=8))
    with pytest.raises(InputError, match="no place for the second features of SAM-HQ"):
        export_web(build_sam(tiny), tmp_path / "site", name="hq", page=page)
    assert not (tmp_path / "site").exists()


def test_a_page_that_is_not_built(monkeypatch: pytest.MonkeyPatch, stirred: Sam, tmp_path: Path) -> None:
    monkeypatch.setattr(web, "files", lambda _: tmp_path)
    with pytest.raises(InputError, match="this build of anymask has no page: in a checkout, `make web` builds it"):
        export_web(stirred, tmp_path / "site", name="x")
