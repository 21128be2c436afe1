"""The schema is true: whatever schemathesis makes up from it is answered as it says, and never with a mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from anymask.checkpoints.load import model_hash
from anymask.engine.project_model import set_project_model
from anymask.engine.stages import assisted
from anymask.engine.store import open_project
from anymask.export.description import FORMAT
from anymask.model import Sam
from anymask.server.app import create_app
from anymask.server.decoder_files import PARTS
from anymask.server.settings import Settings

BASE = "http://127.0.0.1"
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, smoke_sam: Sam) -> Iterator[BaseSchema]:
    """The schema over a running application with two images in a queue of the data engine."""
    with open_project(tmp_path_factory.mktemp("schema") / "project") as project:
        set_project_model(project, smoke_sam)
        parts = project.cache / "models" / f"{model_hash(smoke_sam)}-{FORMAT}"
        parts.mkdir(parents=True)
        for part in PARTS:
            (parts / f"{part}.onnx").write_bytes(b"made before, as that takes a minute")
        app = create_app(project, smoke_sam, model_name="smoke", settings=Settings(page=Path("no-page")))
        with TestClient(app, base_url=BASE, raise_server_exceptions=False) as client:
            for name in ("coffee", "cat"):
                client.post("/api/images", json={"sample": name})
            client.post("/api/images/1/encode")
            assisted.open_queue(project)
            yield schemathesis.openapi.from_asgi("/api/openapi.json", app, headers={"Host": "127.0.0.1"})


OPERATIONS = [
    *(("GET", f"/api/{path}") for path in ("info", "images", "classes", "export", "models/{part}.onnx")),
    *(("GET", f"/api/engine/{path}") for path in ("work", "status")),
    *(("POST", f"/api/engine/{path}") for path in ("next", "renew", "finish", "judge", "skip", "give-back")),
    *(("GET", f"/api/images/{{id}}/{path}") for path in ("file", "thumbnail", "embedding", "annotations")),
    *(("POST", f"/api/images/{{id}}/{path}") for path in ("encode", "changes", "everything", "similar", "text")),
    ("GET", "/api/images/least-scores"),
    ("POST", "/api/images"),
    ("POST", "/api/classes/id"),
    ("PUT", "/api/classes"),
]


def test_all_operations_are_tried(api: BaseSchema) -> None:
    found = {(found.ok().method.upper(), found.ok().path) for found in api.get_all_operations()}
    assert found == {*OPERATIONS, ("GET", "/api/events")}  # events: an endless answer, tested on a socket


SAYABLE = [(mode, method, path) for mode in GenerationMode for method, path in OPERATIONS]
WITHOUT_INPUT = [
    (GenerationMode.NEGATIVE, "GET", f"/api/{path}")
    for path in ("info", "images", "images/least-scores", "classes", "engine/work", "engine/status")
] + [(GenerationMode.NEGATIVE, "POST", "/api/classes/id")]


@pytest.mark.parametrize(("mode", "method", "path"), [each for each in SAYABLE if each not in WITHOUT_INPUT])
def test_every_operation_answers_as_it_says(api: BaseSchema, mode: GenerationMode, method: str, path: str) -> None:
    @settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        if "{id}" in path and case.path_parameters:
            case.path_parameters["id"] = {0: "1", 1: "2"}.get(len(str(case.path_parameters["id"])) % 3, "9")
        case.call_and_validate(checks=CHECKS, headers={"Host": "127.0.0.1"})

    run()


def test_the_schema_is_precise_enough_for_types(make_client: Callable[..., TestClient]) -> None:
    described = make_client().get("/api/openapi.json").json()
    names = set(described["components"]["schemas"])
    assert {"Image", "Annotation", "Annotations", "ChangeSet", "AnnotationsConflict", "Error", "Info"} <= names
    assert {"HelloEvent", "ImageEvent", "ProgressEvent", "AnnotationsEvent", "ClassesEvent"} <= names
    assert not {"HTTPValidationError", "ValidationError"} & names
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            refusals = {code for code in operation["responses"] if code.startswith("4")}
            assert {"400", "401", "403", "404", "422"} <= refusals, (method, path)
            for code in refusals:
                sent = operation["responses"][code]["content"]["application/json"]["schema"]["$ref"]
                assert sent.rpartition("/")[2] in ("Error", "AnnotationsConflict", "ClassesConflict"), (method, path)
