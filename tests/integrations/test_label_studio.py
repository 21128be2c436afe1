"""The backend by Label Studio's contract, without Label Studio."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from anymask.data.readers.label_studio import region_mask
from anymask.data.writers.label_studio import label_config
from anymask.geometry import brush_rle
from anymask.inference import AutomaticOptions, Predictor
from anymask.integrations.label_studio.app import create_app
from anymask.integrations.label_studio.backend import Backend, BackendOptions
from anymask.model import Sam

SIZE = (60, 90)
HOST = "http://label-studio.test:8080"
POLYGONS = (
    '<View><Image name="photo" value="$picture"/><PolygonLabels name="outline" toName="photo">'
    '<Label value="cat"/><Label value="dog"/></PolygonLabels></View>'
)


def _picture() -> bytes:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    buffer = io.BytesIO()
    Image.fromarray(np.stack([2 * x, 4 * y, x + y], -1).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Labels:
    """A Label Studio that has one upload, and opens it to its token."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path == "/api/token/refresh":
            return httpx.Response(200, json={"access": "short"})
        if request.url.host == "label-studio.test" and request.headers.get("authorization") not in (
            "Token right",
            "Bearer short",
        ):
            return httpx.Response(401, json={"detail": "Invalid token."})
        if request.url.path.endswith("picture.png"):
            return httpx.Response(200, content=_picture(), headers={"content-type": "image/png"})
        return httpx.Response(404, text="not here")


@pytest.fixture
def labels() -> Labels:
    return Labels()


@pytest.fixture
def client(stirred: Sam, labels: Labels) -> Iterator[TestClient]:
    options = BackendOptions(automatic=AutomaticOptions(points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0))
    backend = Backend(
        stirred, version="stirred", options=options, client=httpx.Client(transport=httpx.MockTransport(labels))
    )
    with TestClient(create_app(backend)) as found:
        yield found


def _setup(client: TestClient, project: str = "1.5", config: str | None = None, token: str = "right") -> httpx.Response:
    config = label_config(["cat", "dog"]) if config is None else config
    return client.post(
        "/setup",
        json={"project": project, "schema": config, "hostname": HOST, "access_token": token, "extra_params": None},
    )


def _click(x: float, y: float, *, label: str = "dog", on: bool = True) -> dict[str, Any]:
    value = {"x": x / SIZE[1] * 100, "y": y / SIZE[0] * 100, "width": 0.5, "keypointlabels": [label]}
    return {"type": "keypointlabels", "value": value, "is_positive": on, "from_name": "point", "to_name": "image"}


def _predict(
    client: TestClient,
    regions: list[dict[str, Any]] | None,
    *,
    project: str = "1.5",
    config: str | None = None,
    image: object = "/data/upload/1/abc-picture.png",
    key: str = "image",
) -> httpx.Response:
    params = {"login": None, "password": None, "context": None if regions is None else {"result": regions}}
    config = label_config(["cat", "dog"]) if config is None else config
    tasks = [{"id": 1, "data": {key: image}}]
    return client.post("/predict", json={"tasks": tasks, "project": project, "label_config": config, "params": params})


def _ours(model: Sam, **prompt: Any) -> Any:
    predictor = Predictor(model)
    predictor.set_image(_picture())
    return predictor.predict(**prompt)


def test_clicks_are_answered_by_a_brush_of_our_mask(client: TestClient, stirred: Sam, labels: Labels) -> None:
    assert client.get("/health").json()["status"] == "UP"
    assert _setup(client).json() == {"model_version": "stirred"}
    answer = _predict(client, [_click(40, 30), _click(70, 50, on=False)])
    (prediction,) = answer.json()["results"]
    (region,) = prediction["result"]
    ours = _ours(stirred, points=[(40, 30), (70, 50)], labels=[1, 0])
    assert (brush_rle.decode(region["value"]["rle"], SIZE) == ours.best).all()
    assert region["value"]["brushlabels"] == ["dog"] and region["type"] == "brushlabels"
    assert (region["from_name"], region["to_name"]) == ("brush", "image")
    assert (region["original_width"], region["original_height"]) == (90, 60)
    assert prediction["score"] == pytest.approx(float(ours.scores[0]))
    _predict(client, [_click(10, 10)])
    assert len(labels.requests) == 1  # the image is fetched, and encoded, once


def test_a_rectangle_and_strokes_are_prompts(client: TestClient, stirred: Sam) -> None:
    _setup(client)
    box = {"x": 10, "y": 20, "width": 50, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]}
    (prediction,) = _predict(client, [{"type": "rectanglelabels", "value": box}]).json()["results"]
    found = brush_rle.decode(prediction["result"][0]["value"]["rle"], SIZE)
    assert (found == _ours(stirred, box=(9, 12, 54, 36)).best).all()
    painted = np.zeros(SIZE, bool)
    painted[10:30, 20:50] = True
    value = {"format": "rle", "rle": brush_rle.encode(painted), "brushlabels": ["cat"]}
    stroke = {"type": "brushlabels", "value": value, "original_width": 90, "original_height": 60}
    (prediction,) = _predict(client, [stroke]).json()["results"]
    found = brush_rle.decode(prediction["result"][0]["value"]["rle"], SIZE)
    assert (found == _ours(stirred, mask=painted).best).all()


