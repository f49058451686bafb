"""Searches on a small log, in this process or in new ones that meet while they run a trial."""

import os
import signal
import time
from contextlib import AbstractContextManager
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from rich.console import Console

from tests.support.processes import fork_server
from tests.support.training.builders import words
from training.progress import TuneBars
from training.recipe import Recipe
from training.stop import stop_on_signal
from training.tuning.search import Search, TrialData, TuningOrigin
from training.tuning.space import Dimension, Space
from training.tuning.study import Study, open_study

LIMIT_SECONDS = 120
CLICKS = words(*["abcdefgh", "cdefghab", "efghabcd", "ghab", "bcde"] * 10)
BAD = Recipe(
    hidden=8, epochs=3, batch=8, negatives=4, validation=0.2, patience=3,
    learning_rate=1e-5, dropout_embedding=0.5, dropout_hidden=0.0,
)  # fmt: skip
RATES = Space(
    (Dimension("learning_rate", 1e-5, 1.0, log=True), Dimension("momentum", 0.0, 0.5, 0.1))
)


def opened(folder: Path, space: Space = RATES, base: Recipe = BAD) -> AbstractContextManager[Study]:
    """Open the study of the folder, or create it."""
    about = {"clicks": TrialData(CLICKS, None).fingerprint}
    return open_study(folder, about, space, base, seed=1)


def search(
    folder: Path,
    trials: int,
    bars: TuneBars | None = None,
    *,
    space: Space = RATES,
    base: Recipe = BAD,
    seconds: float = float("inf"),
) -> bool:
    """Run a search whose clock moves by one second each time it is read."""
    folder.mkdir(exist_ok=True)
    bars = bars or TuneBars(Console(quiet=True))
    data, cpu, ticks = TrialData(CLICKS, None), torch.device("cpu"), count()
    with stop_on_signal() as stop, opened(folder, space, base) as study:
        return Search(
            data, TuningOrigin(base), folder, trials, cpu, bars, stop, seconds, lambda: next(ticks)
        ).run(study)


def started(folder: Path, name: str, *, killed: bool = False) -> BaseProcess:
    """Start a search of six trials in a process that waits for another one at its first trial."""
    process = fork_server().Process(target=_search_together, args=(folder, name, killed))
    process.start()
    return process


def ended(process: BaseProcess) -> int | None:
    """Return the exit code of a process that ends in time."""
    process.join(LIMIT_SECONDS)
    if process.is_alive():
        process.kill()
    return process.exitcode


def _search_together(folder: Path, name: str, killed: bool) -> None:
    torch.set_num_threads(1)
    assert search(folder, 6, MeetingBars(folder, name, killed=killed))


class MeetingBars(TuneBars):
    """Bars that wait, at the second epoch of the first trial, until two processes are there."""

    def __init__(self, folder: Path, name: str, *, killed: bool) -> None:
        super().__init__(Console(quiet=True))
        self._folder, self._name, self._killed = folder, name, killed

    def epoch_begins(self, trial: int, epoch: int, epochs: int, done: int, events: int) -> None:
        if epoch < 2:
            return
        (self._folder / self._name).touch()
        end = time.monotonic() + LIMIT_SECONDS
        while not all((self._folder / name).exists() for name in ("first", "second")):
            assert time.monotonic() < end
            time.sleep(0.01)
        if self._killed:
            os.kill(os.getpid(), signal.SIGKILL)
