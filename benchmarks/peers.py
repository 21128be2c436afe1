"""What the benchmarks share: peers built with one set of weights, each in a process of its own, timed in turn.

Peers run alternately, a round each, so that the noise of the machine hits all alike; the ratio is the median over
rounds of (peer's time / ours). A process of its own gives each an honest peak of memory.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.machinery
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

import anymask  # noqa: F401 (all peers' threads wait as its do: the processes started here inherit the policy)
from machine import machine
from stand_ins import transformers_with_timm

Build = Callable[[], Callable[[], Any]]
"""Makes the peer, outside the clock; what it returns is what is timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of each round, and the process's peak memory in MiB: all it holds after building, weights included."""

    seconds: list[float]
    peak_mib: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def stand_in_for_torchvision() -> None:
    """Let Meta's package and transformers do without torchvision: resizing is PIL's, suppression of boxes our own.

    Neither takes a share of the time that could be measured.
    """
    from PIL import Image

    if "torchvision" in sys.modules:
        return
    names = ("torchvision", "torchvision.ops", "torchvision.ops.boxes", "torchvision.transforms")
    for name in (*names, "torchvision.transforms.functional"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    boxes: Any = sys.modules["torchvision.ops.boxes"]
    boxes.batched_nms, boxes.box_area = batched_nms, box_area
    functional: Any = sys.modules["torchvision.transforms.functional"]
    functional.to_pil_image = Image.fromarray
    functional.resize = lambda image, size: image.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    from anymask.geometry.nms import box_nms

    kept = box_nms(boxes.float().cpu().numpy(), scores.float().cpu().numpy(), iou_threshold, idxs.cpu().numpy())
    return torch.from_numpy(kept).to(boxes.device)


def stand_in_for_timm() -> None:
    """Let SAM-HQ's package be imported without timm, of which it uses what does nothing outside training."""
    if "timm" in sys.modules:
        return
    for name in ("timm", "timm.models", "timm.models.layers", "timm.models.registry"):
        sys.modules[name] = types.ModuleType(name)
    layers: Any = sys.modules["timm.models.layers"]
    layers.DropPath, layers.trunc_normal_ = _NoDropPath, torch.nn.init.trunc_normal_
    layers.to_2tuple = lambda side: (side, side)
    registry: Any = sys.modules["timm.models.registry"]
    registry.register_model = lambda build: build


class _NoDropPath(torch.nn.Identity):
    def __init__(self, drop_prob: float | None = None) -> None:
        super().__init__()


def size_of(size: str, blocks: int | None = None) -> Any:
    """Return the configuration of a named size, of a ViT only the first blocks if so wanted."""
    from anymask.model import SIZES, ViTConfig

    config = SIZES[size]
    encoder = config.encoder
    if blocks is None or not isinstance(encoder, ViTConfig):
        return config
    kept = tuple(index for index in encoder.global_blocks if index < blocks)
    return replace(config, encoder=replace(encoder, depth=blocks, global_blocks=kept))


def meta_model(size: str = "vit_b", blocks: int | None = None, seed: int = 0) -> Any:
    """Meta's model of a ViT's size with random weights, relative and absolute positions included."""
    stand_in_for_torchvision()
    from segment_anything.build_sam import _build_sam

    encoder = size_of(size, blocks).encoder
    torch.manual_seed(seed)
    model = _build_sam(
        encoder_embed_dim=encoder.width,
        encoder_depth=encoder.depth,
        encoder_num_heads=encoder.num_heads,
        encoder_global_attn_indexes=list(encoder.global_blocks),
    ).eval()
    for name, parameter in model.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def meta_decoder(state: dict[str, torch.Tensor], encoder: Any = None, side: int = 1024, cells: int = 64) -> Any:
    """Meta's classes at the width that the weights of a prompt encoder and a decoder have."""
    stand_in_for_torchvision()
    from segment_anything import modeling

    width = state["mask_decoder.iou_token.weight"].shape[1]
    hidden = state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0]
    iou_hidden = state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0]
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=hidden, num_heads=8)
    model = modeling.Sam(
        image_encoder=torch.nn.Identity() if encoder is None else encoder,
        prompt_encoder=modeling.PromptEncoder(width, (cells, cells), (side, side), 16),
        mask_decoder=modeling.MaskDecoder(
            transformer_dim=width, transformer=transformer, iou_head_hidden_dim=iou_hidden
        ),
    )
    kept = {name: x for name, x in state.items() if not name.startswith(("image_encoder.", "pixel_"))}
    missing = model.load_state_dict(kept, strict=False).missing_keys
    assert all(name.startswith(("image_encoder.", "pixel_")) for name in missing), missing
    return model.eval()