def test_polygons_say_the_mask_with_its_holes(client: TestClient, stirred: Sam) -> None:
    assert _setup(client, config=POLYGONS).status_code == 200
    answer = _predict(client, [_click(40, 30)], config=POLYGONS, key="picture").json()["results"][0]["result"]
    assert {region["value"]["polygonlabels"][0] for region in answer} == {"dog"}
    assert {(region["type"], region["from_name"]) for region in answer} == {("polygonlabels", "outline")}
    masks = [region_mask(region, SIZE) for region in answer]
    ours = _ours(stirred, points=[(40, 30)], labels=[1]).best
    union = np.logical_or.reduce([mask for mask in masks if mask is not None])
    assert (union & ours).sum() / (union | ours).sum() > 0.95


def test_without_a_prompt_everything_is_annotated(client: TestClient) -> None:
    _setup(client)
    (prediction,) = _predict(client, None).json()["results"]
    assert prediction["result"] and 0 <= len(prediction["result"]) < 100
    for region in prediction["result"]:
        assert brush_rle.decode(region["value"]["rle"], SIZE).any()
        assert region["value"]["brushlabels"] == ["cat"]


def test_two_projects_keep_their_tags_and_tokens_apart(client: TestClient) -> None:
    _setup(client, "1.5")
    _setup(client, "2.6", config=POLYGONS, token="wrong")
    one = _predict(client, [_click(40, 30)], project="1.5")
    assert one.json()["results"][0]["result"][0]["type"] == "brushlabels"
    two = _predict(client, [_click(40, 30)], project="2.6", config=POLYGONS, key="picture", image="/data/picture.png")
    assert two.status_code == 422 and "refuses the token" in two.json()["error"]


def test_a_personal_access_token_is_exchanged(client: TestClient, labels: Labels) -> None:
    _setup(client, token="head.body.signature")
    assert _predict(client, [_click(40, 30)]).status_code == 200
    assert [request.url.path for request in labels.requests] == ["/api/token/refresh", "/data/upload/1/abc-picture.png"]


def test_the_token_is_shown_to_label_studio_alone(client: TestClient, labels: Labels) -> None:
    _setup(client)
    assert _predict(client, [_click(40, 30)], image="https://elsewhere.test/picture.png").status_code == 200
    assert "authorization" not in labels.requests[-1].headers
    encoded = f"data:image/png;base64,{base64.b64encode(_picture()).decode()}"
    assert _predict(client, [_click(40, 30)], image=encoded).status_code == 200


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("/data/upload/1/gone.png", "there is no image (status 404)"),
        ("s3://bucket/picture.png", "pre-signed"),
        ("", "the task has no image"),
        (None, "the task has no image"),
        ("file:///etc/passwd", "http and https"),
        ("data:image/png;base64,AAAA", "image"),
    ],
)
def test_an_image_that_cannot_be_had_is_named(client: TestClient, image: object, said: str) -> None:
    _setup(client)
    answer = _predict(client, [_click(40, 30)], image=image)
    assert answer.status_code == 422 and said in answer.json()["error"], answer.text
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('<View><Image name="image" value="$image"/></View>', "no tag for masks"),
        ('<View><Choices name="a" toName="b"/></View>', "no image"),
        ("<View>", "no XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><View/>', "entities"),
    ],
)
def test_a_configuration_without_a_place_for_masks_is_refused(client: TestClient, config: str, said: str) -> None:
    answer = _setup(client, config=config)
    assert answer.status_code == 422 and said in answer.json()["error"]
    assert client.post("/validate", json={"config": config}).status_code == 422


def test_a_prompt_that_is_none_is_refused(client: TestClient) -> None:
    _setup(client)
    answer = _predict(client, [{"type": "choices", "value": {"choices": ["a"]}}])
    assert answer.status_code == 422 and "no prompt" in answer.json()["error"]
    assert _predict(client, [{"type": "keypoint", "value": {"x": "far"}}]).status_code == 422


def test_events_are_taken(client: TestClient) -> None:
    assert client.post("/webhook", json={"action": "START_TRAINING"}).status_code == 201
    assert client.get("/versions").json() == {"versions": ["stirred"]}


def test_a_password_is_demanded_where_one_is_set(stirred: Sam) -> None:
    with TestClient(create_app(Backend(stirred, version="v"), password="open sesame")) as client:
        assert client.get("/health").status_code == 401
        assert client.get("/health", auth=("anyone", "wrong")).status_code == 401
        assert client.get("/health", auth=("anyone", "open sesame")).json()["status"] == "UP"
