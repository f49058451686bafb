"""`recsys serve --workers N`: processes that share a port, and one that watches over them.

Each worker is the whole service: its own batches and connections to Redis, and a model whose files
are mapped, so shared. It is forked from a process that has imported all code and computed nothing,
so the code is shared as well, and there is no thread that a fork could lose. The kernel deals
connections out among them. A worker that dies is replaced; where one cannot start and none ever
could, all end. States are right whichever worker answers, because every click and every state goes
through Redis.
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

SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"  # where workers keep theirs; the library's own name
STOPS = (signal.SIGTERM, signal.SIGINT)
LOOK_AROUND_SECONDS = 0.5
KILL_SECONDS = 2.0  # a worker that does not end by itself is killed so much later
LEAST_LIFE_SECONDS = 1.0  # a worker that lived less is not replaced at once
MEANINGS = {  # of the signal that a worker was killed by
    "SIGBUS": "A file of the bundle was truncated while it was served, or its disk failed: never "
    "write into a bundle, publish a new one.",
    "SIGKILL": "Memory may have run out.",
}
log = logging.getLogger("recsys.service")
Work = Callable[[Settings, Callable[[], None]], None]  # (settings, said when it answers)
Handlers = Mapping[signal.Signals, Any]  # signal → what `signal.signal` takes
Run = Callable[[Event], None]  # in the worker's process


@dataclass(frozen=True, slots=True)
class Worker:
    """A process, and whether it has ever answered."""

    process: ForkProcess
    answers: Event
    begun: float

    @classmethod
    def start(cls, run: Run) -> "Worker":
        context = multiprocessing.get_context("fork")
        answers = context.Event()
        process = context.Process(target=run, args=(answers,))
        held = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # until it has handlers of its own
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return cls(process, answers, time.monotonic())


def watch(work: Work, settings: Settings, before: Callable[[], None]) -> int:
    """Run `settings.workers` workers until SIGTERM or Ctrl-C; returns the exit status.

    The handlers of these signals stay, so that a second one does not cut short what ends behind it.
    before: done once, ahead of the first worker; what it imports they all share.
    """
    stopping: list[int] = []
    handlers = {number: signal.signal(number, lambda n, _: stopping.append(n)) for number in STOPS}
    with TemporaryDirectory(prefix="recsys-metrics-") as folder:
        os.environ[SHARED_METRICS] = folder  # the library reads it when it is imported
        before()
        run = partial(_work, work, settings, handlers)
        workers = [Worker.start(run) for _ in range(settings.workers)]
        status, answered = 0, False
        while not stopping and status == 0:
            wait([worker.process.sentinel for worker in workers], LOOK_AROUND_SECONDS)
            answered = answered or any(worker.answers.is_set() for worker in workers)
            for at, worker in enumerate(workers):
                if worker.process.is_alive() or stopping:
                    continue
                if not answered:  # the bundle or a setting is at fault, not the worker
                    status = worker.process.exitcode or 1
                    break
                workers[at] = _replaced(worker, run)
        for worker in workers:
            worker.process.terminate()
        latest = time.monotonic() + settings.shutdown_seconds + KILL_SECONDS
        for worker in workers:
            worker.process.join(max(latest - time.monotonic(), 0.0))
            worker.process.kill()  # one that hangs; nothing to others
            worker.process.join()
    return status


def _replaced(dead: Worker, run: Run) -> Worker:
    from prometheus_client.multiprocess import mark_process_dead  # late: see `watch`

    log.error("A worker ended: %s Another one is started.", _reason(dead.process.exitcode or 0))
    mark_process_dead(dead.process.pid)  # type: ignore[no-untyped-call]
    lived = time.monotonic() - dead.begun
    time.sleep(max(LEAST_LIFE_SECONDS - lived, 0.0))
    return Worker.start(run)


def _reason(exitcode: int) -> str:
    """Say how a process ended and, of a signal, what that usually means."""
    if exitcode >= 0:
        return f"exit status {exitcode}."
    number = -exitcode
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name}. {MEANINGS[name]}" if name in MEANINGS else f"{name}."


def _work(work: Work, settings: Settings, handlers: Handlers, answers: Event) -> None:
    """In the worker's process; handlers: those of signals before the watch began."""
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    threading.Thread(target=_follow_the_watcher, name="watcher", daemon=True).start()
    try:
        work(settings, answers.set)
    except RecsysError as wrong:
        sys.stderr.write(f"error: {wrong}\n")
        sys.exit(1)
    except KeyboardInterrupt:  # before uvicorn listens for it
        sys.exit(0)


def _follow_the_watcher() -> None:
    """Stop as on SIGTERM where it is gone: nobody would replace us, and we would hold the port."""
    watcher = multiprocessing.parent_process()
    assert watcher is not None, "a worker has been forked"
    wait([watcher.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def shared_folder() -> Path | None:
    """A folder that all workers of this service see; None where there is one process alone."""
    found = os.environ.get(SHARED_METRICS)
    return None if found is None else Path(found)


def shared_port(host: str, port: int, family: socket.AddressFamily) -> socket.socket:
    """A bound socket that never listens: it holds the port for sockets that share it."""
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, port))
    return held


def free(listening: socket.socket) -> tuple[str, int, Any]:
    """Host, port and family of a socket that nobody else had; it is closed."""
    with closing(listening):
        host, port = listening.getsockname()[:2]
        return host, port, listening.family
