"""The published checkpoints that can be named: where each is, what it is, and the hash it must have.

The hexadecimal digits in the names of Meta's files are the start of their MD5, which no longer proves that a file is
genuine. The SHA-256 below are those that Hugging Face records for its own files (Git LFS), and for Meta's and
MobileSAM's files those on which independent public sources agree (copies stored under Git LFS, registries of other
packages). What has none here is published without: micro-sam's registry has hashes of another kind, and for EdgeTAM,
EfficientTAM, MedSAM and SAM 2's folders no source gives any.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anymask.errors import UnknownModelError

CheckpointKind = Literal["meta", "mobile_sam", "sam_hq", "sam2", "edgetam", "efficienttam", "huggingface"]

_META = "https://dl.fbaipublicfiles.com/segment_anything"
_SAM2, _SAM21 = f"{_META}_2/072824", f"{_META}_2/092824"
_MOBILE = "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights"
_EDGETAM = "https://github.com/facebookresearch/EdgeTAM/raw/main/checkpoints"
_HUGGING_FACE = "https://huggingface.co"
_BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io"
_GWDG = "https://owncloud.gwdg.de/index.php/s"
_ZENODO = "https://zenodo.org/records"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file to download; `size` in bytes and `sha256` in lower-case hexadecimal where they are published."""

    url: str
    sha256: str | None = None
    size: int | None = None

    @property
    def name(self) -> str:
        """The file's own name, the last part of its URL."""
        return self.url.rsplit("/", 1)[-1]

    def mismatch(self, path: Path) -> str | None:
        """Why `path` is not this file, or None when it is; where no hash is published, JSON must at least parse."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"has {size:,} bytes where {self.size:,} were published"
        if self.sha256 is not None:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != self.sha256:
                return f"its SHA-256 is {found[:12]}… where {self.sha256[:12]}… was published"
        elif self.name.endswith(".json"):
            try:
                json.loads(path.read_bytes())
            except ValueError:
                return "is not JSON"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model that can be downloaded: one file, or the files of one folder."""

    name: str
    kind: CheckpointKind
    files: tuple[RemoteFile, ...]
    licence: str
    description: str

    @property
    def is_folder(self) -> bool:
        """Whether the model is read from the folder of its files, rather than from a file."""
        return len(self.files) > 1

    @property
    def size(self) -> int | None:
        """Bytes to download, as far as they are published."""
        return sum(file.size or 0 for file in self.files) or None


def _file(url: str, sha256: str | None = None, size: int | None = None) -> tuple[RemoteFile, ...]:
    return (RemoteFile(url=url, sha256=sha256, size=size),)


def _folder(
    repository: str,
    revision: str = "main",
    sha256: str | None = None,
    size: int | None = None,
    *,
    weights: str = "model.safetensors",
) -> tuple[RemoteFile, ...]:
    """A Hugging Face folder, at one revision where that is known, so that config and weights belong together."""
    base = f"{_HUGGING_FACE}/{repository}/resolve/{revision}"
    # The hash of config.json is not published; what it says is checked against the weights when they are read.
    config = RemoteFile(url=f"{base}/config.json")
    return (config, *_file(f"{base}/{weights}", sha256, size))


def _entry(
    name: str, kind: CheckpointKind, description: str, files: tuple[RemoteFile, ...], licence: str = "Apache-2.0"
) -> ModelEntry:
    return ModelEntry(name=name, kind=kind, files=files, licence=licence, description=description)


def _sam2(name: str, family: str, url: str, files: dict[str, tuple[str, int | None]]) -> tuple[ModelEntry, ...]:
    """The sizes of one release of SAM 2, by the ends of their files' names."""
    return tuple(
        _entry(
            f"{name}-{size.replace('_', '-')}",
            "sam2",
            f"{family}, image part, with Hiera {size.replace('_', '-')}",
            _file(f"{url}_{size}.pt", *published),
        )
        for size, published in files.items()
    )


def _efficienttam() -> tuple[ModelEntry, ...]:
    base = f"{_HUGGING_FACE}/yunyangx/efficient-track-anything/resolve/main"
    return tuple(
        _entry(
            f"efficienttam-{name}",
            "efficienttam",
            f"EfficientTAM, image part, {what}",
            _file(f"{base}/efficienttam_{name.replace('-512', '_512x512')}.pt"),
        )
        for name, what in {
            "ti": "its tiny plain transformer",
            "s": "its small plain transformer",
            "ti-512": "tiny, for images of 512 pixels",
            "s-512": "small, for images of 512 pixels",
        }.items()
    )


