"""Work for several processes: trainings of small logs, and what the processes tell each other.

The processes import these functions by name, so that they stand in a module of their own.
"""

import dataclasses
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys.catalogue.catalogue import Catalogue
from recsys.errors import AnotherProcessFailed, BadInput
from recsys.model.repeats import RepeatTerm
from recsys.predictor import Predictor
from tests.support.training.builders import Quiet, words
from training.evaluation.compare import evaluate_with_baselines
from training.model.weights import Weights, eager_predictor
from training.parallel.processes import ALONE, Processes
from training.parallel.torch_processes import joined
from training.recipe import Recipe
from training.retrieval.build_item_lists import NextItems, build_item_lists
from training.retrieval.recall_check import choose_retrieval
from training.trainer import FromScratch, Trainer

CPU = torch.device("cpu")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def walks(sessions: int, longest: int) -> list[str]:
    """Return sessions that go on through the alphabet by one or two letters."""
    random = np.random.default_rng(7)
    steps = [
        (int(random.integers(26)), random.integers(1, 3, int(random.integers(1, longest))))
        for _ in range(sessions)
    ]
    return [
        "".join(LETTERS[(first + int(step)) % 26] for step in [0, *np.cumsum(moves)])
        for first, moves in steps
    ]


WALKS = words(*walks(90, 8))
LONG = words(*walks(450, 3))  # an epoch of more than 200 steps, a checkpoint at each hundredth
WHOLE_SESSIONS = Recipe(
    hidden=8, epochs=2, batch=6, negatives=12, validation=0.2, momentum=0.1, warmup=0.0, clip=1.0
)
# inner products: with cosines of this scale, BPR-max learns so fast that rounding errors grow
BPR_MAX = dataclasses.replace(
    WHOLE_SESSIONS, loss="bpr-max", scale=0.0, learning_rate=0.05, refit=False
)
MODELS = ("model", "model alone")
LISTED_ITEMS = 400
RECIPES = {
    "cross-entropy": WHOLE_SESSIONS,
    "bpr-max": dataclasses.replace(
        BPR_MAX, scored_items="with-duplicates", layers=2, average=0.9, cell="lstm"
    ),
    # its last steps have fewer rows than there are processes
    "session-parallel": dataclasses.replace(
        BPR_MAX, batches="session-parallel", embedding="separate"
    ),
    "all items": dataclasses.replace(
        WHOLE_SESSIONS,
        scored_items="all",
        optimizer="adam",
        learning_rate=0.003,
        momentum=0.0,
        refit=False,
    ),
}
OF_LONG = dataclasses.replace(
    WHOLE_SESSIONS, batch=2, batches="session-parallel", refit=False, epochs=1
)


def train_all(folder: Path, processes: Processes = ALONE) -> None:
    """Train each recipe; the first process writes the weights and the metrics of the epochs."""
    for name, recipe in RECIPES.items():
        train_one(folder / name, recipe, processes)


def train_one(
    folder: Path, recipe: Recipe, processes: Processes, listener: Quiet | None = None
) -> None:
    """Train one recipe: `OF_LONG` on the long log, each other one on the short one."""
    listener = listener or Quiet()
    if processes.is_first:
        folder.mkdir(exist_ok=True)
    trainer = Trainer(recipe, folder, CPU, listener, checkpoint_seconds=0.0, processes=processes)
    trained = trainer.train(LONG if recipe == OF_LONG else WALKS, None)
    if processes.is_first:
        save_file(trained.weights.tensors(), folder / "weights.safetensors")
        epochs = [dataclasses.asdict(result) for result in trained.results]
        (folder / "epochs.json").write_text(json.dumps(epochs))


def weights_in(folder: Path) -> dict[str, Tensor]:
    """Return the weights that `train_one` wrote."""
    return load_file(folder / "weights.safetensors")


def train_on_all_processes(folder: Path) -> Path:
    """Do the work of one of several processes: train, exchange messages, disagree."""
    torch.set_num_threads(1)
    with joined(CPU) as processes:
        train_all(folder, processes)
        if processes.size == 2:
            train_one(folder / "long", OF_LONG, processes)
        told = messages(processes) | {"disagree": disagreement(folder, processes)}
        told["tested"] = results_of_model(processes)
        told["lists"] = lists_of_model(processes)
        (folder / f"told {processes.rank}.json").write_text(json.dumps(told))
    return folder