def hq_light_model(seed: int = 0) -> Any:
    """SAM-HQ's light model, whose encoder is MobileSAM's, with random weights."""
    stand_in_for_torchvision()
    stand_in_for_timm()
    with contextlib.redirect_stdout(sys.stderr):
        from segment_anything_hq import sam_model_registry

        torch.manual_seed(seed)
        return sam_model_registry["vit_tiny"]().eval()


def our_model(size: str = "vit_b", blocks: int | None = None) -> Any:
    """Our model of a size, with the weights of the peer's; of `compact`, which no peer has, with random ones."""
    from anymask.checkpoints import load_model
    from anymask.model import build_sam

    if size == "vit_t":
        with tempfile.TemporaryDirectory() as folder:
            torch.save(hq_light_model().state_dict(), f"{folder}/light.pth")
            return load_model(f"{folder}/light.pth")
    torch.manual_seed(0)
    model = build_sam(size_of(size, blocks)).eval()
    if size.startswith("vit"):
        model.load_state_dict(state_of(meta_model(size, blocks)))
    for name, parameter in model.named_parameters():
        if not size.startswith("vit") and ("pos_embed" in name or name.endswith("no_mem_embed") or ".conv_s" in name):
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def transformers_model(size: str = "vit_b", blocks: int | None = None) -> Any:
    """The same weights in transformers, from a folder that we write in its format."""
    from anymask.checkpoints import save_model

    with tempfile.TemporaryDirectory() as folder:
        if size.startswith("repvit"):
            save_model(our_model(size, blocks), folder, format="huggingface")
            with transformers_with_timm() as transformers:
                return transformers.EdgeTamModel.from_pretrained(folder).eval()
        import transformers

        # before our model, whose weights are Meta's, with a stand-in that transformers would take for torchvision
        found = transformers.Sam2Model if has_levels(size) else transformers.SamModel
        save_model(our_model(size, blocks), folder, format="huggingface")
        return found.from_pretrained(folder).eval()


def has_levels(size: str) -> bool:
    """Whether a size is one of SAM 2's whose decoder takes levels of the encoder, as transformers has them."""
    return size.startswith(("hiera", "repvit"))


def state_of(model: Any) -> dict[str, torch.Tensor]:
    return {k: v for k, v in model.state_dict().items() if not k.startswith("pixel_")}


def measure(peers: dict[str, Build], *, rounds: int, threads: int) -> dict[str, Timing]:
    """Time peers in turn, `rounds` times each after one warm-up."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, tuple[Connection, Any]] = {}
    try:
        for name, build in peers.items():
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, build, threads), daemon=True)
            process.start()
            lines[name] = (here, process)
            _receive(name, here)
        seconds: dict[str, list[float]] = {name: [] for name in peers}
        for index in range(rounds + 1):
            for name, (line, _) in lines.items():
                line.send("go")
                taken = _receive(name, line)
                if index:
                    seconds[name].append(taken)
        timings = {}
        for name, (line, _) in lines.items():
            line.send("stop")
            timings[name] = Timing(seconds=seconds[name], peak_mib=_receive(name, line))
        return timings
    finally:
        for line, process in lines.values():
            line.close()
            process.join(5)
            if process.is_alive():
                process.terminate()


def _receive(name: str, line: Connection) -> float:
    try:
        value: float = line.recv()
    except EOFError as error:
        raise SystemExit(f"the peer {name} died; its message is above") from error
    return value


def _serve(line: Connection, build: Build, threads: int) -> None:
    torch.set_num_threads(threads)
    call = build()
    forget_peak()
    line.send(0.0)
    with torch.inference_mode():
        while line.recv() == "go":
            began = time.perf_counter()
            call()
            line.send(time.perf_counter() - began)
    line.send(peak_mib())


def forget_peak() -> None:
    """Let `peak_mib` count from now on."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def report(benchmark: str, timings: dict[str, Timing], *, ours: str, unit: float = 1.0, **extra: Any) -> None:
    """Print a table, then the JSON line."""
    label = {1.0: "s", 1e3: "ms"}[unit]
    ratio = {}
    print(f"{'':24s} {'median ' + label:>12s} {'fastest ' + label:>12s} {'peak MiB':>10s} {'times ours':>12s}")
    for name, timing in timings.items():
        pairs = [a / b for a, b in zip(timing.seconds, timings[ours].seconds, strict=True)]
        if name != ours:
            ratio[name] = round(statistics.median(pairs), 3)
        print(
            f"{name:24s} {timing.median * unit:12.3f} {min(timing.seconds) * unit:12.3f} "
            f"{timing.peak_mib:10.0f} {statistics.median(pairs):12.2f}"
        )
    result = {
        "benchmark": benchmark,
        "ratio": ratio,
        "seconds": {name: round(t.median, 5) for name, t in timings.items()},
        "peak_mib": {name: round(t.peak_mib) for name, t in timings.items()},
        "rounds": len(timings[ours].seconds),
        "threads": torch.get_num_threads(),
        **machine(),
        **extra,
    }
    print(json.dumps(result))
