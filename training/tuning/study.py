"""Optuna study of a search: its storage, sampler and pruner, and how each trial ended.

Trials lie in SQLite, which processes change one after the other, because a lock is held meanwhile.
So several of them may work on one study. A trial that was stopped or killed is marked as failed and
tried again with the same number and the same settings. What the sampler suggests depends on the
seed, on the number of the trial and on the trials before it, not on how often the search was
stopped.
"""

import json
import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from recsys.errors import BadInput
from recsys.fileio import replace_file, unwritable
from training.recipe import Recipe
from training.tuning.locks import StudyLocks
from training.tuning.space import Space, Value

STUDY = "study.db"
NAME = "recsys"
ABOUT = "about"
NUMBER = "number"  # user attribute of a trial: it keeps its number when it is tried again
FIRST_JUDGED_EPOCH = 2  # the first epoch says more about the learning rate than about the end
TRIALS_BEFORE_PRUNING = 5
TRIALS_FOR_IMPORTANCE = 10  # fewer tell noise
STATES = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,  # so that the sampler avoids such settings
    "failed": TrialState.FAIL,
}
OUTCOME_ATTRIBUTES = ("settings", "score", "epochs", "seconds", "reason", "ending")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one trial; `score` is that of its best epoch, None where it has none."""

    number: int
    ending: str  # finished, pruned, diverged or failed
    score: float | None
    epochs: int
    seconds: float
    reason: str
    settings: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Trial:
    """A running trial; numbers count from 0, and a trial that is tried again keeps its number."""

    number: int
    settings: Mapping[str, Value]
    folder: Path  # of its checkpoint
    optuna_trial: optuna.Trial = field(repr=False)


class Study:
    """One study in its folder."""

    def __init__(
        self, study: optuna.Study, locks: StudyLocks, space: Space, base: Recipe, seed: int
    ) -> None:
        self._study = study
        self._locks = locks
        self._space = space
        self._base = base
        self._seed = seed

    @contextmanager
    def next_trial(self, trials: int) -> Iterator[Trial | None]:
        """Begin a trial; without `finish`, it is tried again later.

        Args:
            trials: How many there are to be in all.

        Yields:
            None where all have begun, and processes are at work on those that have not ended.
        """
        with self._locks.study():
            trial = self._begin(trials)
            lock = None if trial is None else self._locks.hold(trial.number)
        try:
            yield trial
        finally:
            if lock is not None:
                os.close(lock)

    def report(self, trial: Trial, epoch: int, score: float) -> bool:
        """Store the score of an epoch; return whether the pruner lets the trial go on."""
        with self._locks.study():
            trial.optuna_trial.report(score, epoch)
            return not trial.optuna_trial.should_prune()

    def finish(self, trial: Trial, outcome: Outcome) -> None:
        """Store the outcome of a trial, and remove its checkpoint."""
        with self._locks.study():
            for name in OUTCOME_ATTRIBUTES:
                trial.optuna_trial.set_user_attr(name, getattr(outcome, name))
            self._tell(trial.optuna_trial.number, outcome.ending, outcome.score)
            self._locks.remove(trial.number)

    def outcomes(self) -> list[Outcome]:
        """Return the outcome of every trial that ended, by number."""
        with self._locks.study():
            ended = self._study.get_trials(deepcopy=False, states=tuple(set(STATES.values())))
        attributes = [trial.user_attrs for trial in ended if "ending" in trial.user_attrs]
        outcomes = [
            Outcome(values[NUMBER], **{name: values[name] for name in OUTCOME_ATTRIBUTES})
            for values in attributes
        ]
        return sorted(outcomes, key=lambda outcome: outcome.number)

    def importances(self) -> dict[str, float]:
        """Return the share of each setting in the score; nothing where trials are too few.

        PED-ANOVA, Watanabe et al., arXiv:2304.10255.
        """
        with self._locks.study():
            done = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if len(done) < TRIALS_FOR_IMPORTANCE:
                return {}
            with warnings.catch_warnings(action="ignore"):  # a base outside the space lacks one
                return dict(optuna.importance.get_param_importances(self._study))

    def _begin(self, trials: int) -> Trial | None:
        """Begin the trial of the lowest number that no other one has, if there is one."""
        self._close_killed_trials()
        known = self._study.get_trials(deepcopy=False)
        if all(trial.state != TrialState.WAITING for trial in known):
            taken = {
                trial.user_attrs[NUMBER]
                for trial in known
                if trial.state == TrialState.RUNNING or "ending" in trial.user_attrs
            }
            number = next((number for number in range(trials) if number not in taken), None)
            if number is None:
                return None
            self._queue(number, known)
        optuna_trial = self._study.ask()
        number = optuna_trial.user_attrs[NUMBER]
        settings = self._settings(optuna_trial, number)
        return Trial(number, settings, self._locks.checkpoint_folder(number), optuna_trial)

    def _queue(self, number: int, known: Sequence[FrozenTrial]) -> None:
        """Queue a trial; one that was stopped or killed is tried again with its settings."""
        before = [trial.params for trial in known if trial.user_attrs[NUMBER] == number]
        params = before[-1] if before else {}
        if number == 0:  # never worse than the base recipe
            params = dict(self._space.holds(self._base))
        self._study.enqueue_trial(params, {NUMBER: number})

    def _settings(self, optuna_trial: optuna.Trial, number: int) -> dict[str, Value]:
        """Choose the settings of a trial; those of the first are the base recipe's own."""
        seed = np.random.SeedSequence([self._seed, number]).generate_state(1)
        self._study.sampler = TPESampler(seed=int(seed[0]))
        only = self._space.holds(self._base) if number == 0 else None
        settings = self._space.suggest(optuna_trial, self._base, only)
        return self._space.values_of(self._base) if number == 0 else settings

    def _close_killed_trials(self) -> None:
        """Mark a trial that was killed as failed, or as it had ended if that is known."""
        for killed in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            known = killed.user_attrs
            if not self._locks.is_held(known[NUMBER]):
                self._tell(killed.number, known.get("ending", "failed"), known.get("score"))
                if "ending" in known:
                    self._locks.remove(known[NUMBER])

    def _tell(self, trial: int, ending: str, score: float | None) -> None:
        self._study.tell(trial, score if ending == "finished" else None, STATES[ending])


