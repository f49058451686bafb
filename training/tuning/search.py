"""Trials one after the other until there are enough, the time is over, or Ctrl-C.

A trial is the search phase of a training run with its own settings. While it runs, its checkpoint
lies in the folder of the study, so that a stopped trial goes on in the middle of an epoch. After
each trial the results are written, `best.toml` and `trials.csv`, and shown in the terminal. Several
processes may each run a search on one study: they share its trials, and each of them ends when all
trials have ended.
"""

import csv
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from data.sessions import Sessions
from recsys.console import add_row, neat_table
from recsys.errors import BadRecipe, Interrupted, TrainingStopped
from recsys.fileio import replace_file
from training.checkpoint import EpochResult, fingerprint, load_checkpoint
from training.progress import TuneBars
from training.recipe import Recipe, as_toml
from training.stop import Stop
from training.trainer import Trainer
from training.tuning.study import Outcome, Study, Trial

BEST = "best.toml"
TRIALS = "trials.csv"
COLUMNS = ("trial", "ending", "score", "epochs", "seconds", "reason")
SHOWN_TRIALS = 10
SECONDS_BETWEEN_LOOKS = 0.5  # at the trials of other processes


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
class TuningOrigin:
    """Base recipe and command of a study, which head its best recipe."""

    base: Recipe
    base_name: str = "default"
    command: str = "recsys tune"


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
        self._show(outcomes, outcomes)
        while True:
            before, outcomes = outcomes, study.outcomes()
            if outcomes != before:
                self._show(outcomes, before)
            if len(outcomes) >= self.trials:
                return True
            if self.is_over():
                return False
            if self.stop.requested:
                raise Interrupted(
                    f"Stopped. {len(outcomes)} finished trials are in {self.out}; go on with the "
                    "same command and --resume."
                )
            with study.next_trial(self.trials) as trial:
                if trial is None:  # other processes may die on the last ones
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    continue
                with suppress(Interrupted):
                    study.finish(trial, self._run_trial(study, trial))

    def is_over(self) -> bool:
        """Return whether the time limit has passed."""
        return self.clock() > self.deadline

    def _show(self, outcomes: list[Outcome], before: list[Outcome]) -> None:
        """Write all results, and show those that are new, also those of other processes."""
        write_results(self.out, outcomes, self.origin)
        best, metric = best_of(outcomes), self.origin.base.select_by
        for outcome in outcomes:
            if outcome not in before:
                self.bars.trial_ends(trial_line(outcome, best, metric))
        note = "" if best is None else f"best {metric} {best.score:.4f}"
        self.bars.trial_begins(len(outcomes), self.trials, note)

    def _run_trial(self, study: Study, trial: Trial) -> Outcome:
        """Run one trial to its end; raise `Interrupted` where it is stopped on the way."""
        watcher = _TrialWatcher(self, study, trial)
        ending, reason = "finished", ""
        try:
            settings: dict[str, Any] = dict(trial.settings)
            recipe = dataclasses.replace(self.origin.base, **settings, refit=False)
            watcher.epochs_planned = recipe.epochs
            self._replay(recipe, trial.folder, watcher)
            trainer = Trainer(recipe, trial.folder, self.device, watcher)
            trainer.train(self.data.train, self.data.valid, stop=self.stop)
        except _Pruned:
            ending, reason = "pruned", "worse than the median of the trials before it"
        except TrainingStopped:
            ending, reason = "diverged", f"the loss is no number in epoch {watcher.epochs + 1}"
        except (BadRecipe, MemoryError, torch.OutOfMemoryError) as unfit:
            ending, reason = "failed", str(unfit) or "not enough memory"
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
    study: Study
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
        goes_on = self.study.report(self.trial, result.epoch, self._score(result))
        if not goes_on and result.epoch < self.epochs_planned:
            raise _Pruned

    def _score(self, result: EpochResult) -> float:
        return result.metrics[self.search.origin.base.select_by]


