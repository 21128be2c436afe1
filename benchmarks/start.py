"""How long does a command take that was not running before? Processes from nothing to their result.

    python benchmarks/start.py [--rounds 5] [--threads 2] [--slow]

- import: `import anymask`, beside importing the peers' models
- wrong path: `anymask segment` on a file that is not there
- segment: one click on a photograph, the model loaded from a file, the mask written; ours with the embedded model and
  with a ViT-B, the peers (segment-anything-py, transformers) with the same ViT-B's weights, which are random: they cost
  what trained ones cost
- everything: all masks of the photograph with the embedded model; with --slow Meta's generator on the ViT-B too
- serve: until the first byte of the page, and until the model answers

Processes of one question run in turn, a round each; ratios are medians over rounds of (peer's seconds / ours). Seconds
are the wall's; `cpu_seconds` are what the process computed, which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from anymask.samples import sample_path
from machine import machine

POINT = (290, 130)
HERE = Path(__file__).parent

META = """
import sys
sys.path.insert(0, {here!r})
from peers import stand_in_for_torchvision
stand_in_for_torchvision()
import numpy as np
from PIL import Image
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
model = sam_model_registry["vit_b"](checkpoint={weights!r})
pixels = np.array(Image.open({image!r}).convert("RGB"))
"""
META_CLICK = """
predictor = SamPredictor(model)
predictor.set_image(pixels)
masks, scores, _ = predictor.predict(np.array([{point!r}]), np.array([1]))
Image.fromarray(masks[scores.argmax()]).save({output!r} + "/mask.png")
"""
META_EVERYTHING = "print(len(SamAutomaticMaskGenerator(model, points_per_side=16).generate(pixels)))"
TRANSFORMERS_CLICK = """
import numpy as np, torch
from PIL import Image
from transformers import SamModel
model = SamModel.from_pretrained({folder!r}).eval()
image = Image.open({image!r}).convert("RGB")
scale = 1024 / max(image.size)
small = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
pixels = torch.zeros(1, 3, 1024, 1024)
values = (np.asarray(small) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
pixels[0, :, : small.height, : small.width] = torch.from_numpy(values).permute(2, 0, 1)
with torch.no_grad():
    points = torch.tensor([[[[scale * x for x in {point!r}]]]])
    answer = model(pixel_values=pixels, input_points=points, input_labels=torch.ones(1, 1, 1, dtype=torch.long))
logits = answer.pred_masks[0, 0, answer.iou_scores[0, 0].argmax()][None, None]
square = torch.nn.functional.interpolate(logits, (1024, 1024), mode="bilinear")[..., : small.height, : small.width]
mask = torch.nn.functional.interpolate(square, (image.height, image.width), mode="bilinear")[0, 0] > 0
Image.fromarray(mask.numpy()).save({output!r} + "/mask.png")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What a process took."""

    seconds: float
    cpu_seconds: float


Run = Callable[[], dict[str, Took]]
"""Runs one process, and returns what it took to each thing that it is asked about."""


def process(name: str, *arguments: str, status: int = 0) -> dict[str, Took]:
    began = time.perf_counter()
    running = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert running.stderr is not None
    said = running.stderr.read().decode()
    _, ended, usage = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(ended)
    if running.returncode != status:
        raise SystemExit(f"{name} ended with {running.returncode}: {said[-2000:]}")
    return {name: Took(seconds=time.perf_counter() - began, cpu_seconds=usage.ru_utime + usage.ru_stime)}


def serve(folder: Path) -> dict[str, Took]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    project = tempfile.mkdtemp(dir=folder)
    began = time.perf_counter()
    command = [sys.executable, "-m", "anymask", "serve", project, "--port", str(port)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        took = {}
        for name, path in (("serve, page", "/"), ("serve, model", "/api/info")):
            answered(f"http://127.0.0.1:{port}{path}", running)
            took[name] = Took(seconds=time.perf_counter() - began, cpu_seconds=cpu_seconds(running.pid))
        return took
    finally:
        running.terminate()
        running.wait(60)


def answered(url: str, running: subprocess.Popen[bytes]) -> None:
    while running.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=120).read(1)
            return
        except OSError:  # nothing listens yet
            time.sleep(0.005)
    raise SystemExit("the server ended before it answered")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peer_weights(folder: Path) -> tuple[Path, Path]:
    """Write one ViT-B of random weights as Meta's file and as a folder of transformers."""
    import torch

    from anymask.checkpoints import save_model
    from peers import meta_model, our_model

    torch.save(meta_model().state_dict(), folder / "vit_b.pth")
    save_model(our_model(), folder / "vit_b", format="huggingface")
    return folder / "vit_b.pth", folder / "vit_b"


def questions(folder: Path, *, slow: bool) -> dict[str, tuple[str, list[Run]]]:
    """Return for each question which answer is ours, and what is run for it, a round each."""
    weights, saved = peer_weights(folder)
    image, point = str(sample_path("coffee")), ",".join(map(str, POINT))
    filled = {"image": image, "point": POINT, "output": str(folder), "weights": str(weights), "folder": str(saved)}
    meta = META.format(here=str(HERE), **filled)
    ours = ("-m", "anymask", "segment", "--point", point, "-o", str(folder / "out"))
    everything = ("-m", "anymask", "everything", image, "-o", str(folder / "all"), "--overwrite")
    heads = "import sys; sys.path.insert(0, {!r}); from peers import stand_in_for_torchvision as stand; stand(); "
    importing = {
        "import anymask": "import anymask",
        "import segment_anything": heads.format(str(HERE)) + "import segment_anything",
        "import transformers' SamModel": "from transformers import SamModel",
    }
    slowly = [partial(process, "segment-anything everything", "-c", meta + META_EVERYTHING)] if slow else []
    return {
        "import": ("import anymask", [partial(process, name, "-c", text) for name, text in importing.items()]),
        "wrong path": ("wrong path", [partial(process, "wrong path", *ours, "missing.jpg", status=2)]),
        "segment": (
            "segment",
            [
                partial(process, "segment", *ours, image),
                partial(process, "segment, ViT-B", *ours, image, "--model", str(weights)),
                partial(process, "segment-anything", "-c", meta + META_CLICK.format(**filled)),
                partial(process, "transformers", "-c", TRANSFORMERS_CLICK.format(**filled)),
            ],
        ),
        "everything": ("everything", [partial(process, "everything", *everything), *slowly]),
        "serve": ("serve, page", [partial(serve, folder)]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slow", action="store_true", help="Meta's masks of everything too: minutes a round")
    parser.add_argument("--only", nargs="*", help="of import, wrong path, segment, everything, serve")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    ratio: dict[str, float] = {}
    seconds: dict[str, float] = {}
    computed: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'':32s} {'median s':>10s} {'fastest s':>10s} {'CPU s':>8s} {'times ours':>12s}")
        for question, (ours, runs) in questions(Path(folder), slow=arguments.slow).items():
            if arguments.only and question not in arguments.only:
                continue
            took: dict[str, list[Took]] = {}
            for _ in range(arguments.rounds):
                for run in runs:
                    for name, each in run().items():
                        took.setdefault(name, []).append(each)
            for name, rounds in took.items():
                times = [each.seconds for each in rounds]
                pairs = [each / own.seconds for each, own in zip(times, took[ours], strict=True)]
                seconds[name] = round(statistics.median(times), 3)
                computed[name] = round(statistics.median(each.cpu_seconds for each in rounds), 3)
                if name != ours:
                    ratio[name] = round(statistics.median(pairs), 2)
                print(
                    f"{name:32s} {seconds[name]:10.2f} {min(times):10.2f} {computed[name]:8.2f} "
                    f"{statistics.median(pairs):12.2f}"
                )
    result = {"benchmark": "start", "ratio": ratio, "seconds": seconds, "cpu_seconds": computed}
    print(json.dumps({**result, "rounds": arguments.rounds, "threads": arguments.threads, **machine()}))


if __name__ == "__main__":
    main()
