"""The book of a search: which trials ran, with which settings, how they ended; what to try next.

The only file that knows Optuna. Trials are kept in SQLite, so whoever is killed goes on: a trial
that was running is handed out again, with the same settings and number. What is suggested depends
on the seed, the trial's number and the trials before it, not on how often the search was stopped.
"""

import json
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from recsys.errors import BadInput
from recsys.fileio import replace_file, unwritable
from training.recipe import Recipe
from training.tuning.space import Space, Value

STUDY = "study.db"
NAME = "recsys"
ABOUT = "about"
FIRST_JUDGED_EPOCH = 2  # the first epoch says more about the learning rate than about the end
TRIALS_BEFORE_PRUNING = 5
TRIALS_FOR_IMPORTANCE = 10  # fewer tell noise
STATES = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,  # so that the sampler keeps away from there
    "failed": TrialState.FAIL,
}
KEPT = ("ending", "score", "epochs", "seconds", "reason", "settings")  # of an `Outcome`


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one trial ended; `score` is that of its best epoch, None where it has none."""

    number: int
    ending: str  # finished, pruned, diverged or failed
    score: float | None
    epochs: int
    seconds: float
    reason: str
    settings: Mapping[str, Value]


class Study:
    """One study in its folder, as one process at a time may work on it."""

    def __init__(self, study: optuna.Study, space: Space, base: Recipe, seed: int) -> None:
        self._study = study
        self._space = space
        self._base = base
        self._seed = seed

    def next_trial(self) -> "Trial":
        """The trial that was running when the search stopped, or a new one."""
        started = [t for t in self._study.get_trials(deepcopy=False) if _has_started(t)]
        running = [t for t in started if t.state == TrialState.RUNNING]
        number = running[0].number if running else len(started)
        drawn = np.random.SeedSequence([self._seed, number]).generate_state(1)
        self._study.sampler = TPESampler(seed=int(drawn[0]))
        trial = self._taken_up(running[0]) if running else self._study.ask()
        assert trial.number == number, "one process at a time"
        only = self._space.holds(self._base) if number == 0 else None
        chosen = self._space.suggest(trial, self._base, only)
        settings = self._space.values_of(self._base) if number == 0 else chosen
        return Trial(self._study, trial, settings, fresh=not running)

    def _taken_up(self, running: FrozenTrial) -> optuna.Trial:
        """Optuna has no public way to go on with a trial; this is what `ask` does after all."""
        return optuna.Trial(self._study, running._trial_id)

    def outcomes(self) -> list[Outcome]:
        """Every trial that ended, in order."""
        ended = self._study.get_trials(deepcopy=False, states=tuple(set(STATES.values())))
        return [_outcome(trial) for trial in ended]

    def importances(self) -> dict[str, float]:
        """Share of each setting in how good a trial was; empty where there are too few to say.

        PED-ANOVA, Watanabe et al., arXiv:2304.10255.
        """
        done = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(done) < TRIALS_FOR_IMPORTANCE:
            return {}
        with warnings.catch_warnings(action="ignore"):  # that a base outside the space lacks one
            return dict(optuna.importance.get_param_importances(self._study))


class Trial:
    """One trial that runs; `fresh` where it did not run before."""

    def __init__(
        self,
        study: optuna.Study,
        trial: optuna.Trial,
        settings: Mapping[str, Value],
        *,
        fresh: bool,
    ) -> None:
        self._study = study
        self._trial = trial
        self.number = trial.number
        self.settings = settings
        self.fresh = fresh

    def report(self, epoch: int, score: float) -> bool:
        """Note the score of an epoch; says whether the trial is worth going on with."""
        known = self._study.get_trials(deepcopy=False)[self.number].intermediate_values
        if epoch not in known:
            self._trial.report(score, epoch)
        return not self._trial.should_prune()

    def end(
        self, ending: str, score: float | None, epochs: int, seconds: float, reason: str = ""
    ) -> Outcome:
        outcome = Outcome(self.number, ending, score, epochs, seconds, reason, self.settings)
        for name in KEPT:
            self._trial.set_user_attr(name, getattr(outcome, name))
        value = score if ending == "finished" else None
        self._study.tell(self._trial, value, state=STATES[ending])
        return outcome


@contextmanager
def open_study(
    folder: Path, about: Mapping[str, Any], space: Space, base: Recipe, seed: int
) -> Iterator[Study]:
    """The folder's study, made where there is none; raises `BadInput` where it is another one.

    about: what a study must not change while it lasts, as JSON.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / STUDY
    if not path.exists():
        replace_file(path, lambda beside: _create(beside, about, space.holds(base)))
    storage = None
    try:
        storage = _storage(path)
        study = optuna.load_study(study_name=NAME, storage=storage, pruner=_pruner())
        known = study.user_attrs[ABOUT]
    except (SQLAlchemyError, sqlite3.Error, KeyError, RuntimeError) as broken:
        raise BadInput(
            "The study cannot be resumed",
            [f"{path} is damaged or no study ({broken}). Name another --out."],
        ) from broken
    else:
        _check_same(known, json.loads(json.dumps(about)), path)
        with _writable(path):
            yield Study(study, space, base, seed)
    finally:
        if storage is not None:
            _close(storage)


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as failed:
        raise unwritable(path, failed) from failed


def _create(path: Path, about: Mapping[str, Any], first: Mapping[str, Value]) -> None:
    path.unlink(missing_ok=True)  # of a process that was killed here
    storage = _storage(path)
    try:
        study = optuna.create_study(study_name=NAME, storage=storage, direction="maximize")
        study.set_user_attr(ABOUT, about)
        study.enqueue_trial(dict(first))  # never worse than what one had
    finally:
        _close(storage)


def _storage(path: Path) -> RDBStorage:
    """By a connection and not by URL, in which a path may not hold every letter."""
    connect = {"creator": lambda: sqlite3.connect(path, check_same_thread=False)}
    return RDBStorage("sqlite:///study.db", engine_kwargs=connect)


def _close(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _pruner() -> optuna.pruners.BasePruner:
    """Stops a trial whose best epoch so far is below the median of the others at this epoch."""
    return optuna.pruners.MedianPruner(
        n_startup_trials=TRIALS_BEFORE_PRUNING, n_warmup_steps=FIRST_JUDGED_EPOCH
    )


def _check_same(known: Mapping[str, Any], asked: Mapping[str, Any], path: Path) -> None:
    problems = [
        _difference(name, known.get(name), value)
        for name, value in asked.items()
        if known.get(name) != value
    ]
    if problems:
        advice = "Repeat the first command with --resume, or name another --out."
        raise BadInput(f"The study {path} cannot be resumed", [*problems, advice])


def _difference(name: str, there: Any, here: Any) -> str:
    if isinstance(here, dict) and isinstance(there, dict):
        changed = [key for key in here | there if there.get(key) != here.get(key)]
        parts = [f"{key} {there.get(key)!r} there, {here.get(key)!r} here" for key in changed]
        return f"its {name} is another: {', '.join(parts)}."
    if name == "clicks":
        return "it was begun with other clicks, or with other options for reading them."
    return f"its {name} is another: {there!r} there, {here!r} here."


def _has_started(trial: FrozenTrial) -> bool:
    return trial.state != TrialState.WAITING


def _outcome(trial: FrozenTrial) -> Outcome:
    return Outcome(trial.number, **{name: trial.user_attrs[name] for name in KEPT})
