"""Trainer: it resumes bit for bit, keeps the best weights, and stops where it diverges."""

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.sessions import Sessions
from recsys.errors import BadInput, Interrupted, TrainingStopped
from tests.support.training.builders import Quiet, words
from training.checkpoint import CHECKPOINT, EpochResult
from training.parallel.processes import OneProcess
from training.recipe import Recipe
from training.trainer import Trainer, TrainingResult, checkpoint_pause

TINY = Recipe(
    hidden=8, epochs=4, batch=4, negatives=6, validation=0.2, momentum=0.1, warmup=0.0, patience=4
)
CPU = torch.device("cpu")
CLICKS = words(*["abcd", "bcda", "cdab", "dabc", "abca", "bc"] * 20)


class KilledAfterEpoch(Quiet):
    """Listener that ends the run after an epoch, as `kill -9` would."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def epoch_ends(self, result: EpochResult) -> None:
        super().epoch_ends(result)
        if len(self.results) == self.after:
            raise Killed


class Killed(BaseException):
    """Exception that no handler of the package catches."""


class CtrlC(Quiet):
    """Listener that sends SIGINT in the second epoch."""

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None:
        if phase == "search" and epoch == 2 and done == 0:
            os.kill(os.getpid(), signal.SIGINT)


class FirstOfTwo(OneProcess):
    """First of two processes; the other one adds nothing."""

    size = 2


class OneOfTwo(OneProcess):
    """One of two processes, alone; it keeps what it tells the other one."""

    size = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.told: list[bool] = []

    def any(self, flag: bool) -> bool:
        self.told.append(flag)
        return super().any(flag)

    def of_first(self, value: Any) -> Any:
        return value


def run(folder: Path, recipe: Recipe = TINY, listener: Quiet | None = None) -> TrainingResult:
    folder.mkdir(exist_ok=True)
    return Trainer(recipe, folder, CPU, listener or Quiet()).train(CLICKS, None)


def assert_same(first: TrainingResult, second: TrainingResult) -> None:
    for name, tensor in first.weights.tensors().items():
        assert torch.equal(tensor, second.weights.tensors()[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """Return the result of an uninterrupted run."""
    return run(tmp_path_factory.mktemp("whole"))


def test_one_seed_gives_one_result(whole: TrainingResult, tmp_path: Path) -> None:
    assert_same(whole, run(tmp_path))


def test_another_seed_gives_another_result(whole: TrainingResult, tmp_path: Path) -> None:
    other = run(tmp_path, dataclasses.replace(TINY, seed=2))

    assert not torch.equal(whole.weights.matrix, other.weights.matrix)


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    whole: TrainingResult, tmp_path: Path, after: int
) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "killed", listener=KilledAfterEpoch(after))

    assert_same(whole, run(tmp_path / "killed"))


@pytest.mark.parametrize("embedding", ["separate", "none"])
def test_a_killed_run_resumes_with_an_input_table_and_the_memory_of_an_lstm(
    tmp_path: Path, embedding: str
) -> None:
    recipe = dataclasses.replace(TINY, cell="lstm", embedding=embedding, epochs=2)
    whole = run(tmp_path / "whole", recipe)
    with pytest.raises(Killed):
        run(tmp_path / "killed", recipe, listener=KilledAfterEpoch(1))

    assert_same(whole, run(tmp_path / "killed", recipe))


def test_ctrl_c_saves_in_the_middle_of_an_epoch(whole: TrainingResult, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"epoch 2 of search, step 1 of .*--resume"):
        run(tmp_path / "stopped", listener=CtrlC())

    assert_same(whole, run(tmp_path / "stopped"))


def test_one_of_several_processes_stops_where_an_epoch_has_fewer_steps_than_lie_between_requests(
    tmp_path: Path,
) -> None:
    recipe = dataclasses.replace(TINY, batch=48)  # two steps
    trainer = Trainer(recipe, tmp_path, CPU, CtrlC(), processes=FirstOfTwo())

    with pytest.raises(Interrupted, match=r"--resume"):
        trainer.train(CLICKS, None)

    assert (tmp_path / CHECKPOINT).exists()


def test_the_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "run", listener=KilledAfterEpoch(1))

    with pytest.raises(BadInput, match="belongs to other clicks, options or another recipe"):
        run(tmp_path / "run", dataclasses.replace(TINY, hidden=9))


def test_the_checkpoint_of_another_version_of_the_algorithm_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run would end with weights of neither version."""
    with pytest.raises(Killed):
        run(tmp_path, listener=KilledAfterEpoch(1))
    monkeypatch.setattr("training.checkpoint.ALGORITHM_VERSION", 0)

    with pytest.raises(BadInput, match="or to another version"):
        run(tmp_path)


