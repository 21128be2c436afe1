"""How long does a hover take in a web browser, on the CPU? Our page and Meta's exported decoder, in one page by turns.

    make web
    python benchmarks/browser.py [--hovers 1000] [--decoder vit_b --decoder anymask-s --decoder hiera_t] [--frames]

vit_b's decoder has random weights (and an encoder of one block, which is not timed); anymask-s is the embedded model.
Ours is the page as `anymask export web` writes it. Meta's is SamOnnxModel of segment-anything-py with the same
weights, at the model's width, exported by torch and run by the same ONNX Runtime with as many threads in a worker of
its own; it returns one mask, as for Meta's demo page, and ours three. hiera_t is SAM 2.1 tiny with random weights, for
which Meta has no graph: it is timed beside that of vit_b. A decode's time is that within the worker.
Chromium is headless and has no GPU. `relative_error` is how far our logits are from Meta's in ONNX Runtime; of vit_b
alone, as Meta's graph has no place for the skips of the others.

With --frames: how many frames a second does the page show while the view pans and zooms, with 300 masks and with a
picture of 50 megapixels? No model runs then.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch

from machine import machine
from peers import has_levels, meta_decoder, our_model, state_of

WEB = Path(__file__).parents[1] / "web"
DECODERS = ("vit_b", "anymask-s", "hiera_t")
LIMITS = {"vit_b": 50.0, "anymask-s": 20.0, "hiera_t": 60.0}
"""Milliseconds that the median may take; the 95th percentile, twice the median."""
LABELS = {"decode": "ours, decode", "draw": "ours, draw", "shown": "ours, hover to drawn", "meta": "Meta's, decode"}

_WORKER = """
import * as ort from "./ort.wasm.min.mjs";
let session, feeds;
const tensor = (data, dims) => new ort.Tensor("float32", Float32Array.from(data), dims);
const noise = (n) => Float32Array.from({ length: n }, (_, i) => 0.1 * Math.sin(0.7 * i));
self.onmessage = ({ data }) => answer(data).catch((error) => self.postMessage({ error: String(error) }));
async function answer(data) {
  if (data.load) {
    const ort_files = new URL("../ort/ort-wasm-simd-threaded", import.meta.url).href;
    ort.env.wasm.numThreads = data.threads;
    ort.env.wasm.wasmPaths = { mjs: `${ort_files}.mjs`, wasm: `${ort_files}.wasm` };
    session = await ort.InferenceSession.create(new URL("decoder.onnx", import.meta.url).href, {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
    });
    feeds = {
      image_embeddings: tensor(noise(WIDTH * CELLS * CELLS), [1, WIDTH, CELLS, CELLS]),
      point_labels: tensor([1, -1], [1, 2]),
      mask_input: tensor(new Float32Array(16 * CELLS * CELLS), [1, 1, 4 * CELLS, 4 * CELLS]),
      has_mask_input: tensor([0], [1]),
    };
    self.postMessage(null);
    return;
  }
  const { x, y, width, height } = data;
  const scale = SIDE / Math.max(width, height);
  const start = performance.now();
  const given = {
    ...feeds,
    point_coords: tensor([x * scale, y * scale, 0, 0], [1, 2, 2]),
    orig_im_size: tensor([height, width], [2]),
  };
  const found = await session.run(given);
  const masks = found.masks.data;
  const milliseconds = performance.now() - start;
  for (const output of Object.values(found)) output.dispose();
  self.postMessage(masks.length > 0 ? milliseconds : NaN);
}
"""


class _Isolated(SimpleHTTPRequestHandler):
    """Sends what pages need for threads."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hovers", type=int, default=1000)
    parser.add_argument("--decoder", action="append", choices=DECODERS)
    parser.add_argument("--frames", action="store_true", help="measure drawing, and no decoder")
    arguments = parser.parse_args()
    check_tools()
    if arguments.frames:
        print(json.dumps(measure_frames()))
        return
    results = {name: measure(name, arguments.hovers) for name in arguments.decoder or DECODERS}
    print_table(results)
    print(json.dumps(as_record(results, arguments.hovers)))


