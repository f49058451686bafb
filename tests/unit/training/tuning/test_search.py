"""The search resumes as if never stopped, records every ending, keeps the best recipe."""

import csv
import dataclasses
import os
import signal
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from recsys.errors import BadInput, Interrupted
from tests.support.training.studies import BAD, ended, opened, search, started
from training.progress import TuneBars
from training.recipe import load_recipe
from training.tuning.locks import LOCK, RUNNING
from training.tuning.search import (
    BEST,
    TRIALS,
    TuningOrigin,
    write_results,
)
from training.tuning.space import Dimension, Space
from training.tuning.study import NAME, NUMBER, STUDY, Outcome

TRIALS_ENOUGH = 9


class Killed(BaseException):
    """End of the process: no handler of the search or of Optuna catches it."""


class KillingBars(TuneBars):
    """Bars that end the process when an epoch of a trial begins, as `kill -9` would."""

    def __init__(self, trial: int, epoch: int) -> None:
        super().__init__(Console(quiet=True))
        self._at = (trial, epoch)

    def epoch_begins(self, trial: int, epoch: int, epochs: int, done: int, events: int) -> None:
        if (trial, epoch) == self._at:
            self.act()

    def act(self) -> None:
        raise Killed


class InterruptingBars(KillingBars):
    """Bars that press Ctrl-C instead."""

    def act(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / TRIALS).open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def numbers(folder: Path) -> list[str]:
    return [row["trial"] for row in rows(folder)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Return the trials of a search that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert search(folder, TRIALS_ENOUGH)
    assert left(folder) == {STUDY, LOCK, BEST, TRIALS}
    return rows(folder)


def test_a_bad_recipe_is_improved_in_few_trials(whole: list[dict[str, str]]) -> None:
    """Trial 0 is the bad recipe itself; the walk over eight letters can be learned."""
    best = max(float(row["score"]) for row in whole if row["ending"] == "finished")

    assert float(whole[0]["learning_rate"]) == 1e-5
    assert best > 1.5 * float(whole[0]["score"])


def test_unpromising_trials_are_pruned_before_their_last_epoch(whole: list[dict[str, str]]) -> None:
    pruned = [row for row in whole if row["ending"] == "pruned"]

    assert pruned
    assert {row["epochs"] for row in pruned} == {"2"}
    assert all(int(row["trial"]) >= 5 for row in pruned), "the first five are never pruned"
    assert "worse than the median" in pruned[0]["reason"]


def test_the_best_recipe_is_the_base_with_the_settings_of_the_best_trial(tmp_path: Path) -> None:
    search(tmp_path, 4)

    found = load_recipe(str(tmp_path / BEST))

    finished = [row for row in rows(tmp_path) if row["ending"] == "finished"]
    best = max(finished, key=lambda row: float(row["score"]))
    rate, momentum = float(best["learning_rate"]), float(best["momentum"])
    assert found == dataclasses.replace(BAD, learning_rate=rate, momentum=momentum)
    head = (tmp_path / BEST).read_text().splitlines()[0]
    assert f"Trial {best['trial']}, the best of 4" in head
    assert f"mrr@20 {float(best['score']):.4f}" in head


def test_a_command_of_several_lines_stays_a_comment(tmp_path: Path) -> None:
    outcome = Outcome(0, "finished", 0.5, 3, 1.0, "", {"momentum": 0.1})
    write_results(
        tmp_path, [outcome], TuningOrigin(BAD, "default", "recsys tune --clicks 'a\nhidden = 3'")
    )

    assert load_recipe(str(tmp_path / BEST)) == dataclasses.replace(BAD, momentum=0.1)


def test_a_search_in_two_parts_has_the_trials_of_one(
    whole: list[dict[str, str]], tmp_path: Path
) -> None:
    search(tmp_path, 3)
    search(tmp_path, TRIALS_ENOUGH)

    assert rows(tmp_path) == whole


@pytest.mark.parametrize(("trial", "epoch"), [(0, 2), (1, 1), (6, 3)])
def test_a_killed_search_resumes_with_the_same_trials(
    whole: list[dict[str, str]], tmp_path: Path, trial: int, epoch: int
) -> None:
    if epoch > int(whole[trial]["epochs"]):
        trial = max(n for n, row in enumerate(whole) if int(row["epochs"]) >= epoch)
    with pytest.raises(Killed):
        search(tmp_path, TRIALS_ENOUGH, KillingBars(trial, epoch))
    kept = rows(tmp_path) if trial else []
    search(tmp_path, TRIALS_ENOUGH)

    assert len(kept) == trial
    assert rows(tmp_path) == whole
    assert left(tmp_path) == {STUDY, LOCK, BEST, TRIALS}


def test_a_trial_killed_after_its_outcome_was_stored_is_not_run_again(tmp_path: Path) -> None:
    search(tmp_path, 1)
    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{tmp_path / STUDY}")
    outcome = {"ending": "finished", "score": 0.75, "epochs": 3, "seconds": 1.0, "reason": ""}
    trial = study.ask()
    trial.set_user_attr(NUMBER, 1)
    for name, value in {**outcome, "settings": {"momentum": 0.1}}.items():
        trial.set_user_attr(name, value)

    search(tmp_path, 2)

    assert [row["score"] for row in rows(tmp_path)][1] == "0.750000"
    assert load_recipe(str(tmp_path / BEST)).momentum == 0.1


def test_ctrl_c_keeps_finished_trials_and_names_resume(
    whole: list[dict[str, str]], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted, match=r"2 finished trials are in .*--resume"):
        search(tmp_path, TRIALS_ENOUGH, InterruptingBars(2, 2))

    assert [(row["trial"], row["score"]) for row in rows(tmp_path)] == [
        (row["trial"], row["score"]) for row in whole[:2]
    ]
    assert load_recipe(str(tmp_path / BEST))
    search(tmp_path, TRIALS_ENOUGH)
    assert rows(tmp_path) == whole


def test_a_search_stops_at_its_time_limit_and_can_be_resumed(
    whole: list[dict[str, str]], tmp_path: Path
) -> None:
    assert not search(tmp_path, TRIALS_ENOUGH, seconds=25)
    assert 0 < len(rows(tmp_path)) < TRIALS_ENOUGH

    assert search(tmp_path, TRIALS_ENOUGH)
    assert rows(tmp_path) == whole


def test_a_time_limit_in_the_past_runs_no_trial(tmp_path: Path) -> None:
    assert not search(tmp_path, 1, seconds=-1)
    assert left(tmp_path) == {STUDY, LOCK}


def test_a_nan_loss_ends_the_trial_and_not_the_search(tmp_path: Path) -> None:
    rates = Space((Dimension("learning_rate", choices=(0.1, 1e38)),))
    search(tmp_path, 6, space=rates, base=dataclasses.replace(BAD, learning_rate=0.1))

    diverged = [row for row in rows(tmp_path) if row["learning_rate"] == "1e+38"]

    assert diverged
    assert {row["ending"] for row in diverged} == {"diverged"}
    assert "the loss is no number in epoch 1" in diverged[0]["reason"]
    assert rows(tmp_path)[0]["ending"] == "finished"
    assert len(rows(tmp_path)) == 6


def test_invalid_settings_are_recorded_as_failed(tmp_path: Path) -> None:
    batches = Space((Dimension("batch", choices=(4, 1)),))
    search(tmp_path, 5, space=batches, base=dataclasses.replace(BAD, negatives=0, batch=4))

    failed = [row for row in rows(tmp_path) if row["batch"] == "1"]

    assert failed
    assert {row["ending"] for row in failed} == {"failed"}
    assert "batch must be at least 2 where negatives is 0, got 1." in failed[0]["reason"]
    assert {row["score"] for row in failed} == {""}


def test_importances_need_ten_trials_and_no_base_within_the_space(tmp_path: Path) -> None:
    rates = Space((Dimension("learning_rate", 0.01, 1.0), Dimension("sample_alpha", 0.0, 1.0)))
    base = dataclasses.replace(BAD, epochs=1)
    search(tmp_path, 9, space=rates, base=base)
    with opened(tmp_path, rates, base) as study:
        assert study.importances() == {}

    search(tmp_path, 10, space=rates, base=base)

    with opened(tmp_path, rates, base) as study:
        shares = study.importances()
    assert set(shares) == {"learning_rate", "sample_alpha"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert rows(tmp_path)[0]["learning_rate"] == "1e-05", "the base keeps its own value"


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / STUDY).write_bytes(b"no database" * 100)

    with pytest.raises(BadInput, match="is damaged or no study"):
        search(tmp_path, 1)

    assert left(tmp_path) == {STUDY, LOCK}


def test_two_processes_share_the_trials(tmp_path: Path) -> None:
    first, second = (started(tmp_path, name) for name in ("first", "second"))

    assert [ended(first), ended(second)] == [0, 0]

    assert numbers(tmp_path) == ["0", "1", "2", "3", "4", "5"]
    assert rows(tmp_path)[0]["learning_rate"] == "1e-05", "one of them tries the base recipe"
    assert len({row["learning_rate"] for row in rows(tmp_path)}) == 6
    assert left(tmp_path) - {"first", "second"} == {STUDY, LOCK, BEST, TRIALS}


def test_a_trial_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    first, second = started(tmp_path, "first"), started(tmp_path, "second", killed=True)

    assert [ended(first), ended(second)] == [0, -signal.SIGKILL]

    assert numbers(tmp_path) == ["0", "1", "2", "3", "4", "5"]
    assert {row["ending"] for row in rows(tmp_path)} <= {"finished", "pruned"}
    assert not (tmp_path / RUNNING).exists()


def test_a_process_waits_for_the_trials_of_others(tmp_path: Path) -> None:
    """It runs the others, and leaves the one that is at work until its time is over."""
    with opened(tmp_path) as study, study.next_trial(2) as trial:
        assert trial is not None
        assert trial.number == 0
        assert not search(tmp_path, 2, seconds=15)
        assert numbers(tmp_path) == ["1"]

    assert search(tmp_path, 2)
    assert numbers(tmp_path) == ["0", "1"]


def test_a_path_may_contain_any_character(tmp_path: Path) -> None:
    folder = tmp_path / "a study?x=1&mode=ro%20#1"

    assert search(folder, 1)

    assert left(folder) == {STUDY, LOCK, BEST, TRIALS}
    assert not (folder / RUNNING).exists()
