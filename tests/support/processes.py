"""Processes of `recsys`: started by a new Python, or forked from a server that has loaded it.

A new Python loads torch and our packages in two seconds of processor time, a fork in none. The
fork has the process id, exit status, signals, environment and files of a process of its own. A
claim about the start of Python takes `start_python`: what is imported and found first, variables
that a library reads while it is loaded, signals at the start, memory.
"""

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Protocol

PRELOADED = (
    *("matplotlib.backends.backend_svg", "optuna", "pandas"),
    *("recsys.cli.app", "recsys.cli.serve", "recsys.cli.train"),
    *("service.app", "service.serve", "service.server.embedded_redis"),
    *("training.finetune", "training.parallel.torch_processes", "training.tuning.search"),
)


class Process(Protocol):
    """The part of `subprocess.Popen` that tests use."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int, /) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


# gets the words after `recsys`, the file for all output, and the environment
Start = Callable[[Sequence[str], Path, Mapping[str, str]], Process]


def start_python(words: Sequence[str], output: Path, environment: Mapping[str, str]) -> Process:
    """Start a new Python that runs `recsys` with these words."""
    command = [sys.executable, "-m", "recsys", *words]
    with output.open("ab") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file)


def start_fork(
    words: Sequence[str],
    output: Path,
    environment: Mapping[str, str],
    prepare: Callable[[], object] | None = None,
) -> Process:
    """Fork a process that calls `prepare` and runs `recsys` with these words."""
    return ForkedProcess(_recsys, (words, prepare), output, environment)


def start_script(
    script: Path, words: Sequence[str], folder: Path, output: Path, environment: Mapping[str, str]
) -> Process:
    """Fork a process, in a session of its own, that runs a script in a folder."""
    return ForkedProcess(_script, (script, words, folder), output, environment)


def fork_server() -> ForkServerContext:
    """Return the context of processes that are forked after the packages have been loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


class ForkedProcess:
    """A function in a process of the fork server, which ends as `python` would end."""

    def __init__(
        self,
        function: Callable[..., object],
        arguments: tuple[object, ...],
        output: Path,
        environment: Mapping[str, str],
    ) -> None:
        output.touch()  # a test may read it at once
        self._process = fork_server().Process(
            target=_run, args=(function, arguments, output, dict(environment))
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None, "it has started"
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, or minus the number of the signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; raise `TimeoutError` if it does not come in time."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} seconds")
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal; no effect on a process that has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    output: Path,
    environment: Mapping[str, str],
) -> None:
    """Call a function in the forked process, after giving it the environment and its output."""
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    function(*arguments)


def _recsys(words: Sequence[str], prepare: Callable[[], object] | None) -> None:
    from recsys.cli.main import main

    sys.argv = ["recsys", *words]
    if prepare is not None:
        prepare()
    main()


def _script(script: Path, words: Sequence[str], folder: Path) -> None:
    os.setsid()
    os.chdir(folder)
    sys.argv = [str(script), *words]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")
