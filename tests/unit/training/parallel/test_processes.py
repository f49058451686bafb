"""Processes of a run: they train like one, tell each other everything, and survive a death."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.processes import fork_server
from tests.support.training.process_runs import (
    MODELS,
    RECIPES,
    lists_of_model,
    results_of_model,
    train_all,
    train_long,
    train_on_all_processes,
    weights_in,
)
from training.parallel.launch import launch as launch_by
from training.parallel.processes import ALONE

# float32 sums in another order, over four epochs; the weights are of the order of 1
BOUND = 1e-4


def launch(work: Callable[[], Path | None], processes: int) -> Path:
    fork_server()  # loads what the processes need
    return launch_by(work, processes, "forkserver")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the trainings in one process."""
    folder = tmp_path_factory.mktemp("alone")
    train_all(folder)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the same trainings in two processes."""
    return launch(partial(train_on_all_processes, tmp_path_factory.mktemp("two")), 2)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the same trainings in four processes."""
    return launch(partial(train_on_all_processes, tmp_path_factory.mktemp("four")), 4)


@pytest.fixture(params=["two", pytest.param("four", marks=pytest.mark.long)])
def together(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def told(folder: Path) -> list[dict[str, Any]]:
    """Return what each process was told by the others."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("told *.json"))]


@pytest.mark.parametrize("name", RECIPES)
def test_several_processes_give_the_weights_of_one(alone: Path, together: Path, name: str) -> None:
    expected, weights = weights_in(alone / name), weights_in(together / name)

    assert weights.keys() == expected.keys()
    for weight, tensor in weights.items():
        assert (tensor - expected[weight]).abs().max() < BOUND, weight
    assert not all(torch.equal(weights[w], expected[w]) for w in weights), "the order of sums"


@pytest.mark.parametrize("name", RECIPES)
def test_several_processes_give_the_metrics_of_one(alone: Path, together: Path, name: str) -> None:
    expected, epochs = (
        json.loads((folder / name / "epochs.json").read_text()) for folder in (alone, together)
    )

    assert len(epochs) == len(expected)
    for of_one, of_several in zip(expected, epochs, strict=True):
        assert of_several["metrics"] == pytest.approx(of_one["metrics"], abs=5e-4)
        assert of_several["loss"] == pytest.approx(of_one["loss"], rel=1e-5)
        assert (of_one["processes"], of_one["bytes_per_step"]) == (1, 0)
        assert of_several["bytes_per_step"] > 0
        assert 0 < of_several["communication_seconds"] < of_several["seconds"]


def test_a_test_part_that_is_shared_has_the_ranks_of_one_process(together: Path) -> None:
    """The baselines are the work of the first process, which then has all results."""
    expected, (first, *others) = results_of_model(ALONE), [one["tested"] for one in told(together)]

    for of_one in (first, *others):
        assert of_one["ranks"] == expected["ranks"]
        assert of_one["metrics"] == expected["metrics"]
        assert 0 < of_one["scored"] < expected["scored"]
    assert sum(one["scored"] for one in (first, *others)) == expected["scored"]
    assert first["names"] == expected["names"]
    assert {tuple(one["names"]) for one in others} == {MODELS}


def test_item_lists_that_are_shared_are_those_of_one_process(together: Path) -> None:
    """Of all pairs, and from shortlists of the same clusters; all choose the same retrieval."""
    expected, found = lists_of_model(ALONE), [one["lists"] for one in told(together)]

    for of_one in found:
        assert of_one["None"] == expected["None"]
        assert of_one["90"] == expected["90"]
        assert of_one["chosen"] == json.loads(json.dumps(expected["chosen"]))
        assert 0 < of_one["made"] < expected["made"]
    assert sum(of_one["made"] for of_one in found) == expected["made"]


def test_sums_are_over_all_processes(together: Path) -> None:
    size = len(told(together))
    total = float(sum(range(1, size + 1)))

    for of_one in told(together):
        assert of_one["sum"] == [[[total, total], [total, total]], [1.0]]
        assert of_one["bytes"] == 5 * 4


def test_the_first_process_is_the_source_of_a_broadcast(together: Path) -> None:
    for of_one in told(together):
        assert of_one["broadcast"] == [0, 1, 2]
        assert of_one["of first"] == {"rank": 0}


def test_texts_of_all_processes_arrive_in_order(together: Path) -> None:
    size = len(told(together))

    for of_one in told(together):
        assert of_one["gather"] == ["ä" * rank for rank in range(size)]
        assert of_one["any"] == [True, False]


def test_an_error_of_one_process_ends_all(together: Path) -> None:
    first, second, *_ = told(together)

    assert first["failed"] == "Stopped, because process 1 of the run failed."
    assert second["failed"] == "This process has no clicks"


def test_processes_with_different_recipes_do_not_train(together: Path) -> None:
    for of_one in told(together):
        assert "The processes of the run disagree" in of_one["disagree"]
        assert "setting hidden: process 0 has 8, process 1 has 9." in of_one["disagree"]
    assert not (together / "never" / "weights.safetensors").exists()


@pytest.mark.long
def test_a_killed_process_leaves_the_result_as_it_was(two: Path, tmp_path: Path) -> None:
    """The others start again with it, from the checkpoint in the middle of the epoch."""
    launch(partial(train_long, tmp_path, killed=1), 2)

    assert (tmp_path / "restarted").exists()
    expected = weights_in(two / "long")
    for name, tensor in weights_in(tmp_path / "long").items():
        assert torch.equal(tensor, expected[name]), name


def test_one_process_exchanges_nothing() -> None:
    tensor = torch.ones(2)
    ALONE.sum([tensor])
    ALONE.broadcast([tensor])

    assert tensor.tolist() == [1.0, 1.0]
    assert (ALONE.gather("text"), ALONE.of_first((1, 2))) == (["text"], (1, 2))
    assert (ALONE.any(True), ALONE.any(False), ALONE.is_first) == (True, False, True)
