"""Start the processes of a run on this machine, as torchrun does.

torchrun's agent watches them. If one dies, it ends the others and starts all again, from the last
checkpoint. An error that another start cannot correct ends the run.
"""

import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recsys.allocation import keep_freed_memory
from recsys.errors import AnotherProcessFailed, BadInput, Interrupted, RecsysError

RESTARTS = 3  # of all processes, where one has died


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """End of one process."""

    path: Path | None = None  # that the process returns, if it returns one
    error: str = ""  # that ended it
    is_consequence: bool = False  # of an error of another process


def launch(work: Callable[[], Path | None], processes: int, start_method: str = "spawn") -> Path:
    """Run `work` in so many processes; return the path that the first of them returns.

    Args:
        work: Function that multiprocessing can send to a process. It joins the others by
            `training.parallel.torch_processes.joined`.
        processes: Number of processes.
        start_method: Of multiprocessing. Those of a fork server start at once, but do not end where
            the process that started them is killed.

    Raises:
        BadInput: This torch has no torch.distributed.
        Interrupted: A signal stopped the run.
        RecsysError: A process cannot go on, or processes died again and again.
    """
    from torch import distributed

    if not distributed.is_available() or not distributed.is_gloo_available():
        raise BadInput(
            "--processes cannot be used",
            ["this torch was built without torch.distributed and gloo. Leave the option out."],
        )
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(processors // processes, 1)))
    try:
        with _handlers_kept(), tempfile.TemporaryDirectory(prefix="recsys-processes-") as logs:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=processes,
                run_id=uuid.uuid4().hex,
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",  # any free port
                local_addr="localhost",
                max_restarts=RESTARTS,
                start_method=start_method,
                logs_specs=DefaultLogsSpecs(log_dir=logs),  # by default, a folder that stays
            )
            outcomes = elastic_launch(config, _run)(work)
    except SignalException as stopped:
        raise Interrupted(
            "Stopped. If the training had begun, the same command and --resume go on with it."
        ) from stopped
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        raise RecsysError(
            f"Process {rank} of the run ended with status {failure.exitcode}, after "
            f"{RESTARTS} restarts; its last message stands above. If memory was short, free some "
            "or start fewer processes; the same command and --resume go on."
        ) from failed
    return _path_of([outcomes[rank] for rank in range(processes)])


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Restore the signal handlers at the end, which torchrun's agent replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield  # there, the agent replaces none
        return
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _path_of(outcomes: list[ProcessEnd]) -> Path:
    """Return the path of the first process; raise the error that came first, if there is one."""
    failed = sorted(
        (outcome for outcome in outcomes if outcome.error), key=lambda one: one.is_consequence
    )
    if failed:
        raise RecsysError(failed[0].error)
    path = outcomes[0].path
    assert path is not None, "the first process returns a path or an error"
    return path


def _run(work: Callable[[], Path | None]) -> ProcessEnd:
    """Run the work in a new process: an error that is no crash becomes an outcome.

    A process that is stopped ends at once: one with an outcome waits until it has been read.
    """
    keep_freed_memory()
    try:
        return ProcessEnd(work())
    except Interrupted:
        sys.exit(Interrupted.status)
    except KeyboardInterrupt:
        os._exit(Interrupted.status)  # an exit in order may abort in a thread of gloo, with noise
    except (OSError, RecsysError) as error:
        return ProcessEnd(None, str(error), isinstance(error, AnotherProcessFailed))