def best_of(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the finished trial of the highest score, the first of equals."""
    finished = [o for o in outcomes if o.ending == "finished" and o.score is not None]
    return max(finished, key=lambda o: o.score or 0.0, default=None)


def write_results(folder: Path, outcomes: Sequence[Outcome], origin: TuningOrigin) -> None:
    """Replace both files, each atomically; write nothing without an outcome."""
    if not outcomes:
        return
    replace_file(folder / TRIALS, lambda path: _write_trials(path, outcomes))
    best = best_of(outcomes)
    if best is not None:
        text = _best_recipe(best, outcomes, origin)
        replace_file(folder / BEST, lambda path: path.write_text(text, encoding="utf-8"))


def outcomes_table(outcomes: Sequence[Outcome], metric: str) -> Table:
    """Build a table of the finished trials, best first."""
    finished = [o for o in outcomes if o.ending == "finished"]
    ranked = sorted(finished, key=lambda o: -(o.score or 0.0))[:SHOWN_TRIALS]
    table = neat_table(f"Best of {len(outcomes)} trials", right=["#", metric, "epochs", "s"])
    table.add_column("settings", overflow="fold")
    for row, o in enumerate(ranked):
        cells = (o.number, f"{o.score:.4f}", o.epochs, f"{o.seconds:.0f}", _settings(o))
        add_row(table, *cells, style="bold" if row == 0 else "")
    return table


def trial_line(outcome: Outcome, best: Outcome | None, metric: str) -> str:
    """Describe how a trial ended: score, epochs, seconds, the best so far, settings."""
    score = "" if outcome.score is None else f" {metric} {outcome.score:.4f}"
    cost = f"{outcome.epochs} epochs, {outcome.seconds:.0f} s"
    comparison = ""
    if best is not None:
        is_best = best.number == outcome.number
        comparison = (
            "the best so far" if is_best else f"best {best.score:.4f} of trial {best.number}"
        )
    parts = [f"{outcome.ending}{score}", cost, outcome.reason, comparison, _settings(outcome)]
    return f"trial {outcome.number}: {'; '.join(part for part in parts if part)}"


def endings_line(outcomes: Sequence[Outcome]) -> str:
    """Count the trials by ending: `12 finished, 7 pruned, 1 diverged`."""
    endings = [o.ending for o in outcomes]
    return ", ".join(f"{endings.count(ending)} {ending}" for ending in dict.fromkeys(endings))


def importance_line(shares: Mapping[str, float]) -> str:
    """List the share of each setting in the score."""
    parts = (f"{name} {share:.0%}" for name, share in shares.items())
    return f"What mattered: {', '.join(parts)}."


def _settings(outcome: Outcome) -> str:
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in outcome.settings.items()
    )


def _best_recipe(best: Outcome, outcomes: Sequence[Outcome], origin: TuningOrigin) -> str:
    settings: dict[str, Any] = dict(best.settings)
    recipe = dataclasses.replace(origin.base, **settings)
    today = datetime.now(UTC).date().isoformat()
    head = [
        f"Trial {best.number}, the best of {len(outcomes)} on {today}: "
        f"{recipe.select_by} {best.score:.4f} on validation sessions; the test part was not seen.",
        f"Base: {origin.base_name}, with trial 0 as its own score.",
        f"  {origin.command}",
    ]
    return "".join(f"# {_printable(line)}\n" for line in head) + as_toml(recipe)


def _printable(line: str) -> str:
    """Replace control characters, which a TOML comment cannot hold, by spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in line)


def _write_trials(path: Path, outcomes: Sequence[Outcome]) -> None:
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.settings))
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*COLUMNS, *names])
        for o in outcomes:
            score = "" if o.score is None else f"{o.score:.6f}"
            about = (o.number, o.ending, score, o.epochs, f"{o.seconds:.1f}", o.reason)
            rows.writerow([*about, *(o.settings.get(name, "") for name in names)])