def messages(processes: Processes) -> dict[str, object]:
    """Return what a process learns from the others by each of its methods."""
    rank, before = processes.rank, processes.traffic
    pair = [torch.full((2, 2), 1.0 + rank), torch.tensor([float(rank == 0)])]
    processes.sum(pair)
    traffic = processes.traffic - before
    sent = torch.arange(3) * (rank + 1)
    processes.broadcast([sent])
    try:
        with processes.all_or_none():
            if rank == 1:
                raise BadInput("This process has no clicks", [])
        failed = ""
    except (AnotherProcessFailed, BadInput) as error:
        failed = str(error)
    return {
        "sum": [tensor.tolist() for tensor in pair],
        "bytes": traffic.bytes,
        "broadcast": sent.tolist(),
        "gather": processes.gather("ä" * rank),
        "any": [processes.any(rank == 1), processes.any(False)],
        "of first": processes.of_first({"rank": rank}),
        "failed": failed,
    }


def disagreement(folder: Path, processes: Processes) -> str:
    """Return the message where one process has another recipe."""
    recipe = dataclasses.replace(WHOLE_SESSIONS, hidden=8 + processes.rank % 2)
    try:
        train_one(folder / "never", recipe, processes)
    except BadInput as error:
        return str(error)
    return ""


def results_of_model(processes: Processes) -> dict[str, object]:
    """Return ranks and metrics of a model, its scored cases, and the names of all recommenders."""
    recipe = dataclasses.replace(WHOLE_SESSIONS, seed=3)
    catalogue = FromScratch().catalogue(WALKS)
    weights = Weights.fresh(recipe.size(len(catalogue)), torch.Generator().manual_seed(3))
    model = eager_predictor(weights, catalogue, recipe, repeats=RepeatTerm(last=1.0))
    scored, scores_along = [0], Predictor.scores_along

    def counted(self: Predictor, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        scores = scores_along(self, sessions)
        scored[0] += len(scores)
        return scores

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "scores_along", counted)
        patch.setattr("training.evaluation.evaluate.SCORES_AT_ONCE", 26 * 40)
        results = evaluate_with_baselines(
            model, catalogue, WALKS, LONG, Console(quiet=True), processes
        ).results
    return {
        "ranks": {name: results[name].ranked.rank.tolist() for name in MODELS},
        "metrics": {name: results[name].metrics for name in MODELS},
        "scored": scored[0],
        "names": list(results),
    }


def lists_of_model(processes: Processes) -> dict[str, object]:
    """Return item lists of random weights, their number here, and a retrieval that is chosen."""
    ids = [chr(0x100 + at) for at in range(LISTED_ITEMS)]
    sessions = words(*("".join(ids[at] for at in range(first, 400, 97)) for first in range(60)))
    weights = Weights.fresh(WHOLE_SESSIONS.size(LISTED_ITEMS), torch.Generator().manual_seed(4))
    catalogue = Catalogue(ids, np.arange(LISTED_ITEMS) % 7 + 1)
    model = eager_predictor(weights, catalogue, WHOLE_SESSIONS)
    made, best = [0], NextItems._best

    def counted(self: NextItems, queries: NDArray[np.float32], length: int) -> Tensor:
        made[0] += len(queries)
        return best(self, queries, length)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NextItems, "_best", counted)
        patch.setattr("training.retrieval.build_item_lists.PRODUCTS_AT_ONCE", 0)
        lists = {
            str(shortlist): build_item_lists(
                model, WHOLE_SESSIONS.scale, 1.0, shortlist=shortlist, processes=processes
            )
            for shortlist in (None, 90)
        }
    recipe = dataclasses.replace(WHOLE_SESSIONS, retrieval="lists")
    chosen = choose_retrieval(recipe, weights, model, sessions, processes=processes)
    return {
        **{name: [part.tolist() for part in index.tensors()] for name, index in lists.items()},
        "made": made[0],
        "chosen": dataclasses.asdict(chosen.settings),
    }


class KillsItself(Quiet):
    """Listener that kills its process after step 200, as a lack of memory would."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def stepped(self, events: int, mean_loss: float) -> None:
        self.calls += 1
        if self.calls == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def train_long(folder: Path, killed: int) -> Path:
    """Train on the long log; the process of this rank kills itself at the first attempt."""
    torch.set_num_threads(1)
    with joined(CPU) as processes:
        kills = processes.rank == killed and not processes.is_restart
        if processes.is_first and processes.is_restart:
            (folder / "restarted").touch()
        train_one(folder / "long", OF_LONG, processes, KillsItself() if kills else None)
    return folder
