"""Peers to compare with, made importable without the packages that nothing here needs."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor


def _box_area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """One kept box after the other, written apart from the package's own suppression."""
    areas, kept = _box_area(boxes), []
    left = scores.argsort(descending=True, stable=True)
    while left.numel():
        best, left = left[0], left[1:]
        kept.append(int(best))
        top_left = torch.maximum(boxes[best, :2], boxes[left, :2])
        bottom_right = torch.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        iou = shared / (areas[best] + areas[left] - shared)
        left = left[~((iou > iou_threshold) & (idxs[left] == idxs[best]))]
    return torch.tensor(kept, dtype=torch.int64)


def _resize(image: Image.Image, size: Sequence[int]) -> Image.Image:
    return image.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def _to_pil_image(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image)


def _torchvision_stand_ins() -> dict[str, ModuleType]:
    names = ("torchvision", "torchvision.ops", "torchvision.ops.boxes")
    names += ("torchvision.transforms", "torchvision.transforms.functional")
    modules = {name: ModuleType(name) for name in names}
    vars(modules["torchvision.ops.boxes"]).update(batched_nms=_batched_nms, box_area=_box_area)
    vars(modules["torchvision.transforms.functional"]).update(resize=_resize, to_pil_image=_to_pil_image)
    return modules


@pytest.fixture(scope="session")
def meta_sam() -> ModuleType:
    """Meta's `segment_anything`; where torchvision is absent, its four functions that it imports are stood in for.

    The stand-ins leave sys.modules again at once, so that no other package takes them for torchvision.
    """
    if importlib.util.find_spec("segment_anything") is None:
        pytest.skip("segment-anything-py is not installed")
    if "segment_anything" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("segment_anything")
    with pytest.MonkeyPatch.context() as patch:
        for name, module in _torchvision_stand_ins().items():
            patch.setitem(sys.modules, name, module)
        return importlib.import_module("segment_anything")


class _Identity(torch.nn.Module):
    """timm's stochastic depth outside training."""

    def __init__(self, drop_prob: float | None = None) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


def _timm_stand_ins() -> dict[str, ModuleType]:
    modules = {name: ModuleType(name) for name in ("timm", "timm.models", "timm.models.layers", "timm.models.registry")}
    vars(modules["timm.models.layers"]).update(
        DropPath=_Identity, to_2tuple=lambda side: (side, side), trunc_normal_=torch.nn.init.trunc_normal_
    )
    vars(modules["timm.models.registry"]).update(register_model=lambda build: build)
    return modules


@pytest.fixture(scope="session")
def hq_sam() -> ModuleType:
    """SAM-HQ's `segment_anything_hq`, with what it imports of torchvision and timm stood in for, as above."""
    if importlib.util.find_spec("segment_anything_hq") is None:
        pytest.skip("segment-anything-hq is not installed")
    with pytest.MonkeyPatch.context() as patch:
        for name, module in (_torchvision_stand_ins() | _timm_stand_ins()).items():
            patch.setitem(sys.modules, name, module)
        return importlib.import_module("segment_anything_hq")


class _ToTensor:
    """torchvision's transform of H×W×3 bytes to 3×H×W floats up to 1."""

    def __call__(self, image: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255


class _Resize(torch.nn.Module):
    """torchvision's antialiased bilinear resize of tensors."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(
            image[None], self.size, mode="bilinear", align_corners=False, antialias=True
        )[0]


class _Normalize(torch.nn.Module):
    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


class _Initialised:
    """hydra, to which the package would hand its folder of configurations; tests build its model by hand."""

    @staticmethod
    def instance() -> _Initialised:
        return _Initialised()

    @staticmethod
    def is_initialized() -> bool:
        return True


def _sam2_stand_ins() -> dict[str, ModuleType]:
    modules = _torchvision_stand_ins()
    vars(modules["torchvision.transforms"]).update(Normalize=_Normalize, Resize=_Resize, ToTensor=_ToTensor)
    modules |= {name: ModuleType(name) for name in ("hydra", "hydra.core", "hydra.core.global_hydra")}
    modules |= {name: ModuleType(name) for name in ("iopath", "iopath.common", "iopath.common.file_io")}
    vars(modules["hydra"]).update(initialize_config_module=None)
    vars(modules["hydra.core.global_hydra"]).update(GlobalHydra=_Initialised)
    vars(modules["iopath.common.file_io"]).update(g_pathmgr=None)
    return modules


@pytest.fixture(scope="module")
def sam2_package() -> Iterator[ModuleType]:
    """The package `sam2`, with what it imports of torchvision, hydra and iopath stood in for.

    Its parts are imported as tests need them: the stand-ins stay until they are done. Its transforms are compiled by
    torch.jit.script, which cannot read the stand-ins and is left out.
    """
    if importlib.util.find_spec("sam2") is None:
        pytest.skip("sam2 is not installed")
    with pytest.MonkeyPatch.context() as patch:
        for name, module in _sam2_stand_ins().items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(torch.jit, "script", lambda module: module)
        yield importlib.import_module("sam2")


def _stand_ins() -> ModuleType:
    """Return the benchmarks' way to import timm, which is no part of the package."""
    path = Path(__file__).parents[2] / "benchmarks" / "stand_ins.py"
    spec = importlib.util.spec_from_file_location("stand_ins", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    """The package `timm`, imported without torchvision."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    imported: ModuleType = _stand_ins().import_timm()
    return imported


@pytest.fixture(scope="session")
def transformers_with_timm(timm: ModuleType) -> Iterator[ModuleType]:
    """transformers, whose EdgeTAM asks for timm."""
    pytest.importorskip("transformers")
    with _stand_ins().transformers_with_timm() as transformers:
        yield transformers
