"""Optuna study of a search: its storage, sampler and pruner, and how each trial ended.

Trials lie in SQLite. A trial that was stopped or killed is marked as failed and tried again with
the same settings. What the sampler suggests depends on the seed and on the trials that ended, not
on how often the search was stopped. One process works on a study at a time, since it holds the lock
of the folder. A trial that is running when the study is opened was therefore killed; no heartbeat
is needed to find out.
"""

import json
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from recsys.errors import BadInput
from recsys.fileio import replace_file, unwritable
from training.recipe import Recipe
from training.tuning.space import Space, Value

STUDY = "study.db"
NAME = "recsys"
ABOUT = "about"
RETRY = "retry"  # user attribute of a trial that a stopped search tries again
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
    """A running trial; `number` counts the trials that ended before it."""

    number: int
    settings: Mapping[str, Value]
    is_retry: bool
    optuna_trial: optuna.Trial = field(repr=False)

    def report(self, epoch: int, score: float) -> bool:
        """Store the score of an epoch; return whether the pruner lets the trial go on."""
        self.optuna_trial.report(score, epoch)
        return not self.optuna_trial.should_prune()


class _TrialFailed(Exception):
    """Raised when a trial ends without a score; the search goes on."""


class Study:
    """One study in its folder."""

    def __init__(self, study: optuna.Study, space: Space, base: Recipe, seed: int) -> None:
        self._study = study
        self._space = space
        self._base = base
        self._seed = seed
        self._close_killed_trials()

    def optimize(
        self,
        run: Callable[[Trial], Outcome],
        trials: int,
        after_trial: Callable[[list[Outcome]], bool],
    ) -> None:
        """Run trials until enough have ended or one is stopped.

        Args:
            run: Runs one trial to its end; an exception stops the search, and the trial is tried
                again by the next call.
            trials: How many are to have ended, those of earlier calls included.
            after_trial: Receives the outcomes so far; returns whether the search goes on.
        """

        def objective(optuna_trial: optuna.Trial) -> float:
            outcome = run(self._trial(optuna_trial))
            for name in OUTCOME_ATTRIBUTES:
                optuna_trial.set_user_attr(name, getattr(outcome, name))
            if STATES[outcome.ending] == TrialState.PRUNED:
                raise optuna.TrialPruned(outcome.reason)
            if outcome.ending == "failed" or outcome.score is None:
                raise _TrialFailed(outcome.reason)
            return outcome.score

        def callback(study: optuna.Study, _: optuna.trial.FrozenTrial) -> None:
            if not after_trial(self.outcomes()):
                study.stop()
            self._seed_sampler()

        self._queue_stopped_trial()
        self._seed_sampler()
        missing = trials - len(self.outcomes())
        self._study.optimize(objective, missing, catch=(_TrialFailed,), callbacks=[callback])

    def outcomes(self) -> list[Outcome]:
        """Return the outcome of every trial that ended, in order."""
        ended = self._study.get_trials(deepcopy=False, states=tuple(set(STATES.values())))
        attributes = [trial.user_attrs for trial in ended if "ending" in trial.user_attrs]
        return [
            Outcome(number, **{name: values[name] for name in OUTCOME_ATTRIBUTES})
            for number, values in enumerate(attributes)
        ]

    def importances(self) -> dict[str, float]:
        """Return the share of each setting in the score; nothing where trials are too few.

        PED-ANOVA, Watanabe et al., arXiv:2304.10255.
        """
        done = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(done) < TRIALS_FOR_IMPORTANCE:
            return {}
        with warnings.catch_warnings(action="ignore"):  # that a base outside the space lacks one
            return dict(optuna.importance.get_param_importances(self._study))

    def _trial(self, optuna_trial: optuna.Trial) -> Trial:
        """Choose the settings of a trial; those of the first are the base recipe's own."""
        number = len(self.outcomes())
        only = self._space.holds(self._base) if number == 0 else None
        settings = self._space.suggest(optuna_trial, self._base, only)
        if number == 0:
            settings = self._space.values_of(self._base)
        optuna_trial.set_user_attr("settings", settings)  # from here on it is tried again
        return Trial(number, settings, RETRY in optuna_trial.user_attrs, optuna_trial)

    def _seed_sampler(self) -> None:
        seed = np.random.SeedSequence([self._seed, len(self.outcomes())]).generate_state(1)
        self._study.sampler = TPESampler(seed=int(seed[0]))

    def _close_killed_trials(self) -> None:
        """Mark a trial that was killed as failed, or as it had ended if that is known."""
        for killed in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            ending = killed.user_attrs.get("ending", "failed")
            score = killed.user_attrs["score"] if ending == "finished" else None
            self._study.tell(killed.number, score, STATES[ending])

    def _queue_stopped_trial(self) -> None:
        """Queue the settings of the last trial if it did not end; the first are the base's own."""
        trials = self._study.get_trials(deepcopy=False)
        if trials and trials[-1].state == TrialState.WAITING:
            return
        last = trials[-1].user_attrs if trials else {}
        attributes = {RETRY: True} if "settings" in last and "ending" not in last else {}
        if not self.outcomes():  # never worse than the base recipe
            self._study.enqueue_trial(dict(self._space.holds(self._base)), attributes)
        elif attributes:
            self._study.enqueue_trial(trials[-1].params, attributes)


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
    path = folder / STUDY
    if not path.exists():
        replace_file(path, lambda new_path: _create(new_path, about))
    storage = None
    try:
        storage = _storage(path)
        pruner = MedianPruner(TRIALS_BEFORE_PRUNING, FIRST_JUDGED_EPOCH)
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
            yield Study(study, space, base, seed)
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
