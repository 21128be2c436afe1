"""Processes that are killed with SIGKILL at random moments; what they acknowledged, or made in the end, must be there.

Each process is a fork of this one, which has imported everything and started no thread: a new one is at work at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

WRITERS = 3
SIZE = (96, 128)


@dataclasses.dataclass(slots=True, kw_only=True)
class Report:
    """What came of the kills."""

    line: str = ""
    faults: list[str] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="anymask-kills-") as name:
        yield Path(name)


def _fork(work: Callable[[], object]) -> int:
    """Run work in a child, which ends with it; return the child's process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        work()
        status = 0
    except BaseException as error:
        os.write(2, f"the child failed: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def _kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _ended_within(child: int, seconds: float) -> int | None:
    """Return a child's exit status, or None where it is still at work then."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.002)


@contextlib.contextmanager
def _database(kind: str) -> Iterator[str | None]:
    if kind == "sqlite":
        yield None
        return
    from postgres_cluster import private_cluster

    with private_cluster() as cluster:
        yield cluster.fresh()


def _smoke() -> Any:
    import torch

    from anymask.model import SIZES, build_sam

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return build_sam(SIZES["smoke"]).eval()


def kill_server(kills: int, *, seed: int, database: str) -> Report:
    """Kill a server while people write to it; what it acknowledged must be there when it is back."""
    import logging

    from anymask.engine.store import init_project, open_project
    from anymask.server.app import create_app
    from anymask.server.run import Server
    from anymask.server.settings import Settings

    logging.disable(logging.CRITICAL)
    chance = random.Random(seed)
    report, acknowledged, lost = Report(), 0, 0
    model = _smoke()
    with _folder() as folder, _database(database) as url, socket.create_server(("127.0.0.1", 0)) as listener:
        init_project(folder / "project", url=url)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            with open_project(folder / "project") as project:
                app = create_app(project, model, model_name="smoke", settings=Settings(page=folder / "no-page"))
                Server(app, lambda: None).run(sockets=[listener])

        child = _fork(serve)
        people = [_Person(address, number) for number in range(WRITERS)]
        try:
            for person in people:
                person.begin()
            for _ in range(kills):
                threads = [threading.Thread(target=person.write) for person in people]
                for thread in threads:
                    thread.start()
                time.sleep(chance.uniform(0.02, 0.6))
                _kill(child)
                for person in people:
                    person.stop.set()
                child = _fork(serve)  # no lock is held: people's threads only ask httpx
                for thread in threads:
                    thread.join()
                for person in people:
                    report.faults += person.check()
            acknowledged = sum(person.acknowledged for person in people)
            lost = len(report.faults)
        finally:
            _kill(child)
            for person in people:
                person.client.close()
    report.line = (
        f"server on {database}: {kills} kills, {acknowledged:,} changes and images acknowledged, {lost} lost or damaged"
    )
    return report


class _Person:
    """One who draws on an image of their own, and uploads others, and knows what was acknowledged."""

    def __init__(self, address: str, number: int) -> None:
        self.client = httpx.Client(base_url=address, timeout=60)
        self.name, self.stop = f"person-{number}", threading.Event()
        self.acknowledged = self.revision = 0
        self.masks: dict[str, str] = {}
        self.images: dict[str, bytes] = {}
        self.image = ""
        self._rng = np.random.default_rng(number)

    def begin(self) -> None:
        self.image = self._upload()

    def _upload(self) -> str:
        import cv2

        data = cv2.imencode(".png", self._rng.integers(0, 255, (*SIZE, 3), np.uint8))[1].tobytes()
        answer = self._patient("POST", "/api/images", files={"file": ("a.png", data)})
        self.images[answer.json()["id"]] = data
        self.acknowledged += 1
        return str(answer.json()["id"])

    def _patient(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask until the server, which may be about to start, answers."""
        for _ in range(600):
            try:
                answer = self.client.request(method, path, **more)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            assert answer.status_code < 400, answer.text
            return answer
        raise AssertionError("the server does not come back")

    def write(self) -> None:
        """Write until the server is gone."""
        from anymask.geometry import rle

        self.stop.clear()
        while not self.stop.is_set():
            mask = self._rng.random(SIZE) < 0.3
            key = f"a{int(self._rng.integers(50))}"
            annotation = {"id": key, "rle": rle.encode(mask)}
            change = {
                "base_revision": self.revision,
                "client": self.name,
                "changes": [{"op": "put", "annotation": annotation}],
            }
            try:
                answer = self.client.post(f"/api/images/{self.image}/changes", json=change)
            except httpx.TransportError:
                return
            if answer.status_code != 200:
                return
            self.revision = answer.json()["revision"]
            self.masks[key] = annotation["rle"]["counts"]
            self.acknowledged += 1
            if self._rng.random() < 0.1:
                with contextlib.suppress(httpx.TransportError):
                    self._upload_once()

    def _upload_once(self) -> None:
        import cv2

        data = cv2.imencode(".png", self._rng.integers(0, 255, (*SIZE, 3), np.uint8))[1].tobytes()
        answer = self.client.post("/api/images", files={"file": ("a.png", data)})
        if answer.status_code == 201:
            self.images[answer.json()["id"]] = data
            self.acknowledged += 1

    def check(self) -> list[str]:
        """Return what was acknowledged and is not there."""
        state = self._patient("GET", f"/api/images/{self.image}/annotations").json()
        kept = {each["id"]: each["rle"]["counts"] for each in state["annotations"]}
        faults = []
        if state["revision"] - self.revision not in (0, 1):  # one may have been kept whose answer was cut off
            faults.append(f"{self.name}: revision {state['revision']} after {self.revision} was acknowledged")
        same = state["revision"] == self.revision
        differing = [key for key, counts in self.masks.items() if kept.get(key) != counts]
        if len(differing) > (0 if same else 1):
            faults.append(f"{self.name}: {len(differing)} masks are not as they were acknowledged")
        self.revision, self.masks = state["revision"], kept
        id = next(reversed(self.images))
        if self._patient("GET", f"/api/images/{id}/file").content != self.images[id]:
            faults.append(f"{self.name}: image {id} is not what was uploaded")
        return faults


def _until_done(work: Callable[[], object], kills: int, chance: random.Random, seconds: float) -> tuple[int, list[int]]:
    """Run work until it ends, killed within so many seconds of its first starts; return kills and failures."""
    killed, failed = 0, []
    while True:
        child = _fork(work)
        patience = chance.uniform(0, seconds) if killed < kills else 600.0
        status = _ended_within(child, patience)
        if status is None:
            _kill(child)
            killed += 1
            continue
        if status:
            failed.append(status)
        return killed, failed


_QUICK = """
views = 2
max_objects = 4
old_images = 4

[run]
steps = 30
batch_size = 2
num_masks = 2
num_workers = 0
save_every = 4
log_every = 1

[optim]
learning_rate = 1e-3
weight_decay = 0.0
warmup = 1
ema = 0.5
"""


def kill_finetune(kills: int, *, seed: int, database: str) -> Report:
    """Kill `anymask finetune` until it ends; its weights must be those of a run that nobody disturbed."""
    import torch

    from anymask.checkpoints import load_model, places, save_model
    from anymask.cli import main
    from anymask.data.synthetic import SceneConfig, render_shards

    chance, report, killed, runs = random.Random(seed), Report(), 0, 0
    with _folder() as folder:
        save_model(_smoke(), folder / "smoke.safetensors")
        places.EMBEDDED["anymask-s"] = str(folder / "smoke.safetensors")
        os.environ |= {"ANYMASK_HOME": str(folder / "home"), "ANYMASK_OFFLINE": "1"}
        list(render_shards(folder, SceneConfig(size=64), scenes_per_shard=6))
        tar = next(folder.glob("*.tar"))
        (folder / "quick.toml").write_text(_QUICK)

        def tune(name: str) -> Callable[[], None]:
            line = [
                "finetune",
                str(tar),
                "-o",
                str(folder / name / "mine.safetensors"),
                "--recipe",
                str(folder / "quick.toml"),
            ]

            def run() -> None:
                for stream in (1, 2):  # the report, and how far it is
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
                if status := main(line):
                    os._exit(status)

            return run

        began = time.monotonic()
        _until_done(tune("whole"), 0, chance, 0)
        seconds = time.monotonic() - began
        wanted = load_model(folder / "whole" / "mine.safetensors").state_dict()
        while killed < kills:
            runs += 1
            times, failed = _until_done(tune(f"run-{runs}"), min(10, kills - killed), chance, seconds)
            killed += times
            output = folder / f"run-{runs}" / "mine.safetensors"
            if failed or not output.exists():
                report.faults.append(f"finetune, run {runs}: ended with {failed} after {times} kills")
                continue
            found = load_model(output).state_dict()
            differing = [name for name in wanted if not torch.equal(wanted[name], found[name])]
            if differing:
                report.faults.append(f"finetune, run {runs}: {len(differing)} tensors differ after {times} kills")
            shutil.rmtree(folder / f"run-{runs}")
    report.line = f"finetune: {killed} kills over {runs} runs, {len(report.faults)} ended other than undisturbed"
    return report


def kill_prefill(kills: int, *, seed: int, database: str) -> Report:
    """Kill the pool that prefills until it is through; its masks must be those of a run that nobody disturbed."""
    from PIL import Image

    from anymask.engine.detectors import SmallDetectorConfig
    from anymask.engine.pool import run_pool
    from anymask.engine.project_model import model_path, set_project_model
    from anymask.engine.stages import PREFILL, prefilling, semi_automatic
    from anymask.engine.store import Annotation, NewImage, Put, init_project, open_project
    from anymask.geometry import rle
    from data_kinds import masks, picture

    chance, report, killed, runs = random.Random(seed), Report(), 0, 0
    model = _smoke()
    with _folder() as folder:
        base = folder / "base"
        init_project(base)
        with open_project(base, exclusive=False) as project:
            set_project_model(project, model)
            project.settings.replace(project.settings.current().replace({"prefill_score": 0, "prefill_iou": 1e-9}))
            for number in range(12):
                Image.fromarray(picture(number)).save(base / "images" / f"{number}.png")
            new = [NewImage(name=f"{n}.png", location=f"images/{n}.png", size=SIZE, split="train") for n in range(12)]
            images = project.images.add(new)
            for image in images[:4]:
                puts = [Put(annotation=Annotation(id=f"m{n}", rle=rle.encode(mask))) for n, mask in enumerate(masks())]
                project.annotations.change(image.id, 0, "ann", puts)
            prefilling.train_on_project(project, model, SmallDetectorConfig(steps=5))
            semi_automatic.open_queue(project, images[4:])
            task = prefilling.PrefillTask(model=str(model_path(project)))

        def prefill(place: Path) -> Callable[[], None]:
            def run() -> None:
                with open_project(place, exclusive=False) as project:
                    while run_pool(project, PREFILL, task, workers=0, lease_seconds=1.0).left:
                        time.sleep(0.05)  # somebody's who was killed, until the lease is over

            return run

        def made(place: Path) -> dict[int, dict[str, str]]:
            with open_project(place, exclusive=False) as project:
                states = {each.id: project.annotations.state(each.id) for each in project.images.all()}
                return {id: {each.id: each.rle["counts"] for each in state.annotations} for id, state in states.items()}

        shutil.copytree(base, folder / "whole")
        began = time.monotonic()
        _until_done(prefill(folder / "whole"), 0, chance, 0)
        seconds = time.monotonic() - began
        wanted = made(folder / "whole")
        while killed < kills:
            runs += 1
            place = folder / f"run-{runs}"
            shutil.copytree(base, place)
            # An image that was at work at three kills is put aside, as the one that kills.
            times, failed = _until_done(prefill(place), min(2, kills - killed), chance, seconds)
            killed += times
            if failed or made(place) != wanted:
                report.faults.append(f"prefill, run {runs}: {failed or 'other masks'} after {times} kills")
            shutil.rmtree(place)
        total = sum(len(each) for each in wanted.values())
    report.line = (
        f"prefill: {killed} kills over {runs} runs of {total} masks, {len(report.faults)} ended other than undisturbed"
    )
    return report


KILLS: dict[str, Callable[..., Report]] = {"server": kill_server, "finetune": kill_finetune, "prefill": kill_prefill}
