"""Trials one after the other until there are enough, the time is over, or Ctrl-C.

A trial is the search phase of a training run with its own settings. While it runs, its checkpoint
lies in the folder of the study, so that a stopped trial goes on in the middle of an epoch.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from data.sessions import Sessions
from recsys.errors import BadRecipe, Interrupted, TrainingStopped
from training.checkpoint import EpochResult, fingerprint, load_checkpoint
from training.progress import TuneBars
from training.recipe import Recipe
from training.trainer import Stop, Trainer
from training.tuning.results import TuningOrigin, best_of, trial_line, write_results
from training.tuning.study import Outcome, Study, Trial

RUNNING = "running"  # folder of the running trial's checkpoint


@dataclass(frozen=True, slots=True)
class TrialData:
    """Sessions that trials may see; `valid` only where a column labels it."""

    train: Sessions
    valid: Sessions | None

    @property
    def fingerprint(self) -> str:
        """Return a text that differs whenever the clicks differ."""
        return fingerprint(self.train, self.valid, Recipe())


@dataclass(frozen=True, slots=True)
class Search:
    """Everything that is needed to run trials; `deadline` is a time of `clock`."""

    data: TrialData
    origin: TuningOrigin
    out: Path
    trials: int
    device: torch.device
    bars: TuneBars
    stop: Stop
    deadline: float = float("inf")
    clock: Callable[[], float] = time.monotonic

    def run(self, study: Study) -> bool:
        """Run trials until there are enough; return False where the time is over before.

        Raises:
            Interrupted: Ctrl-C was pressed. Every trial that ended is kept.
        """
        outcomes = study.outcomes()
        write_results(self.out, outcomes, self.origin)
        if len(outcomes) < self.trials and self._may_go_on(outcomes):
            with suppress(Interrupted):  # of a trial that was stopped on the way
                study.optimize(self._run_trial, self.trials, self._after_trial)
            outcomes = study.outcomes()
        if len(outcomes) >= self.trials:
            shutil.rmtree(self.out / RUNNING, ignore_errors=True)
            return True
        if self.is_over():
            return False
        raise Interrupted(
            f"Stopped. {len(outcomes)} finished trials are in {self.out}; go on with the same "
            "command and --resume."
        )

    def is_over(self) -> bool:
        """Return whether the time limit has passed."""
        return self.clock() > self.deadline

    def _may_go_on(self, outcomes: list[Outcome]) -> bool:
        if self.is_over() or self.stop.requested:
            return False
        best = best_of(outcomes)
        note = "" if best is None else f"best {self.origin.base.select_by} {best.score:.4f}"
        self.bars.trial_begins(len(outcomes), self.trials, note)
        return True

    def _after_trial(self, outcomes: list[Outcome]) -> bool:
        write_results(self.out, outcomes, self.origin)
        line = trial_line(outcomes[-1], best_of(outcomes), self.origin.base.select_by)
        self.bars.trial_ends(line)
        return len(outcomes) < self.trials and self._may_go_on(outcomes)

    def _run_trial(self, trial: Trial) -> Outcome:
        """Run one trial to its end; raise `Interrupted` where it is stopped on the way."""
        folder = self.out / RUNNING
        if not trial.is_retry:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        watcher = _TrialWatcher(self, trial)
        ending, reason = "finished", ""
        try:
            settings: dict[str, Any] = dict(trial.settings)
            recipe = dataclasses.replace(self.origin.base, **settings, refit=False)
            watcher.epochs_planned = recipe.epochs
            self._replay(recipe, folder, watcher)
            trainer = Trainer(recipe, folder, self.device, watcher)
            trainer.train(self.data.train, self.data.valid, stop=self.stop)
        except _Pruned:
            ending, reason = "pruned", "worse than the median of the trials before it"
        except TrainingStopped:
            ending, reason = "diverged", f"the loss is no number in epoch {watcher.epochs + 1}"
        except (BadRecipe, MemoryError, torch.OutOfMemoryError) as unfit:
            ending, reason = "failed", str(unfit) or "not enough memory"
        shutil.rmtree(folder)
        cost = (watcher.epochs, watcher.seconds)
        return Outcome(trial.number, ending, watcher.best, *cost, reason, trial.settings)

    def _replay(self, recipe: Recipe, folder: Path, watcher: "_TrialWatcher") -> None:
        """Judge the epochs that a stopped trial had finished as if they ended now."""
        expected = fingerprint(self.data.train, self.data.valid, recipe)
        checkpoint = load_checkpoint(folder, expected)
        for result in checkpoint[0].results if checkpoint else ():
            watcher.epoch_ends(result)


class _Pruned(Exception):
    """Raised when the pruner stops a trial."""


@dataclass
class _TrialWatcher:
    """Watcher of a trainer: reports each epoch's score, stops a pruned trial or a late one."""

    search: Search
    trial: Trial
    epochs_planned: int = 0
    results: list[EpochResult] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        return len(self.results)

    @property
    def seconds(self) -> float:
        return sum(result.seconds for result in self.results)

    @property
    def best(self) -> float | None:
        return max((self._score(result) for result in self.results), default=None)

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None:
        self.search.bars.epoch_begins(self.trial.number, epoch, epochs, done, events)

    def stepped(self, events: int, mean_loss: float) -> None:
        self.search.bars.stepped(events, mean_loss)
        if self.search.is_over():
            self.search.stop.requested = True  # the trainer saves, as after Ctrl-C

    def epoch_ends(self, result: EpochResult) -> None:
        self.results.append(result)
        goes_on = self.trial.report(result.epoch, self._score(result))
        if not goes_on and result.epoch < self.epochs_planned:
            raise _Pruned

    def _score(self, result: EpochResult) -> float:
        return result.metrics[self.search.origin.base.select_by]