def _sam2_folders() -> tuple[ModelEntry, ...]:
    """SAM 2's Hugging Face folders."""
    return tuple(
        _entry(
            f"facebook/{release}-hiera-{size}",
            "huggingface",
            f"{family}, image part, with Hiera {size}, Hugging Face folder",
            _folder(f"facebook/{release}-hiera-{size}"),
        )
        for release, family in {"sam2.1": "SAM 2.1", "sam2": "SAM 2"}.items()
        for size in ("tiny", "small", "base-plus", "large")
    )


def _micro_sam() -> tuple[ModelEntry, ...]:
    """The models of micro-sam, by its names, at the addresses of its registry."""
    light = "cells and nuclei in light microscopy"
    electron = "mitochondria and nuclei in electron microscopy"
    found = tuple(
        _entry(
            f"vit_{size}_{end}",
            "mobile_sam" if size == "t" else "meta",
            f"micro-sam's ViT-{size.upper()} for {what}",
            _file(f"{_BIOIMAGE}/{place}/files/vit_{size}.pt"),
            "CC-BY-4.0",
        )
        for end, what, places in (
            ("lm", light, {"t": "faithful-chicken/1.1", "b": "diplomatic-bug/1.2", "l": "idealistic-rat/1.2"}),
            ("em_organelles", electron, {"t": "greedy-whale/1", "b": "noisy-ox/1.2", "l": "humorous-crab/1.2"}),
        )
        for size, place in places.items()
    )
    medical = _entry(
        "vit_b_medical_imaging",
        "meta",
        "MedicoSAM, micro-sam's ViT-B for medical images",
        _file(f"{_GWDG}/f5Ol4FrjPQWfjUF/download"),
        "not stated",
    )
    return (*found, medical)


_SAM21_FILES: dict[str, tuple[str, int | None]] = {
    "tiny": ("7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69", 156_008_466),
    "small": ("6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38", 184_416_285),
    "base_plus": ("a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5", 323_606_802),
    "large": ("2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", 898_083_611),
}
_SAM2_FILES: dict[str, tuple[str, int | None]] = {
    "tiny": ("65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125", 155_906_050),
    "small": ("95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3", 184_309_650),
    "base_plus": ("d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071", None),
    "large": ("7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b", None),
}