def check_tools() -> None:
    if not (WEB / "node_modules").is_dir():
        raise SystemExit("the page's packages are not installed: `make web` installs them and builds the page")
    if not (os.environ.get("CHROMIUM") or shutil.which("chromium")):
        raise SystemExit("there is no chromium; install Debian's package of that name, or name one in CHROMIUM")


def measure(name: str, hovers: int) -> dict[str, Any]:
    """Export both decoders of a model, and time them in a page."""
    from anymask.checkpoints import load_model
    from anymask.export.web import export_web

    model = load_model(name) if name == "anymask-s" else our_model(name, blocks=1 if name == "vit_b" else None)
    peer = our_model("vit_b", blocks=1) if has_levels(name) else model
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        export_web(model, site, name=name)
        (site / "meta").mkdir()
        export_meta(peer, site / "meta" / "decoder.onnx")
        sizes = {"WIDTH": model.config.width, "CELLS": model.embedding_size, "SIDE": model.image_size}
        constants = "".join(f"const {key} = {value};\n" for key, value in sizes.items())
        (site / "meta" / "worker.js").write_text(constants + _WORKER)
        shutil.copy(WEB / "node_modules/onnxruntime-web/dist/ort.wasm.min.mjs", site / "meta")
        timed = hover(site, hovers)
        error = relative_error(site, model.config.width, model.embedding_size) if name == "vit_b" else None
        return timed | {"relative_error": error}


def export_meta(model: Any, path: Path) -> None:
    """Export Meta's SamOnnxModel with these weights, as its script does, by torch's tracer or else its exporter."""
    peer = meta_decoder(
        state_of(model), encoder=_Sized(model.image_size), side=model.image_size, cells=model.embedding_size
    )
    from segment_anything.utils.onnx import SamOnnxModel

    cells, width = model.embedding_size, model.config.width
    inputs = {
        "image_embeddings": torch.randn(1, width, cells, cells),
        "point_coords": torch.rand(1, 5, 2) * model.image_size,
        "point_labels": torch.randint(0, 4, (1, 5)).float(),
        "mask_input": torch.randn(1, 1, 4 * cells, 4 * cells),
        "has_mask_input": torch.ones(1),
        "orig_im_size": torch.tensor([1500.0, 2250.0]),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            SamOnnxModel(peer, return_single_mask=True).eval(),
            tuple(inputs.values()),
            path,
            opset_version=17,
            dynamo=False,
            do_constant_folding=True,
            input_names=list(inputs),
            output_names=["masks", "iou_predictions", "low_res_masks"],
            dynamic_axes={"point_coords": {1: "num_points"}, "point_labels": {1: "num_points"}},
        )


class _Sized(torch.nn.Identity):
    """In the place of an encoder, of which SamOnnxModel wants the image's size."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.img_size = side


def hover(site: Path, hovers: int) -> dict[str, Any]:
    """Serve a site, and let the page hover."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Isolated, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        try:
            timed = in_browser("hover.ts", url, str(hovers))
        finally:
            server.shutdown()
    timed["decode"] = timed.pop("ours")
    return timed


