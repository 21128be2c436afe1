"""Events over a real socket: a call in this process cannot read an endless answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx

Event = dict[str, Any]


def events(answer: httpx.Response) -> Iterator[Event]:
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def _hello(client: httpx.Client) -> Event:
    info = client.get("/api/info").json()
    return {"type": "hello", "project_id": info["project_id"], "model_hash": info["model"]["hash"]}


def test_what_happens_is_told(live: httpx.Client, upload: Callable[..., Any], annotation: Any, change: Any) -> None:
    with live.stream("GET", "/api/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = events(answer)
        assert next(told) == _hello(live)
        image = upload(live)
        assert next(told) == {"type": "image", "image": image}
        live.post("/api/images/1/encode")
        seen: list[Event] = []
        while not seen or seen[-1].get("image", {}).get("state") != "ready":
            seen.append(next(told))
        states = [event["image"]["state"] for event in seen if event["type"] == "image"]
        assert states == ["waiting", "encoding", "ready"]
        fractions = [event["fraction"] for event in seen if event["type"] == "progress"]
        assert fractions == sorted(fractions) and len(fractions) > 3 and 0.9 < fractions[-1] <= 1
        change(live, "1", 0, put=[annotation()], by="tab-9")
        assert next(told) == {"type": "annotations", "id": "1", "revision": 1, "client": "tab-9"}
        live.put("/api/classes", json={"base_revision": 0, "client": "tab-9", "classes": []})
        assert next(told) == {"type": "classes", "revision": 1, "client": "tab-9"}


def test_all_who_listen_are_told_and_a_stream_ends_with_its_server(live: httpx.Client) -> None:
    ready = threading.Barrier(4)
    told: list[list[Event]] = [[], [], []]

    def listen(seen: list[Event]) -> None:
        with live.stream("GET", "/api/events") as answer:
            for event in events(answer):
                seen.append(event)
                if event["type"] == "hello":
                    ready.wait(30)
                if event["type"] == "classes":
                    return

    threads = [threading.Thread(target=listen, args=(seen,)) for seen in told]
    for thread in threads:
        thread.start()
    ready.wait(30)
    live.put("/api/classes", json={"base_revision": 0, "client": "tab", "classes": []})
    for thread in threads:
        thread.join(30)
    assert all([event["type"] for event in seen] == ["hello", "classes"] for seen in told)
    with live.stream("GET", "/api/events") as answer:
        assert next(events(answer)) == _hello(live)  # still open when the fixture stops the server
