"""Compare recurrent cells: size, speed, accuracy, and the reach of the gradient.

    python tests/benchmarks/compare_cells.py --clicks F --split-column split --epochs 5

trains the same recipe with each cell, for the same number of epochs. It evaluates each epoch on
validation sessions cut out of training, so it never reads a test part. The gradient is that of the
loss after the last of `REACH` clicks, with respect to the vector of each earlier click. Its norm is
averaged over validation sessions and divided by the norm for the last click.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from data.click_options import ClickOptions
from data.prepare import prepare
from data.sessions import Sessions, reindex
from data.split import split_by_fraction
from recsys.allocation import keep_freed_memory
from recsys.model.cells import CELLS
from training.checkpoint import EpochResult
from training.model.weights import Weights
from training.recipe import Recipe, load_recipe
from training.trainer import Trainer, TrainingResult

REACH = 12  # clicks of a session in the computation of the gradient
SESSIONS = 200  # with at least REACH clicks and a target, evenly spaced
DISTANCES = (1, 2, 4, 8)


@dataclass
class EpochRecorder:
    """`ProgressListener` that records processor seconds and metrics."""

    cpu_seconds: list[float] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    _began: float = 0.0
    _events: int = 0

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None:
        self._began, self._events = time.process_time(), events

    def stepped(self, events: int, mean_loss: float) -> None:
        if events == self._events:
            self.cpu_seconds.append(time.process_time() - self._began)

    def epoch_ends(self, result: EpochResult) -> None:
        self.scores.append(result.metrics)


def reach_of(weights: Weights, sessions: Sequence[np.ndarray]) -> list[float]:
    """Return the norm of the gradient of the loss by each click, relative to the last click.

    Args:
        weights: of the trained model.
        sessions: arrays of REACH clicks and their target, as item indices.

    Returns:
        REACH ratios, the last click first.
    """
    shipped = weights.exported()
    table = shipped.matrix if shipped.inputs is None else shipped.inputs
    clicks = torch.from_numpy(np.stack(sessions).astype(np.int64))
    vectors = table[clicks[:, :REACH]].flatten(0, 1).requires_grad_()
    places = torch.arange(len(vectors)).view(len(sessions), REACH)
    read, _ = shipped.model.replay(vectors, places, torch.full((len(sessions),), REACH))
    scores = shipped.model.scores(shipped.matrix, shipped.bias, read[:, -1])
    loss = functional.cross_entropy(scores, clicks[:, REACH], reduction="sum")
    (gradient,) = torch.autograd.grad(loss, vectors)
    norms = torch.linalg.vector_norm(gradient.view(len(sessions), REACH, -1), dim=2).mean(dim=0)
    return [float(norm / norms[-1]) for norm in norms.flip(0)]


def long_sessions(held_out: Sessions, trained: TrainingResult) -> list[np.ndarray]:
    """Return the last REACH clicks and the target of long sessions of known items."""
    known = reindex(held_out, trained.catalogue.item_ids)
    ends = [
        known.items[end - REACH - 1 : end]
        for start, end in zip(known.offsets[:-1], known.offsets[1:], strict=True)
        if end - start > REACH
    ]
    whole = [clicks for clicks in ends if (clicks >= 0).all()]
    return [
        whole[at] for at in np.linspace(0, len(whole) - 1, min(SESSIONS, len(whole)), dtype=int)
    ]


def trained_with(
    recipe: Recipe, train: Sessions, held_out: Sessions, console: Console
) -> list[str]:
    """Train with one cell and return its row of the table."""
    epochs = EpochRecorder()
    with tempfile.TemporaryDirectory() as folder:
        trained = Trainer(recipe, Path(folder), torch.device("cpu"), epochs).train(train, held_out)
    best_epoch = max(epochs.scores, key=lambda scores: scores[recipe.select_by])
    in_cells = sum(p.numel() for p in trained.weights.model.parameters())
    reach = reach_of(trained.weights, long_sessions(held_out, trained))
    row = [
        recipe.cell,
        f"{in_cells:,}",
        f"{np.median(epochs.cpu_seconds):.1f}",
        str(len(epochs.scores)),
        f"{best_epoch['recall@20']:.4f}",
        f"{best_epoch['mrr@20']:.4f}",
        *(f"{reach[distance]:.3f}" for distance in DISTANCES),
    ]
    console.print("  ".join(row))
    return row


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--clicks", type=Path, required=True)
    options.add_argument("--split-column")
    options.add_argument("--recipe", default="default")
    options.add_argument("--epochs", type=int, default=5)
    options.add_argument(
        "--set", action="append", default=[], help="setting of the recipe: name=value"
    )
    options.add_argument(
        "--cell", action="append", choices=list(CELLS), help="only this cell; can be repeated"
    )
    return options.parse_args()


def main() -> None:
    given, console = arguments(), Console()
    torch.set_num_threads(1)
    keep_freed_memory()
    prepared = prepare(ClickOptions(given.clicks, split_column=given.split_column))
    cut = split_by_fraction(prepared.train, 0.1)
    train, held_out = cut.train.keep_sessions(cut.train.lengths >= 2), cut.test
    table = Table(
        *("cell", "weights of the cell", "CPU s per epoch", "epochs", "recall@20", "mrr@20"),
        *(f"gradient {distance} back" for distance in DISTANCES),
        title=f"{int((train.lengths - 1).sum()):,} events per epoch, {given.clicks.parent.name}",
    )
    for cell in given.cell or CELLS:
        settings = [*given.set, f"cell={cell}", f"epochs={given.epochs}", "refit=false"]
        table.add_row(*trained_with(load_recipe(given.recipe, settings), train, held_out, console))
    console.print(table)


if __name__ == "__main__":
    main()
