"""Competition: it resumes bit for bit, keeps its budget, and lets no lucky rival win."""

import dataclasses
import json
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from data.sessions import Sessions
from recsys.errors import BadInput, Interrupted, TrainingStopped
from tests.support.training.builders import Quiet, words
from training.checkpoint import EpochResult
from training.competition.budget import Budget, EpochCost, epoch_cost
from training.competition.competition import Choice, Competition
from training.competition.decisions import DECISIONS
from training.competition.rivals import Rival
from training.competition.standing import CHOSEN, Standing
from training.recipe import Recipe
from training.stop import Stop, stop_on_signal
from training.trainer import (
    FromScratch,
    Trainer,
    TrainingResult,
)
from training.validation import validation_split

CPU = torch.device("cpu")
CLICKS = words(*["abcd", "bcda", "cdab", "dabc", "abca", "bc"] * 20)
# the incumbent learns too slowly, so that the challenger wins
SLOW = Recipe(
    hidden=8,
    epochs=5,
    patience=5,
    batch=8,
    negatives=6,
    validation=0.2,
    warmup=0.0,
    learning_rate=1e-4,
)
FAST = dataclasses.replace(SLOW, learning_rate=0.1, dropout_embedding=0.0, dropout_hidden=0.0)
MIDDLE = dataclasses.replace(FAST, learning_rate=0.01)
RIVALS = (Rival("slow", SLOW), Rival("fast", FAST), Rival("middle", MIDDLE))
WIDE = Budget(4.0)


class Killed(BaseException):
    """Exception that no handler of the package catches."""


@dataclass
class Listener(Quiet):
    """Listener of all trainers; it kills the run after an epoch, or interrupts it in one."""

    kill_after: int = 0
    interrupt_in: int = 0

    def __post_init__(self) -> None:
        self.results: list[EpochResult] = []

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None:
        if len(self.results) + 1 == self.interrupt_in and done == 0:
            os.kill(os.getpid(), signal.SIGINT)

    def epoch_ends(self, result: EpochResult) -> None:
        super().epoch_ends(result)
        if len(self.results) == self.kill_after:
            raise Killed


@dataclass(frozen=True)
class Run:
    """Competition in a folder, and the training of its winner."""

    folder: Path
    rivals: Sequence[Rival] = RIVALS
    budget: Budget = WIDE
    clicks: Sessions = CLICKS

    def go(self, listener: Quiet | None = None) -> tuple[Choice, TrainingResult]:
        heard = listener or Quiet()

        def trainer_of(rival: Rival, search_epochs: int) -> Trainer:
            folder = self.folder / rival.name
            folder.mkdir(parents=True, exist_ok=True)
            return Trainer(rival.recipe, folder, CPU, heard, search_epochs=search_epochs)

        self.folder.mkdir(exist_ok=True)
        with stop_on_signal() as stop:
            choice = self.competition(trainer_of, stop).run()
            trainer = trainer_of(choice.rival, choice.search_epochs)
            return choice, trainer.train(self.clicks, None, FromScratch(), stop)

    def competition(self, trainer_of: object, stop: Stop) -> Competition:
        return Competition(
            self.rivals,
            self.budget,
            self.folder,
            trainer_of,  # type: ignore[arg-type]
            self.clicks,
            None,
            FromScratch(),
            stop,
        )


def assert_same(first: TrainingResult, second: TrainingResult) -> None:
    for name, tensor in first.weights.tensors().items():
        assert torch.equal(tensor, second.weights.tensors()[name]), name


def alone(recipe: Recipe, folder: Path) -> TrainingResult:
    folder.mkdir()
    return Trainer(recipe, folder, CPU, Quiet()).train(CLICKS, None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Choice, TrainingResult, int]:
    """Return the result of an uninterrupted run, and its number of epochs."""
    listener = Listener()
    return *Run(tmp_path_factory.mktemp("whole")).go(listener), len(listener.results)


def standings(choice: Choice) -> dict[str, Standing]:
    return {row.recipe: row for row in choice.standings}


def test_the_better_recipe_wins_and_is_trained_as_alone(
    whole: tuple[Choice, TrainingResult, int], tmp_path: Path
) -> None:
    choice, trained, _ = whole

    assert choice.rival.name == "fast"
    assert standings(choice)["fast"].outcome == CHOSEN
    assert standings(choice)["slow"].outcome == "beaten"
    assert standings(choice)["middle"].outcome in ("another was better", "not clearly better")
    assert_same(trained, alone(FAST, tmp_path / "alone"))


def test_a_challenger_without_budget_for_its_end_says_so(tmp_path: Path) -> None:
    rivals = [Rival("fast", FAST), Rival("slow", dataclasses.replace(SLOW, epochs=12))]
    choice, _ = Run(tmp_path, rivals, Budget(1.7)).go()

    row = standings(choice)["slow"]
    assert 3 <= row.epochs < 12
    assert row.outcome == "not clearly better when the budget was over"


def test_no_epoch_is_trained_twice(whole: tuple[Choice, TrainingResult, int]) -> None:
    choice, trained, epochs = whole

    assert epochs == sum(row.epochs for row in choice.standings) + trained.best_epoch


