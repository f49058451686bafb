"""Compare recipes on validation sessions of the first or last clicks of a log.

    python tests/benchmarks/compare_recipes.py --clicks F --recipe default --recipe bpr-max

A recipe is a name or a file, with settings after it. The last tenth of the sessions is put aside as
the test part and never read; each recipe is validated on the last tenth of the others, after each
epoch. The table has the best epoch by recall@20 + 2 mrr@20. This is how the rivals of
`recsys train --recipe auto` were chosen. `--write` saves these clicks for `recsys train`.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from data.click_options import ClickOptions
from data.prepare import read_sessions
from data.sessions import Sessions
from data.split import split_by_fraction
from recsys.console import add_row, neat_table
from training.checkpoint import EpochResult
from training.competition.standing import SCORE
from training.recipe import Recipe, load_recipe
from training.trainer import Trainer

PATIENCE = 3  # of every recipe


class Silent:
    """`ProgressListener` that shows nothing."""

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None: ...
    def stepped(self, events: int, mean_loss: float) -> None: ...
    def epoch_ends(self, result: EpochResult) -> None: ...


def part_of(sessions: Sessions, take: str, clicks: int) -> Sessions:
    """Return the sessions that end within the first or the last so many clicks, as whole ones."""
    sessions = sessions.keep_sessions(sessions.lengths >= 2)
    ends = np.cumsum(sessions.lengths)
    return sessions.keep_sessions(ends <= clicks if take == "first" else ends > ends[-1] - clicks)


def write_clicks(sessions: Sessions, file: Path) -> None:
    """Write the clicks as a CSV file with the columns that `recsys train` reads by default."""
    columns = {
        "session_id": sessions.session_of_click,
        "item_id": [sessions.item_ids[item] for item in sessions.items.tolist()],
        "timestamp": sessions.time_ms // 1000,
    }
    pd.DataFrame(columns).to_csv(file, index=False)


def score_of(result: EpochResult) -> float:
    """Return the score of the competition."""
    return sum(weight * result.metrics[metric] for metric, weight in SCORE.items())


def validated(recipe: Recipe, train: Sessions) -> tuple[list[EpochResult], float]:
    """Return the results of all epochs, and the processor seconds of the whole."""
    recipe = dataclasses.replace(recipe, refit=False, patience=PATIENCE, validation=0.1)
    before = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder), torch.device("cpu"), Silent())
        results = trainer.train(train, None).results
    return results, time.process_time() - before


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare recipes on validation sessions.")
    parser.add_argument("--clicks", type=Path, required=True)
    parser.add_argument("--take", choices=("first", "last"), default="last")
    parser.add_argument("--number", type=int, default=20_000, help="clicks that are taken")
    parser.add_argument("--recipe", action="append", default=[], help="NAME setting=value …")
    parser.add_argument("--set", action="append", default=[], help="setting of every recipe")
    parser.add_argument("--write", type=Path, help="CSV file for these clicks")
    return parser.parse_args()


def main() -> None:
    given, console = arguments(), Console()
    torch.set_num_threads(1)
    log = part_of(read_sessions(ClickOptions(given.clicks)).sessions, given.take, given.number)
    if given.write is not None:
        write_clicks(log, given.write)
    train = split_by_fraction(log).train
    train = train.keep_sessions(train.lengths >= 2)
    table = neat_table(
        f"{given.take} {given.number:,} clicks",
        left=["recipe"],
        right=["R@20", "MRR@20", "best epoch", "epochs", "processor s"],
    )
    for text in given.recipe:
        name, *settings = text.split()
        results, seconds = validated(load_recipe(name, [*settings, *given.set]), train)
        best = max(results, key=score_of)
        figures = [f"{best.metrics[metric]:.4f}" for metric in SCORE]
        add_row(table, text, *figures, best.epoch, len(results), f"{seconds:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
