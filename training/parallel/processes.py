"""Processes of a run: what they exchange, and the run of one process, which exchanges nothing.

Every process has all weights and repeats every decision: it plans the same steps and draws the same
random numbers. In a step it computes the loss of its own rows. The gradients are added up before
all processes take the same step, so that W processes train like one, up to the order of sums.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from recsys.errors import AnotherProcessFailed, RecsysError

Work = TypeVar("Work")


@dataclass(frozen=True, slots=True)
class Traffic:
    """Communication of one process."""

    seconds: float = 0.0  # in `sum`, where it waits for the slowest process
    bytes: int = 0  # of the tensors that it added to those of the others

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.seconds + other.seconds, self.bytes + other.bytes)

    def __sub__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.seconds - other.seconds, self.bytes - other.bytes)


class Processes(ABC):
    """Processes of one run, as each of them sees them. All call the same methods in one order."""

    rank: int = 0  # of this process, from 0
    size: int = 1  # number of processes (W)
    on_this_machine: int = 1  # of them
    is_restart: bool = False  # the launcher started them again, because one of them has died

    traffic: Traffic = Traffic()  # of this process so far

    @abstractmethod
    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor in place by its sum over all processes, the same bits in each.

        Args:
            tensors: Tensors of one dtype and device, of the same shapes in all processes.
        """

    @abstractmethod
    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor in place by that of the first process."""

    @abstractmethod
    def gather(self, text: str) -> list[str]:
        """Return the texts of all processes, in the order of their ranks."""

    @property
    def is_first(self) -> bool:
        """Return whether this is the process that decides, writes and prints."""
        return self.rank == 0

    @property
    def threads(self) -> int:
        """Return the number of threads that use this process's share of the processors."""
        return max((os.cpu_count() or 1) // self.on_this_machine, 1)

    def part_of(self, work: Iterable[Work]) -> Iterator[Work]:
        """Yield what is the work of this process: every W-th piece, beginning with its rank."""
        return islice(work, self.rank, None, self.size)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.size == 1:
            return flag
        count = torch.tensor([int(flag)])
        self.sum([count])
        return bool(count > 0)

    def of_first(self, value: Any) -> Any:
        """Return the value of the first process; values are what JSON can hold."""
        if self.size == 1:
            return value
        return json.loads(self.gather(json.dumps(value) if self.is_first else "")[0])

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Leave the block in all processes, or in none: an error of one ends the others as well.

        The block itself may not communicate.

        Raises:
            AnotherProcessFailed: The block failed in another process, which has the message.
        """
        try:
            yield
        except (OSError, RecsysError):
            with suppress(AnotherProcessFailed):  # the error here says more
                self.gather("failed")
            raise
        failed = [rank for rank, text in enumerate(self.gather("")) if text]
        if failed:
            raise AnotherProcessFailed(f"Stopped, because process {failed[0]} of the run failed.")


class OneProcess(Processes):
    """Run of one process: there is nothing to exchange."""

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Leave the tensors as they are."""

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Leave the tensors as they are."""

    def gather(self, text: str) -> list[str]:
        """Return the text of the one process."""
        return [text]


ALONE = OneProcess()
