"""Further processes on this machine that work on a study, beside the one that shows it."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

import torch

from recsys.allocation import keep_freed_memory
from recsys.errors import Interrupted, RecsysError


@contextmanager
def started(work: Callable[[int], object], workers: int) -> Iterator[Sequence[BaseProcess]]:
    """Yield further processes that do `work`; at the end of the block, they are asked to stop.

    Args:
        work: Function that multiprocessing can send to a process; it takes the number of its
            worker, from 1.
        workers: Number of processes, this one included.
    """
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    others = [spawn.Process(target=_run, args=(work, n, workers)) for n in range(1, workers)]
    try:
        for other in others:
            other.start()
        share_processors(workers)
        yield others
    finally:
        for other in others:
            if other.pid is not None:
                other.terminate()
                other.join()


def deaths(others: Sequence[BaseProcess]) -> str | None:
    """Return a sentence about the processes that have died, if there are any."""
    died = sum(other.exitcode not in (None, 0) for other in others)
    if died == 0:
        return None
    return f"{died} of {len(others) + 1} workers died; the others took over their trials."


def share_processors(workers: int) -> None:
    """Give this process its part of the processors, unless the user has given a number."""
    if workers > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(torch.get_num_threads() // workers, 1))


def _run(work: Callable[[int], object], number: int, workers: int) -> None:
    keep_freed_memory()
    share_processors(workers)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        work(number)
    except Interrupted:
        sys.exit(Interrupted.status)  # the first process has the message
    except (OSError, RecsysError) as error:
        sys.exit(f"worker {number}: {error}")


def _stop_with_parent() -> None:
    """Ask this process to stop when its parent has ended, also by a kill."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
