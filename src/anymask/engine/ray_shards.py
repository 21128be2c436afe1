"""Stage 3 on many machines: Ray Data over shards of images, a tar in SA-1B's layout each.

What a cluster shares is no database but two addresses of fsspec's: where images lie and where shards go. A shard is
made by one worker and put in its place whole, so that it is there or not: a run that was killed goes on with those that
are missing, and every image has exactly one result. Ray restarts workers that die, hands their shards to others, and
asks for no more than they can take.
"""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8

from anymask.data.images import read_image
from anymask.data.tar_access import is_url
from anymask.data.writers.sa1b import add_files, encode_jpeg
from anymask.engine.formats.pairs import SUFFIXES, pair
from anymask.engine.pictures import read_address
from anymask.errors import AnymaskError, InputError, MissingPackageError
from anymask.inference.automatic.masks import MaskRecord, sa1b_annotation

Annotate = Callable[[UInt8[np.ndarray, "h w 3"]], Sequence[MaskRecord]]


class Build(Protocol):
    """What is sent to workers: makes, there, what annotates an image."""

    def __call__(self) -> Annotate:
        """Load the model."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Some images, by their addresses, and the tar that they go to."""

    name: str
    images: tuple[str, ...]
    first: int
    """Number of its first image, from which `image_id` counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What became of a shard; `failed` names images that could not be read or done, and why."""

    name: str
    images: int
    masks: int
    failed: dict[str, str]
    began: float
    ended: float
    """Seconds of the worker's clock, from 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardProgress:
    """How far a run is, those shards counted that were there before it."""

    shards: int
    of: int
    images: int
    masks: int
    failed: int
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this run's rate; None before its first shard."""
        return None if not self.shards else self.seconds / self.shards * (self.of - self.shards)


def plan_shards(images: Sequence[str], per_shard: int = 200) -> list[Shard]:
    """Put images into shards in the order of their addresses: the same images always make the same shards."""
    ordered = sorted(images)
    starts = range(0, len(ordered), per_shard)
    return [
        Shard(name=f"sa_{number:06d}.tar", images=tuple(ordered[start : start + per_shard]), first=start + 1)
        for number, start in enumerate(starts)
    ]


def annotate_on_ray(
    shards: Sequence[Shard],
    target: str,
    build: Build,
    *,
    address: str | None = None,
    workers: int = 1,
    gpus: float = 0.0,
    progress: Callable[[ShardProgress], None] | None = None,
) -> Iterator[ShardResult]:
    """Make the shards that are not in `target` yet, and yield each as it is done.

    `address` is a Ray cluster's ("auto", "ray://host:10001"); None starts Ray on this machine. Each of the `workers`
    has `gpus` of a GPU, and one CPU. Raises MissingPackageError without Ray, InputError where it is out of reach.
    """
    ray = _connect(address, workers)
    there = _names(target)
    missing = [shard for shard in shards if shard.name not in there]
    if not missing:
        return
    rows = [{"shard": json.dumps(asdict(shard))} for shard in missing]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        ShardWorker,
        fn_constructor_kwargs={"build": build, "target": target},
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=gpus,
        num_cpus=1,
    )
    began, images, masks, failed = time.monotonic(), 0, 0, 0
    for done, row in enumerate(dataset.iter_rows(), start=1):
        result = ShardResult(**json.loads(row["result"]))
        images, masks, failed = images + result.images, masks + result.masks, failed + len(result.failed)
        if progress is not None:
            seconds = time.monotonic() - began
            progress(
                ShardProgress(shards=done, of=len(missing), images=images, masks=masks, failed=failed, seconds=seconds)
            )
        yield result


class ShardWorker:
    """Ray's actor: holds the model, makes one shard after the other."""

    def __init__(self, build: Build, target: str) -> None:
        self._annotate, self._target = build(), target

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Make a shard; an image that cannot be done is left out and named."""
        shard = Shard(**json.loads(row["shard"]))
        began, failed, masks = time.time(), dict[str, str](), 0
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for number, address in enumerate(shard.images, start=shard.first):
                try:
                    encoded = read_address(address)
                    pixels = read_image(encoded)
                    records = self._annotate(pixels)
                except AnymaskError as error:
                    failed[address] = str(error)
                    continue
                masks += len(records)
                suffix = SUFFIXES.get(PurePosixPath(address).suffix.lower())
                if suffix is None:
                    encoded, suffix = encode_jpeg(pixels), "jpg"
                made = [sa1b_annotation(index, record) for index, record in enumerate(records)]
                add_files(tar, pair(f"sa_{number}", suffix, encoded, pixels.shape[:2], number, made))
        _put(self._target, shard.name, packed.getvalue())
        result = ShardResult(
            name=shard.name,
            images=len(shard.images) - len(failed),
            masks=masks,
            failed=failed,
            began=began,
            ended=time.time(),
        )
        return {"result": json.dumps(asdict(result))}


def _connect(address: str | None, workers: int) -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingPackageError(f"Ray is missing ({error.name}): pip install 'anymask[ray]'") from error
    if not ray.is_initialized():
        try:
            if address is None:
                ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            else:
                check_reachable(address)
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


def check_reachable(address: str) -> None:
    """Raise OSError where nobody listens at a host and port; Ray itself would wait for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()


def _names(target: str) -> set[str]:
    import fsspec

    system, folder = fsspec.core.url_to_fs(target)
    system.makedirs(folder, exist_ok=True)
    system.invalidate_cache()
    return {PurePosixPath(path).name for path in system.ls(folder, detail=False)}


def _put(target: str, name: str, data: bytes) -> None:
    """Write a file whole: an object store does so by itself, a disk by a move."""
    import fsspec

    system, folder = fsspec.core.url_to_fs(target)
    if is_url(target):
        system.pipe_file(f"{folder}/{name}", data)
        return
    partial = f"{folder}/.{name}.{uuid.uuid4().hex}.partial"
    system.pipe_file(partial, data)
    os.replace(partial, f"{folder}/{name}")