def test_the_checkpoint_of_other_times_or_other_validation_is_refused(tmp_path: Path) -> None:
    """Both change the validation part, and with it the weights."""
    with pytest.raises(Killed):
        run(tmp_path, listener=KilledAfterEpoch(1))
    later = dataclasses.replace(CLICKS, time_ms=CLICKS.time_ms + 1)

    for train, valid in ((later, None), (CLICKS, CLICKS)):
        with pytest.raises(BadInput, match="belongs to other clicks"):
            Trainer(TINY, tmp_path, CPU, Quiet()).train(train, valid)


@pytest.mark.parametrize(
    ("least", "write_seconds", "pause"), [(60, 0.5, 60), (60, 8, 400), (600, 8, 600), (0, 8, 0)]
)
def test_checkpoints_take_at_most_a_fiftieth_of_the_time(
    least: float, write_seconds: float, pause: float
) -> None:
    assert checkpoint_pause(least, write_seconds) == pytest.approx(pause)


@pytest.mark.parametrize(("rank", "says_so"), [(0, True), (1, False)])
def test_the_process_that_writes_checkpoints_says_when_one_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, says_so: bool
) -> None:
    """The others do not know how long it takes to write one."""
    monkeypatch.setattr("training.trainer.STEPS_BETWEEN_CHECKS", 1)
    processes = OneOfTwo(rank)
    trainer = Trainer(
        dataclasses.replace(TINY, refit=False),
        tmp_path,
        CPU,
        Quiet(),
        checkpoint_seconds=0.0,
        processes=processes,
    )

    trainer.train(CLICKS, None)

    assert any(processes.told) == says_so


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"\x00" * 50)

    with pytest.raises(BadInput, match="is damaged"):
        run(tmp_path)


def test_a_diverged_loss_stops_the_run_and_names_step_rate_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingStopped,
        match=r"NaN or infinite \(epoch 1, step .*learning_rate=1e\+38\).*--set clip=1.0",
    ):
        run(tmp_path, dataclasses.replace(TINY, learning_rate=1e38))


def test_the_refit_lasts_as_long_as_the_best_epoch(tmp_path: Path) -> None:
    listener = Quiet()
    trained = run(tmp_path, listener=listener)

    search = [r for r in listener.results if r.phase == "search"]
    best = max(search, key=lambda r: r.metrics["mrr@20"])
    assert trained.best_epoch == best.epoch
    assert len([r for r in listener.results if r.phase == "refit"]) == best.epoch
    assert trained.results == listener.results


def test_patience_ends_the_search(tmp_path: Path) -> None:
    listener = Quiet()
    impatient = dataclasses.replace(TINY, epochs=30, patience=1, refit=False)

    trained = run(tmp_path, impatient, listener)

    assert len(listener.results) == trained.best_epoch + 1 < 30


def test_without_refit_the_best_weights_are_kept(tmp_path: Path) -> None:
    kept = run(tmp_path / "a", dataclasses.replace(TINY, refit=False))
    short = dataclasses.replace(TINY, refit=False, epochs=kept.best_epoch)

    assert_same(kept, run(tmp_path / "b", short))


def test_without_validation_all_epochs_are_run_on_everything(tmp_path: Path) -> None:
    listener = Quiet()
    run(tmp_path, dataclasses.replace(TINY, validation=0.0), listener)

    assert [r.phase for r in listener.results] == ["search"] * 4
    assert listener.results[0].events == int((CLICKS.lengths - 1).sum())


def test_a_handful_of_sessions_can_be_learned(tmp_path: Path) -> None:
    """The official code crashes where there are fewer sessions than rows of a batch."""
    few: Sessions = words("ab", "ba")

    trained = Trainer(TINY, tmp_path, CPU, Quiet()).train(few, None)

    assert list(trained.catalogue.item_ids) == ["a", "b"]


def test_sessions_labelled_for_validation_are_never_learned_from(tmp_path: Path) -> None:
    listener = Quiet()
    whole = words(*["abcd", "bcda"] * 20, *["xyab"] * 4)
    labelled = np.arange(len(whole)) >= 40

    trained = Trainer(TINY, tmp_path, CPU, listener).train(
        whole.keep_sessions(~labelled), whole.keep_sessions(labelled)
    )

    assert list(trained.catalogue.item_ids) == ["a", "b", "c", "d"]
    assert {r.phase for r in listener.results} == {"search"}


def test_a_validation_part_of_new_items_alone_is_refused_before_any_work(tmp_path: Path) -> None:
    listener = Quiet()
    with pytest.raises(BadInput, match="--set validation=0"):
        Trainer(TINY, tmp_path, CPU, listener).train(words(*["ab"] * 35, *["xy"] * 15), None)

    assert listener.results == []