@pytest.mark.parametrize(
    "after", [1, 7, 13, *(pytest.param(n, marks=pytest.mark.long) for n in (3, 5, 9, 11))]
)
def test_a_killed_competition_ends_as_one_that_was_not(
    whole: tuple[Choice, TrainingResult, int], tmp_path: Path, after: int
) -> None:
    run = Run(tmp_path / "killed")
    assert after < whole[2]
    with pytest.raises(Killed):
        run.go(Listener(kill_after=after))

    choice, trained = run.go()

    assert choice == whole[0]
    assert_same(trained, whole[1])


@pytest.mark.parametrize(
    "epoch", [1, 8, *(pytest.param(n, marks=pytest.mark.long) for n in (5, 11, 14))]
)
def test_an_interrupted_competition_ends_as_one_that_was_not(
    whole: tuple[Choice, TrainingResult, int], tmp_path: Path, epoch: int
) -> None:
    run = Run(tmp_path / "stopped")
    assert epoch <= whole[2]
    with pytest.raises(Interrupted, match="--resume"):
        run.go(Listener(interrupt_in=epoch))

    choice, trained = run.go()

    assert choice == whole[0]
    assert_same(trained, whole[1])


def test_an_equal_rival_does_not_win(tmp_path: Path) -> None:
    choice, trained = Run(tmp_path / "run", (Rival("one", FAST), Rival("other", FAST))).go()

    assert choice.rival.name == "one"
    assert standings(choice)["other"].outcome == "not clearly better"
    assert_same(trained, alone(FAST, tmp_path / "alone"))


def test_a_diverging_challenger_leaves(tmp_path: Path) -> None:
    wild = dataclasses.replace(FAST, learning_rate=1e38)
    choice, _ = Run(tmp_path, (Rival("fast", FAST), Rival("wild", wild))).go()

    rows = standings(choice)
    assert (rows["wild"].outcome, rows["wild"].epochs) == ("diverged", 1)
    assert (rows["fast"].outcome, rows["fast"].epochs) == (CHOSEN, FAST.epochs)


def test_a_diverging_incumbent_stops_the_run(tmp_path: Path) -> None:
    wild = dataclasses.replace(FAST, learning_rate=1e38)
    with pytest.raises(TrainingStopped):
        Run(tmp_path, (Rival("wild", wild), Rival("fast", FAST))).go()


def costs_of(rivals: Sequence[Rival]) -> dict[str, EpochCost]:
    search_part, valid = validation_split(CLICKS, None, SLOW)
    assert valid is not None
    return {
        r.name: epoch_cost(r.recipe, CLICKS, search_part, valid.sessions, may_refit=True)
        for r in rivals
    }


@pytest.mark.parametrize("trainings", [0.2, 0.5, 1.0, 1.3, 1.7, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("patience", [1, 5])
def test_competition_and_refit_stay_within_the_budget(
    tmp_path: Path, trainings: float, patience: int
) -> None:
    """The budget is in trainings of the incumbent as it ended, or with all its epochs before."""
    rivals = [Rival("fast", dataclasses.replace(FAST, patience=patience))]
    rivals += [
        Rival(r.name, dataclasses.replace(r.recipe, epochs=12)) for r in (RIVALS[0], RIVALS[2])
    ]
    choice, trained = Run(tmp_path, rivals, Budget(trainings)).go()

    costs, rows = costs_of(rivals), standings(choice)
    epochs = {name: row.epochs for name, row in rows.items()}
    epochs[choice.rival.name] = len([r for r in trained.results if r.phase == "search"])
    spent = sum(epochs[name] * cost.search for name, cost in costs.items())
    spent += trained.best_epoch * costs[choice.rival.name].refit
    own = costs["fast"]
    training = FAST.epochs * own.both
    if any(rows[r.name].epochs > 3 for r in rivals[1:]):
        training = rows["fast"].epochs * own.search + rows["fast"].best_epoch * own.refit
    assert 0 < spent <= trainings * training + 1e-6


def test_a_budget_of_one_training_leaves_none_for_rivals(tmp_path: Path) -> None:
    choice, trained = Run(tmp_path / "run", budget=Budget(1.0)).go()

    assert choice.rival.name == "slow"
    assert standings(choice)["fast"].outcome == "not tried: the budget is too small"
    assert_same(trained, alone(SLOW, tmp_path / "alone"))


def test_a_time_becomes_operations_once(tmp_path: Path) -> None:
    """What the first run measures, the resumed one reads."""
    run = Run(tmp_path / "run", budget=Budget(None, 3600.0))
    with pytest.raises(Killed):
        run.go(Listener(kill_after=2))
    file = run.folder / DECISIONS
    stored = json.loads(file.read_text())
    assert stored["decisions"]["operations per second"] > 0
    stored["decisions"]["operations per second"] = 1.0  # as if the machine were a very slow one
    file.write_text(json.dumps(stored))

    choice, _ = run.go()

    assert choice.rival.name == "slow"
    assert choice.search_epochs == 1


def test_another_budget_or_other_rivals_do_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        Run(tmp_path).go(Listener(kill_after=10))

    for other in (Run(tmp_path, budget=Budget(3.0)), Run(tmp_path, RIVALS[:2])):
        with pytest.raises(BadInput, match="belongs to other clicks, options, recipes or another"):
            other.go()


def test_a_damaged_file_of_decisions_is_refused(tmp_path: Path) -> None:
    (tmp_path / DECISIONS).write_text("[")

    with pytest.raises(BadInput, match="is damaged"):
        Run(tmp_path).go()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