_ENTRIES = (
    _entry(
        "sam-vit-b",
        "meta",
        "Segment Anything with ViT-B, Meta's checkpoint",
        _file(
            f"{_META}/sam_vit_b_01ec64.pth",
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            375_042_383,
        ),
    ),
    _entry(
        "sam-vit-l",
        "meta",
        "Segment Anything with ViT-L, Meta's checkpoint",
        _file(
            f"{_META}/sam_vit_l_0b3195.pth",
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            1_249_524_607,
        ),
    ),
    _entry(
        "sam-vit-h",
        "meta",
        "Segment Anything with ViT-H, Meta's checkpoint and the paper's model",
        _file(
            f"{_META}/sam_vit_h_4b8939.pth",
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            2_564_550_879,
        ),
    ),
    _entry(
        "mobile-sam",
        "mobile_sam",
        "MobileSAM: a TinyViT encoder distilled from ViT-H, for CPUs",
        _file(
            f"{_MOBILE}/mobile_sam.pt",
            "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            40_728_226,
        ),
    ),
    _entry(
        "sam-hq-vit-tiny",
        "sam_hq",
        "SAM-HQ (finer mask borders) on MobileSAM's encoder",
        _file(
            f"{_HUGGING_FACE}/lkeab/hq-sam/resolve/main/sam_hq_vit_tiny.pth",
            "0f32c075ccdd870ae54db2f7630e7a0878ede5a2b06d05d6fe02c65a82fb7196",
            42_526_881,
        ),
    ),
    _entry(
        "sam-hq-vit-b",
        "sam_hq",
        "SAM-HQ (finer mask borders) with ViT-B",
        _file(
            f"{_HUGGING_FACE}/lkeab/hq-sam/resolve/main/sam_hq_vit_b.pth",
            "14a9d662cd6f5a9c2dba6d40ab0058d88d287e4a18fd6fdc6ad5fb1a3fdeaa57",
            379_335_069,
        ),
    ),
    _entry(
        "sam-hq-vit-l",
        "sam_hq",
        "SAM-HQ (finer mask borders) with ViT-L",
        _file(
            f"{_HUGGING_FACE}/lkeab/hq-sam/resolve/main/sam_hq_vit_l.pth",
            "e1a6c385d62bf005ded91a54d5ec55c985cfc4103ef89c08d90f39f04934c343",
            1_254_865_805,
        ),
    ),
    _entry(
        "sam-hq-vit-h",
        "sam_hq",
        "SAM-HQ (finer mask borders) with ViT-H",
        _file(
            f"{_HUGGING_FACE}/lkeab/hq-sam/resolve/main/sam_hq_vit_h.pth",
            "a7ac14a085326d9fa6199c8c698c4f0e7280afdbb974d2c4660ec60877b45e35",
            2_570_940_653,
        ),
    ),
    *_sam2("sam2.1-hiera", "SAM 2.1", f"{_SAM21}/sam2.1_hiera", _SAM21_FILES),
    *_sam2("sam2-hiera", "SAM 2", f"{_SAM2}/sam2_hiera", _SAM2_FILES),
    _entry(
        "edgetam", "edgetam", "EdgeTAM, image part: RepViT-M1 before SAM 2's decoder", _file(f"{_EDGETAM}/edgetam.pt")
    ),
    *_efficienttam(),
    _entry(
        "medsam-vit-b",
        "meta",
        "MedSAM: ViT-B for boxes in medical images",
        _file(f"{_ZENODO}/10689643/files/medsam_vit_b.pth"),
    ),
    _entry(
        "medsam2",
        "sam2",
        "MedSAM2, image part: SAM 2.1's tiny for medical images, of 512 pixels",
        _file(f"{_HUGGING_FACE}/wanglab/MedSAM2/resolve/main/MedSAM2_latest.pt"),
        "CC-BY-SA-4.0",
    ),
    *_micro_sam(),
    _entry(
        "facebook/sam-vit-base",
        "huggingface",
        "Segment Anything with ViT-B, Hugging Face folder",
        _folder(
            "facebook/sam-vit-base",
            "70c1a07f894ebb5b307fd9eaaee97b9dfc16068f",
            "892c410e496344e527255ccdcb2cb7244a609acb5389c7c4fdba1288f861c579",
            374_979_480,
        ),
    ),
    _entry(
        "facebook/sam-vit-large",
        "huggingface",
        "Segment Anything with ViT-L, Hugging Face folder",
        _folder(
            "facebook/sam-vit-large",
            "6851e0441005b0fb96f2cc4dfac472f3d1b14af1",
            "a57e1b13cd1545938dfcbc9fb26df7f60de6650237a9383382a874a623564b81",
        ),
    ),
    _entry(
        "facebook/sam-vit-huge",
        "huggingface",
        "Segment Anything with ViT-H, Hugging Face folder",
        _folder(
            "facebook/sam-vit-huge",
            "87aecf0df4ce6b30cd7de76e87673c49644bdf67",
            "edfb0462392541fca9af44ff039bfb32dbd0c939997f3abb77a26e23af7afd7c",
        ),
    ),
    *_sam2_folders(),
    _entry(
        "yonigozlan/EdgeTAM-hf",
        "huggingface",
        "EdgeTAM, image part, Hugging Face folder",
        _folder("yonigozlan/EdgeTAM-hf"),
    ),
    _entry(
        "wanglab/medsam-vit-base",
        "huggingface",
        "MedSAM: ViT-B for boxes in medical images, Hugging Face folder",
        _folder("wanglab/medsam-vit-base", weights="pytorch_model.bin"),
    ),
)

CATALOGUE: dict[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}


def find_entry(name: str) -> ModelEntry:
    """The entry of that name.

    Raises:
        UnknownModelError: there is none; the message names those that are close, or all.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    close = difflib.get_close_matches(name.lower(), CATALOGUE, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(CATALOGUE)}"
    raise UnknownModelError(f"no model to download is called {name!r}; {hint}")