def in_browser(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script of `web/e2e`, and return what its last line says."""
    command = [WEB / "node_modules/.bin/tsx", f"e2e/{script}", *arguments]
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
    ran = subprocess.run(command, cwd=WEB, env=os.environ | {"CHROMIUM": chromium}, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        raise SystemExit(f"the browser failed: {ran.stdout.strip() or 'its message is above'}")
    *talk, last = ran.stdout.splitlines()
    print(*talk, sep="\n", end="", file=sys.stderr)
    told: dict[str, Any] = json.loads(last)
    return told


def measure_frames() -> dict[str, Any]:
    """Let the page pan and zoom, print a table, and return the JSON object."""
    told = in_browser("frames.ts")
    rows = {
        f"{what}, {motion}": {
            "frames_per_second": round(1e3 / statistics.mean(times), 1),
            "median_ms": round(statistics.median(times), 1),
            "p95_ms": round(percentile(times, 95), 1),
        }
        for what, motions in told["motions"].items()
        for motion, times in motions.items()
    }
    print(f"{'':40s} {'frames/s':>8s} {'median ms':>10s} {'95 %':>8s}")
    for name, row in rows.items():
        print(f"{name:40s} {row['frames_per_second']:8.1f} {row['median_ms']:10.1f} {row['p95_ms']:8.1f}")
    return {"benchmark": "browser frames", "size": told["size"], "masks": told["masks"], **rows, **machine()}


def relative_error(site: Path, width: int, cells: int) -> float:
    """Return how far our logits are from Meta's, relative to the largest, for a click on random features."""
    import onnxruntime

    features = np.random.default_rng(0).normal(0, 0.1, (1, width, cells, cells)).astype(np.float32)
    point = {"points": [[[100.0, 80.0], [0.0, 0.0]]], "labels": [[1.0, -1.0]], "has_mask_input": [0.0]}
    no_mask = np.zeros((1, 4 * cells, 4 * cells), np.float32)

    def run(file: str, feeds: dict[str, Any]) -> dict[str, Any]:
        session = onnxruntime.InferenceSession(site / file)
        taken = {one.name: np.asarray(feeds[one.name], np.float32) for one in session.get_inputs()}
        return dict(zip((one.name for one in session.get_outputs()), session.run(None, taken), strict=True))

    side = run("models/image.onnx", {"features": features})
    ours = run("models/prompt.onnx", {"features": features, "mask_input": no_mask, **side, **point})["logits"][0, 1:]
    meta = {"image_embeddings": features, "mask_input": no_mask[None], "has_mask_input": [0.0]}
    shown = {"point_coords": point["points"], "point_labels": point["labels"], "orig_im_size": [400.0, 600.0]}
    theirs = run("meta/decoder.onnx", meta | shown)["low_res_masks"][0, 0]
    return float(min(np.abs(mask - theirs).max() for mask in ours) / np.abs(theirs).max())


def percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share))


def print_table(results: dict[str, dict[str, Any]]) -> None:
    print(f"{'milliseconds':36s} {'median':>8s} {'95 %':>8s}")
    for name, timed in results.items():
        for key, label in LABELS.items():
            print(f"{f'{name}: {label}':36s} {statistics.median(timed[key]):8.2f} {percentile(timed[key], 95):8.2f}")
        print(
            f"{name}: {timed['inFrame'] / len(timed['decode']):.1%} drawn in the first frame after; {timed['device']}"
        )


def as_record(results: dict[str, dict[str, Any]], hovers: int) -> dict[str, Any]:
    """Return the JSON object: ratios are medians over hovers of (Meta's time / ours)."""

    def of(take: Any) -> dict[str, Any]:
        return {name: take(timed) for name, timed in results.items()}

    def milliseconds(share: float) -> dict[str, Any]:
        return of(lambda timed: {key: round(percentile(timed[key], share), 3) for key in LABELS})

    def ratio(timed: dict[str, Any]) -> float:
        return round(statistics.median(b / a for a, b in zip(timed["decode"], timed["meta"], strict=True)), 3)

    def holds(name: str) -> bool:
        median, worst = (percentile(results[name]["decode"], share) for share in (50, 95))
        return median <= LIMITS[name] and worst <= 2 * median

    return {
        "benchmark": "browser",
        "ratio": {f"segment-anything, {name}": ratio(timed) for name, timed in results.items()},
        "median_ms": milliseconds(50),
        "p95_ms": milliseconds(95),
        "drawn_in_first_frame": of(lambda timed: timed["inFrame"] / hovers),
        "within_limits": {name: holds(name) for name in results},
        "relative_error": of(lambda timed: timed["relative_error"]),
        "device": of(lambda timed: timed["device"]),
        "hovers": hovers,
        **machine(),
    }


if __name__ == "__main__":
    main()
