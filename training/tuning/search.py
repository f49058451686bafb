"""Trials one after the other until there are enough, the time is over, or Ctrl-C.

A trial is the search phase of a training run with its own settings. Its checkpoint lies in the
study's folder while it runs, so that a stopped trial goes on in the middle of an epoch.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from data.sessions import Sessions
from recsys.errors import BadRecipe, Interrupted, TrainingStopped
from training.checkpoint import EpochResult, fingerprint, load_checkpoint
from training.recipe import Recipe
from training.trainer import Stop, Trainer
from training.tuning.progress import TuneBars
from training.tuning.results import TuningOrigin, best_of, write_results
from training.tuning.study import Outcome, Study, Trial

RUNNING = "running"  # folder of the running trial's checkpoint


@dataclass(frozen=True, slots=True)
class Parts:
    """All that trials may see; `valid` only where a column labels it."""

    train: Sessions
    valid: Sessions | None

    @property
    def mark(self) -> str:
        """Differs whenever the clicks do."""
        return fingerprint(self.train, self.valid, Recipe())


@dataclass(frozen=True, slots=True)
class Search:
    """What is needed to run trials; `until` is a time of `clock`."""

    parts: Parts
    found: TuningOrigin
    out: Path
    trials: int
    device: torch.device
    bars: TuneBars
    stop: Stop
    until: float = float("inf")
    clock: Callable[[], float] = time.monotonic

    def go_on(self, study: Study) -> bool:
        """Trials until there are enough; False where the time was over before.

        Raises `Interrupted` after Ctrl-C. Every trial that ended is kept either way.
        """
        outcomes = study.outcomes()
        write_results(self.out, outcomes, self.found)
        while len(outcomes) < self.trials:
            if not (self.is_over() or self.stop.requested):
                self.bars.trial_begins(len(outcomes), self.trials, best_of(outcomes))
                outcome = self._run(study.next_trial())
                if outcome is not None:
                    outcomes.append(outcome)
                    write_results(self.out, outcomes, self.found)
                    self.bars.trial_ends(outcome, best_of(outcomes))
                    continue
            if self.is_over():
                return False
            raise Interrupted(
                f"Stopped. {len(outcomes)} finished trials are in {self.out}; go on with the same "
                "command and --resume."
            )
        shutil.rmtree(self.out / RUNNING, ignore_errors=True)
        return True

    def is_over(self) -> bool:
        return self.clock() > self.until

    def _run(self, trial: Trial) -> Outcome | None:
        """One trial to its end, whatever that is; None where it was stopped on the way."""
        folder = self.out / RUNNING
        if trial.fresh:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        watcher = _TrialWatcher(self, trial)
        ending, reason = "finished", ""
        try:
            settings: dict[str, Any] = dict(trial.settings)
            recipe = dataclasses.replace(self.found.base, **settings, refit=False)
            watcher.epochs_planned = recipe.epochs
            self._replay(recipe, folder, watcher)
            run = Trainer(recipe, folder, self.device, watcher)
            run.train(self.parts.train, self.parts.valid, stop=self.stop)
        except Interrupted:
            return None
        except _Pruned:
            ending, reason = "pruned", "worse than the median of the trials before it"
        except TrainingStopped:
            ending, reason = "diverged", f"the loss is no number in epoch {watcher.epochs + 1}"
        except (BadRecipe, MemoryError, torch.OutOfMemoryError) as unfit:
            ending, reason = "failed", str(unfit) or "not enough memory"
        outcome = trial.end(ending, watcher.best, watcher.epochs, watcher.seconds, reason)
        shutil.rmtree(folder)
        return outcome

    def _replay(self, recipe: Recipe, folder: Path, watcher: "_TrialWatcher") -> None:
        """Epochs that a stopped trial had finished are judged as if they ended now."""
        mark = fingerprint(self.parts.train, self.parts.valid, recipe)
        checkpoint = load_checkpoint(folder, mark)
        for result in checkpoint[0].results if checkpoint else ():
            watcher.epoch_ends(result)


class _Pruned(Exception):
    """The trial is not worth going on with."""


@dataclass
class _TrialWatcher:
    """Watches a run: reports each epoch's score, ends the run when it is pruned or time is over."""

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
            self.search.stop.requested = True  # the run saves, as after Ctrl-C

    def epoch_ends(self, result: EpochResult) -> None:
        self.results.append(result)
        worth = self.trial.report(result.epoch, self._score(result))
        if not worth and result.epoch < self.epochs_planned:
            raise _Pruned

    def _score(self, result: EpochResult) -> float:
        return result.metrics[self.search.found.base.select_by]