@contextmanager
def open_study(
    folder: Path, about: Mapping[str, Any], space: Space, base: Recipe, seed: int
) -> Iterator[Study]:
    """Open the study of a folder, or create it.

    Args:
        folder: The folder of `study.db`.
        about: What must not change while the study lasts, as JSON.
        space: The settings to try.
        base: The recipe that they change.
        seed: Seed of the sampler.

    Raises:
        BadInput: The file is no study, or a study that differs in `about`.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with closing(StudyLocks(folder)) as locks, _opened(folder / STUDY, about, locks) as study:
        yield Study(study, locks, space, base, seed)


@contextmanager
def _opened(path: Path, about: Mapping[str, Any], locks: StudyLocks) -> Iterator[optuna.Study]:
    with locks.study():
        if not path.exists():
            replace_file(path, lambda new_path: _create(new_path, about))
    storage = None
    try:
        pruner = MedianPruner(TRIALS_BEFORE_PRUNING, FIRST_JUDGED_EPOCH)
        with locks.study():
            storage = _storage(path)
            study = optuna.load_study(study_name=NAME, storage=storage, pruner=pruner)
            known = study.user_attrs[ABOUT]
    except (SQLAlchemyError, sqlite3.Error, KeyError, RuntimeError) as broken:
        raise BadInput(
            "The study cannot be resumed",
            [f"{path} is damaged or no study ({broken}). Name another --out."],
        ) from broken
    else:
        _check_same(known, json.loads(json.dumps(about)), path)
        try:
            yield study
        except (SQLAlchemyError, StorageInternalError) as failed:
            raise unwritable(path, failed) from failed
    finally:
        if storage is not None:
            _close(storage)


def _create(path: Path, about: Mapping[str, Any]) -> None:
    path.unlink(missing_ok=True)  # of a process that was killed here
    storage = _storage(path)
    try:
        study = optuna.create_study(study_name=NAME, storage=storage, direction="maximize")
        study.set_user_attr(ABOUT, about)
    finally:
        _close(storage)


def _storage(path: Path) -> RDBStorage:
    """Connect by path and not by URL, in which a path may not hold every letter."""
    connect = {"creator": lambda: sqlite3.connect(path, check_same_thread=False)}
    return RDBStorage("sqlite:///study.db", engine_kwargs=connect)


def _close(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _check_same(known: Mapping[str, Any], given: Mapping[str, Any], path: Path) -> None:
    problems = [
        _difference(name, known.get(name), value)
        for name, value in given.items()
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
