"""`recsys serve --workers N`: worker processes that share a port, and a supervisor.

Each worker is a whole service with its own batches and connections to Redis. The files of the model
are memory-mapped, so workers share them. The supervisor imports all code before it forks workers,
so they share the code, and it starts no thread, which a fork would lose. The kernel distributes
connections among the workers. The supervisor replaces a worker that ends. It stops all workers if
none was ever ready. Any worker can answer any user, because all clicks and states are in Redis.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recsys.errors import RecsysError
from service.settings import Settings

SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
CHECK_SECONDS = 0.5
KILL_SECONDS = 2.0  # after `shutdown_seconds`, until a worker that still runs is killed
MIN_LIFE_SECONDS = 1.0  # from the start of a worker to the start of its replacement
SIGNAL_CAUSES = {
    "SIGBUS": "A file of the bundle was truncated while it was served, or its disk failed: never "
    "write into a bundle, publish a new one.",
    "SIGKILL": "Memory may have run out.",
}
log = logging.getLogger("recsys.service")
Work = Callable[[Settings, Callable[[], None]], None]  # settings, function to call when ready
Handlers = Mapping[signal.Signals, Any]  # arguments of `signal.signal`
Run = Callable[[Event], None]  # runs in the process of the worker


@dataclass(frozen=True, slots=True)
class Worker:
    """Worker process."""

    process: ForkProcess
    ready: Event  # set when the worker answers requests
    started: float  # monotonic seconds

    @classmethod
    def start(cls, run: Run) -> "Worker":
        context = multiprocessing.get_context("fork")
        ready = context.Event()
        process = context.Process(target=run, args=(ready,))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # until it has handlers
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return cls(process, ready, time.monotonic())


def run_workers(work: Work, settings: Settings, prepare: Callable[[], None]) -> int:
    """Run `settings.workers` workers until SIGTERM or Ctrl-C, and return the exit status.

    `prepare` runs once, before the first worker, and all workers share the modules it imports. The
    handlers of the signals stay, so that a second signal does not interrupt the clean-up.
    """
    stopping: list[int] = []
    handlers = {
        number: signal.signal(number, lambda n, _: stopping.append(n)) for number in STOP_SIGNALS
    }
    with TemporaryDirectory(prefix="recsys-metrics-") as folder:
        os.environ[SHARED_METRICS] = folder  # before prometheus_client is imported
        prepare()
        run = partial(_work, work, settings, handlers)
        workers = [Worker.start(run) for _ in range(settings.workers)]
        status, any_ready = 0, False
        while not stopping and status == 0:
            wait([worker.process.sentinel for worker in workers], CHECK_SECONDS)
            any_ready = any_ready or any(worker.ready.is_set() for worker in workers)
            for index, worker in enumerate(workers):
                if worker.process.is_alive() or stopping:
                    continue
                if not any_ready:  # the bundle or a setting is wrong
                    status = worker.process.exitcode or 1
                    break
                workers[index] = _replacement(worker, run)
        for worker in workers:
            worker.process.terminate()
        latest = time.monotonic() + settings.shutdown_seconds + KILL_SECONDS
        for worker in workers:
            worker.process.join(max(latest - time.monotonic(), 0.0))
            worker.process.kill()  # no effect on a process that has ended
            worker.process.join()
    return status


def _replacement(ended: Worker, run: Run) -> Worker:
    from prometheus_client.multiprocess import mark_process_dead  # late: see `run_workers`

    log.error("A worker ended: %s Another one is started.", _reason(ended.process.exitcode or 0))
    mark_process_dead(ended.process.pid)  # type: ignore[no-untyped-call]
    age = time.monotonic() - ended.started
    time.sleep(max(MIN_LIFE_SECONDS - age, 0.0))
    return Worker.start(run)


def _reason(exitcode: int) -> str:
    """Describe how a process ended, and the usual cause of its signal."""
    if exitcode >= 0:
        return f"exit status {exitcode}."
    number = -exitcode
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name}. {SIGNAL_CAUSES[name]}" if name in SIGNAL_CAUSES else f"{name}."


def _work(work: Work, settings: Settings, handlers: Handlers, ready: Event) -> None:
    """Run the service in a worker process, with the signal handlers from before `run_workers`."""
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    threading.Thread(target=_stop_with_supervisor, name="supervisor", daemon=True).start()
    try:
        work(settings, ready.set)
    except RecsysError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:  # before uvicorn handles it
        sys.exit(0)


def _stop_with_supervisor() -> None:
    """Send SIGTERM to this worker when the supervisor has ended, to release the port."""
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None, "a worker has a parent process"
    wait([supervisor.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def shared_folder() -> Path | None:
    """Return the folder that all workers share, or None if there is only one process."""
    folder = os.environ.get(SHARED_METRICS)
    return None if folder is None else Path(folder)


def shared_port(host: str, port: int, family: socket.AddressFamily) -> socket.socket:
    """Return a socket that never listens and reserves the port for sockets that share it."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((host, port))
    return bound


def address_of(listening: socket.socket) -> tuple[str, int, Any]:
    """Close the socket and return its host, port and family."""
    with closing(listening):
        host, port = listening.getsockname()[:2]
        return host, port, listening.family
