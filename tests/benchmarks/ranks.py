"""Compare training on several processes with training on one: speed, communication, weights.

    LOG=$RECSYS_REAL_DATA/yoochoose_sep14/sessions.parquet
    python tests/benchmarks/ranks.py --clicks $LOG --split-column split

trains an epoch on each number of processes, in turns, and validates on the test part.
OMP_NUM_THREADS is the number of threads of each process; unset, they share the processors.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from data.click_options import ClickOptions
from data.prepare import prepare
from recsys.console import add_row, format_bytes, neat_table, open_console
from training.checkpoint import EpochResult
from training.parallel.launch import launch
from training.parallel.torch_processes import joined
from training.recipe import Recipe, load_recipe
from training.trainer import Trainer

CPU = torch.device("cpu")
COLUMNS = (
    "processes",
    "events/s",
    "of each",
    "seconds",
    "in communication",
    "bytes a step",
    "weights differ by",
)
METRICS = ("recall@20", "mrr@20", "ndcg@20")


class Silent:
    """Training watcher without output."""

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None: ...
    def stepped(self, events: int, mean_loss: float) -> None: ...
    def epoch_ends(self, result: EpochResult) -> None: ...


def train(clicks: ClickOptions, recipe: Recipe, folder: Path) -> Path:
    """Train in one of several processes; the first one writes weights and epochs."""
    with joined(CPU) as processes:
        prepared = prepare(clicks, lambda done, total: None)
        trainer = Trainer(recipe, folder, CPU, Silent(), processes=processes)
        trained = trainer.train(prepared.train, prepared.test)
        if processes.is_first:
            save_file(trained.weights.tensors(), folder / "weights.safetensors")
            epochs = [dataclasses.asdict(result) for result in trained.results]
            (folder / "epochs.json").write_text(json.dumps(epochs))
    return folder


def run(clicks: ClickOptions, recipe: Recipe, numbers: Sequence[int], turns: int) -> None:
    """Train on each number of processes in turns, and print a row after each training."""
    console = open_console()
    first: Path | None = None
    with tempfile.TemporaryDirectory() as work:
        rows = []
        for turn in range(turns):
            for number in numbers:
                folder = Path(work) / f"{number} processes, turn {turn}"
                folder.mkdir()
                launch(partial(train, clicks, recipe, folder), number)
                first = first or folder
                rows.append((number, folder))
                console.print(f"{folder.name}: done", highlight=False)
        assert first is not None, "there is a number"
        table = neat_table(
            f"Last of {recipe.epochs} epochs; differences from the first row",
            right=[*COLUMNS, *METRICS],
        )
        for number, folder in rows:
            add_row(table, number, *figures(folder, first))
        console.print(table)


def figures(folder: Path, first: Path) -> list[str]:
    """Return the cells of one training, beside the first one."""
    result = EpochResult(**json.loads((folder / "epochs.json").read_text())[-1])
    weights, expected = (load_file(at / "weights.safetensors") for at in (folder, first))
    change = max(float((weights[name] - expected[name]).abs().max()) for name in expected)
    speed = result.events / result.seconds
    return [
        f"{speed:,.0f}",
        f"{speed / result.processes:,.0f}",
        f"{result.seconds:.1f}",
        f"{result.communication_seconds:.1f}",
        format_bytes(result.bytes_per_step),
        f"{change:.1e}",
        *(f"{result.metrics[name]:.5f}" for name in METRICS),
    ]


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clicks", required=True)
    parser.add_argument("--split-column")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--turns", type=int, default=1)
    given = parser.parse_args()
    clicks = ClickOptions(path=Path(given.clicks), split_column=given.split_column)
    recipe = load_recipe(given.recipe, ["epochs=1", *given.settings])
    run(clicks, recipe, given.processes, given.turns)


if __name__ == "__main__":
    main()
