"""One process or many: who am I, what is my share, and sums over all of us.

`torchrun -m r1lite zero` starts the same program several times; torchrun tells each copy its number
(its rank) and where the others are. In one process every function here gives back what it was
given. Each process works on its share; whatever decides (rewards, advantages, whether to stop) is
gathered first, so that all processes decide the same.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as torch_dist

from .records import UserError

T = TypeVar("T")


def is_torchrun() -> bool:
    """True in a process that torchrun has started."""
    return torch_dist.is_available() and torch_dist.is_torchelastic_launched()


@contextlib.contextmanager
def process_group(device: str = "auto"):
    """Inside, the processes of a torchrun can talk to each other; without torchrun nothing happens.

    Each takes the GPU of its number on its machine. If another process dies while this one waits
    for it, UserError says so; torchrun then ends all of them.
    """
    if not is_torchrun() or is_distributed():
        yield
        return
    gpu = torch.cuda.is_available() and device != "cpu"
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    before = signal.signal(signal.SIGTERM, _ended)  # how torchrun ends the others
    torch_dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in ("peer", "Gloo", "gloo", "NCCL", "Connection")):
            raise
        raise UserError(f"{_ENDED} ({' '.join(str(error).split())[:200]})") from error
    finally:
        signal.signal(signal.SIGTERM, before)
        if is_distributed():  # an engine may have ended it
            with contextlib.suppress(RuntimeError):  # a broken one cannot be taken down in order
                torch_dist.destroy_process_group()


_ENDED = (
    "another process of this run has ended, so it cannot go on. torchrun says below which (out of "
    "memory, most often); the last checkpoint is whole: the same command goes on from there"
)


def _ended(number: int, frame: object) -> None:
    if rank() < 2:  # two, as the first may be the one that died
        print(f"r1lite, process {rank()} of {world_size()}: {_ENDED}.", file=sys.stderr, flush=True)
    os._exit(143)  # threads of the process group may hang, and nothing is left to save


def is_distributed() -> bool:
    """True inside `process_group` under torchrun, also of one process; not for the group of
    processes that an engine makes for itself in a program that nobody has launched."""
    return is_torchrun() and torch_dist.is_initialized()


def world_size() -> int:
    """Number of processes."""
    return torch_dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return torch_dist.get_rank() if is_distributed() else 0


def is_main_process() -> bool:
    """True in the one process that writes files and prints; also outside `process_group`."""
    return int(os.environ["RANK"]) == 0 if is_torchrun() else True


def shard(items: Sequence[T]) -> list[T]:
    """Every world_size()-th item, beginning with that of this rank."""
    return list(items[rank() :: world_size()])


def all_gather(mine: Iterable[T]) -> list[T]:
    """What each process has made of its share, in the order of the whole."""
    found = all_gather_dict({rank() + i * world_size(): item for i, item in enumerate(mine)})
    return [found[i] for i in sorted(found)]


def all_gather_dict(mine: dict[Any, T]) -> dict[Any, T]:
    """All processes' entries in one dict."""
    if world_size() == 1:
        return mine
    parts: list[dict[Any, T]] = [{} for _ in range(world_size())]
    torch_dist.all_gather_object(parts, mine)
    return {key: value for part in parts for key, value in part.items()}


def all_reduce_sum(numbers: dict[str, float]) -> dict[str, float]:
    """The sums over all processes."""
    rows = all_gather([numbers])
    return {name: sum(row[name] for row in rows) for name in numbers}


def all_reduce_max(number: float) -> float:
    """The largest over all processes."""
    return max(all_gather([number]))


def any_process(flag: bool) -> bool:
    """True everywhere if it is true somewhere: all stop at the same step."""
    return any(all_gather([flag]))


def barrier() -> None:
    """Go on when all have come this far."""
    if world_size() > 1:
        torch_dist.barrier()


def broadcast(value: T) -> T:
    """What the leading process has; the others' argument is ignored."""
    box = [value]
    if world_size() > 1:
        torch_dist.broadcast_object_list(box, src=0)
    return box[0]


def all_gather_tensor(mine: torch.Tensor) -> torch.Tensor:
    """(processes, N): what each of them has, N numbers of any type (they travel as bytes)."""
    every = mine.new_empty(world_size(), len(mine))
    torch_dist.all_gather_into_tensor(every.flatten().view(torch.uint8), mine.view(torch.uint8))
    return every


def all_reduce_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Put the sum of all processes' gradients on each parameter, in one message.

    A sum, not a mean: the loss is a sum over answers, divided by all of them already.
    """
    if world_size() == 1:
        return
    # a process without answers to train on has no gradient, and adds 0
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([grad.flatten().float() for grad in grads])
    torch_dist.all_reduce(flat)
    for parameter, grad in zip(parameters, flat.split([p.numel() for p in parameters])):
        parameter.grad = grad.view_as(parameter).to(parameter.dtype)
