"""Processes that torchrun started: they communicate by torch.distributed.

Gloo carries what is on CPUs, NCCL what is on graphics cards.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from recsys.errors import AnotherProcessFailed, BadInput
from training.parallel.processes import Processes, Traffic

# A process that has died is noticed at once. This limit is for a machine that no longer answers,
# and above the longest work of the first process alone.
LONGEST_WAIT = timedelta(hours=2)


def started_by_torchrun() -> bool:
    """Return whether torchrun started this process."""
    return distributed.is_available() and distributed.is_torchelastic_launched()


def is_restart() -> bool:
    """Return whether torchrun has started this process again, because one of them died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def place_on_machine() -> int:
    """Return the number of this process among those that torchrun started on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started with this one.

    Args:
        device: Where this process trains.

    Raises:
        BadInput: torchrun would start processes on several machines again, where they do not find
            each other.
        AnotherProcessFailed: Another process does not answer.
    """
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store = _store()
    with _lost_processes():
        if store is None:
            distributed.init_process_group(backend, timeout=LONGEST_WAIT)
        else:
            rank, size = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
            distributed.init_process_group(
                backend, timeout=LONGEST_WAIT, store=store, rank=rank, world_size=size
            )
    try:
        yield TorchProcesses()
    finally:
        distributed.destroy_process_group()


def _store() -> Any:
    """Return where the processes find each other; None for the place that torch chooses.

    torchrun's own store keeps the addresses of processes that have died (up to torch 2.13), so each
    start has a part of its own. Machines do not count starts alike, so several of them have no
    such part in common.
    """
    environment = os.environ
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    if environment["GROUP_WORLD_SIZE"] != "1":
        if environment["TORCHELASTIC_MAX_RESTARTS"] == "0":
            return None
        raise BadInput(
            "torchrun cannot restart processes on several machines so",
            [
                f"got --max-restarts={environment['TORCHELASTIC_MAX_RESTARTS']}. Set "
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on each machine, or leave the option out."
            ],
        )
    store = distributed.TCPStore(  # type: ignore[attr-defined]  # torch exports it without saying so
        environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), is_master=False
    )
    return distributed.PrefixStore(  # type: ignore[attr-defined]
        f"start {environment['TORCHELASTIC_RESTART_COUNT']}", store
    )


class TorchProcesses(Processes):
    """Processes of torch.distributed's default group."""

    def __init__(self) -> None:
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()
        self.on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        self.is_restart = is_restart()

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add up in one message; see `Processes.sum`."""
        started = time.monotonic()
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _lost_processes():
            distributed.all_reduce(flat)
        sums = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.view(tensor.shape))
        # a graphics card has only queued the sum, and nothing waits for it here
        seconds = 0.0 if flat.is_cuda else time.monotonic() - started
        self.traffic += Traffic(seconds, flat.numel() * flat.element_size())

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Send one tensor after the other; see `Processes.broadcast`."""
        with _lost_processes():
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def gather(self, text: str) -> list[str]:
        """Gather by two messages, because the texts differ in length; see `Processes.gather`."""
        content = torch.frombuffer(bytearray(text.encode() or b"\0"), dtype=torch.uint8)
        length = torch.tensor([len(text.encode())])
        lengths = [torch.empty_like(length) for _ in range(self.size)]
        with _lost_processes():
            distributed.all_gather(lengths, length)
            longest = max(max(int(one) for one in lengths), 1)
            padded = torch.zeros(longest, dtype=torch.uint8)
            padded[: len(content)] = content
            contents = [torch.empty_like(padded) for _ in range(self.size)]
            distributed.all_gather(contents, padded)
        return [
            one[: int(size)].numpy().tobytes().decode()
            for one, size in zip(contents, lengths, strict=True)
        ]


@contextmanager
def _lost_processes() -> Iterator[None]:
    """Turn an error of the communication into a message."""
    try:
        yield
    except RuntimeError as lost:
        raise AnotherProcessFailed(
            "Another process of the run has ended or does not answer "
            f"({str(lost).splitlines()[0]}). Its own message says why; --resume goes on."
        ) from lost
