"""Many processes: who they are, what they exchange, and models whose parameters they share out.

Processes are started by `torchrun`, which restarts all of them when one dies; a run then goes on from its last saved
state, with as many processes as there are. Replicated models average their gradients once per step, after the last of
the rounds' backward passes; torch's DistributedDataParallel, made for one forward and one backward pass, would do so in
every round. Sharded models are FSDP2's.
"""

from __future__ import annotations

import ctypes
import datetime
import os
import platform
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from anymask.errors import AnymaskError

M = TypeVar("M", bound=nn.Module)

_BUCKET = 25 * 2**20
"""Bytes of gradients exchanged at a time."""
_PATIENCE = datetime.timedelta(hours=2)
"""How long processes wait for the first of them, which validates and writes alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """The processes of a run: this one's rank among `count`, and its device."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this one writes logs and states and speaks to the user."""
        return self.rank == 0


def join_processes(device: str) -> Processes:
    """Join the processes that torchrun has started; without torchrun this one is alone.

    On CUDA each takes the GPU of its local rank. Raises AnymaskError where a machine has fewer GPUs than processes.
    """
    if not dist.is_torchelastic_launched():
        return Processes(device=device)
    if device == "cuda":
        local, here = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= here:
            raise AnymaskError(f"torchrun started {local + 1} processes or more on a machine of {here} GPUs")
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    if not dist.is_initialized():
        _meet("nccl" if device.startswith("cuda") else "gloo")
    return Processes(rank=dist.get_rank(), count=dist.get_world_size(), device=device)


def _meet(backend: str) -> None:
    """Start the process group.

    On one machine torchrun keeps its store over restarts, and processes could take addresses of those that died for
    their fellows': each start has a part of the store to itself. Over several machines every start has a new store, and
    their counts of restarts may differ.
    """
    if os.environ["LOCAL_WORLD_SIZE"] != os.environ["WORLD_SIZE"]:
        dist.init_process_group(backend, timeout=_PATIENCE)
        return
    shared, rank, count = next(rendezvous("env://", timeout=_PATIENCE))
    store = PrefixStore(f"start-{os.environ['TORCHELASTIC_RESTART_COUNT']}", shared)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE)


def wait(processes: Processes) -> None:
    """Wait until every process has come to this point."""
    if processes.count > 1:
        dist.barrier()


def shard(model: nn.Module, processes: Processes, forward_methods: tuple[str, ...]) -> None:
    """Share a model's parameters out over the processes: a group for each block of its encoder, one for the rest.

    `forward_methods` are the model's ways in, `forward` apart: its parameters are gathered as they are called.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")  # nothing is done to it in place
    mesh = init_device_mesh(torch.device(processes.device).type, (processes.count,))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for name in forward_methods:
        register_fsdp_forward_method(model, name)


def is_sharded(model: nn.Module) -> bool:
    """Whether the parameters are shared out."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and name.endswith("blocks"):
            yield from module


@torch.no_grad()
def average_gradients(model: nn.Module, processes: Processes) -> None:
    """Average the gradients, and the running statistics, of a replicated model over all processes.

    A parameter without a gradient on any one process counts as 0 there; FSDP2 averages by itself.
    """
    if processes.count == 1 or is_sharded(model):
        return
    gradients: list[Tensor] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    average_across_processes(gradients, processes)
    average_across_processes([buffer for buffer in model.buffers() if buffer.is_floating_point()], processes)


@torch.no_grad()
def average_across_processes(tensors: list[Tensor], processes: Processes) -> None:
    """Replace tensors by their means over the processes, some MiB at a time."""
    if processes.count == 1:
        return
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1).float() for tensor in bucket])
        dist.all_reduce(flat)
        flat /= processes.count
        for tensor, mean in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.nbytes > _BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


@torch.no_grad()
def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor that is shared out, which every process has to do; any other is returned itself."""
    gather = getattr(tensor, "full_tensor", None)
    gathered: Tensor = tensor if gather is None else gather()
    return gathered


def whole_model(model: M, plain: M | None, processes: Processes) -> M:
    """Gather a model that is shared out into the first process's `plain` one, which is of the same build.

    Every process has to call it; but for the first, and for models that are not shared out, it returns the model.
    """
    if not is_sharded(model):
        return model
    gathered = {name: whole(value) for name, value in model.state_dict().items()}
    if plain is None or not processes.is_first:
        return model
    plain.load_state_dict(gathered)
    return plain


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Names of glibc's options, as malloc.h numbers them."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; return whether the C library was glibc, and did so.

    Otherwise glibc maps each large tensor again, and the kernel zeroes its pages one fault at a time: up to a
    seventh of a step of training. Peak memory stays; what is held after the peak does not fall.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
