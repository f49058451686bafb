"""Measure time and memory by the size of the click log and of the catalogue.

    python tests/benchmarks/scaling.py                        # up to 16 million clicks
    python tests/benchmarks/scaling.py --row 1000000 100000   # one row

writes a synthetic log for each row (popularity by a power law, sessions of 2 clicks or more). It
reads, prepares, trains and evaluates the log in a process of its own. Training stops after
`--train-seconds`; the time of an epoch is extrapolated from the events per second. Evaluation uses
untrained weights: its cost does not depend on their values.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from data.click_options import ClickOptions
from data.prepare import read_sessions
from data.sessions import Sessions, filter_to_fixed_point, known_items, reindex
from data.split import split_by_fraction
from recsys.allocation import keep_freed_memory
from recsys.catalogue.catalogue import Catalogue
from recsys.model.gru4rec import ModelSize
from training.baselines import baselines
from training.checkpoint import EpochResult
from training.evaluation.evaluate import evaluate
from training.model.weights import Weights, eager_predictor
from training.recipe import Recipe, load_recipe
from training.trainer import Trainer

T = TypeVar("T")
ROWS = (
    (1_000_000, 100_000),
    (4_000_000, 100_000),
    (16_000_000, 100_000),
    (4_000_000, 300_000),
    (4_000_000, 1_000_000),
)
EXPONENT = 0.8  # P(rank r) ∝ r^-0.8: about as skewed as the public shop logs
MEAN_EXTRA_CLICKS = 2.2  # in addition to two clicks in every session
CASES_IN_TABLE = 10_000


def write_log(path: Path, clicks: int, items: int) -> None:
    """Write exactly that many clicks, at least one on each item if there are enough clicks."""
    rng = np.random.default_rng(1)
    lengths = 2 + rng.geometric(1 / (1 + MEAN_EXTRA_CLICKS), clicks // 2) - 1
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), clicks) + 1]
    session = np.repeat(np.arange(len(lengths)), lengths)[:clicks]
    chance = np.cumsum(np.arange(1, items + 1, dtype=np.float64) ** -EXPONENT)
    rank = np.searchsorted(chance, rng.random(clicks) * chance[-1])
    once = rng.permutation(clicks)[:items]
    rank[once] = np.arange(len(once))
    names = pa.array([f"i{number:07d}" for number in rng.permutation(items)])
    seconds = 1_400_000_000 + np.arange(clicks)
    table = pa.table(
        {
            "session_id": session,
            "item_id": pa.DictionaryArray.from_arrays(rank.astype(np.int32), names),
            "timestamp": seconds,
        }
    )
    pq.write_table(table, path)


class MeasuredEnough(Exception):
    """The training has run for long enough."""


class ThroughputWatcher:
    """`ProgressListener` that measures events per second, then stops the training."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.rate, self.first_step = seconds, 0.0, 0.0

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None:
        self.first_step = time.perf_counter()

    def stepped(self, events: int, mean_loss: float) -> None:
        spent = time.perf_counter() - self.first_step
        self.rate = events / spent
        if spent > self.seconds:
            raise MeasuredEnough

    def epoch_ends(self, result: EpochResult) -> None:
        raise MeasuredEnough


class PhaseMeasurements:
    """Seconds and memory by the name of the phase."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def time(self, phase: str, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = work()
        self.values[f"{phase} s"] = time.perf_counter() - began
        self.peak(phase)
        return result

    def peak(self, phase: str) -> None:
        """Record the peak resident memory so far, in GB."""
        self.values[f"{phase} GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(log: Path, recipe: Recipe, train_seconds: float, cases: int) -> dict[str, float]:
    row = PhaseMeasurements()
    sessions = row.time("read", lambda: read_sessions(ClickOptions(log))).sessions
    train, test = row.time("split", lambda: _split(sessions))
    watch, began = ThroughputWatcher(train_seconds), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, suppress(MeasuredEnough):
        Trainer(recipe, Path(folder), torch.device("cpu"), watch).train(train, None)
    row.values["prepare s"] = watch.first_step - began
    row.peak("train")
    row.values["events/s"] = watch.rate
    row.values["epoch s"] = int((train.lengths - 1).sum()) / watch.rate
    item_ids = known_items(train)
    learned = reindex(train, item_ids)
    catalogue = Catalogue(item_ids, learned.counts())
    held = reindex(test, item_ids)
    few = held.keep_sessions(np.cumsum(held.lengths - 1) <= cases)
    size = ModelSize(len(catalogue), recipe.hidden, recipe.layers)
    weights = Weights.fresh(size, torch.Generator().manual_seed(1))
    predictor = eager_predictor(weights, catalogue, recipe)
    row.time("evaluate", lambda: evaluate(predictor, few, len(catalogue)))
    row.values["evaluate s"] *= CASES_IN_TABLE / int((few.lengths - 1).sum())
    row.time("baselines", lambda: baselines(catalogue, learned))
    return row.values


def _split(sessions: Sessions) -> tuple[Sessions, Sessions]:
    cut = split_by_fraction(sessions)
    return filter_to_fixed_point(cut.train, min_length=2, min_support=1)[0], cut.test


def in_own_process(clicks: int, items: int, given: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "clicks.parquet"
        write_log(log, clicks, items)
        command = [sys.executable, __file__, "--measure", str(log)]
        command += ["--train-seconds", str(given.train_seconds), "--cases", str(given.cases)]
        command += ["--recipe", given.recipe, "--threads", str(given.threads)]
        command += [word for setting in given.set for word in ("--set", setting)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{clicks:,} clicks, {items:,} items:\n{done.stderr}")
        values: dict[str, float] = json.loads(done.stdout)
        return values


def as_table(rows: Sequence[tuple[int, int, dict[str, float]]]) -> Table:
    columns = {
        "read s": "read s",
        "split s": "split s",
        "prepare s": "prepare s",
        "events/s": "events/s",
        "epoch s": "epoch s",
        "evaluate s": "evaluate s, 10k cases",
        "baselines s": "build baselines s",
        "read GB": "GB read",
        "train GB": "GB train",
        "evaluate GB": "GB evaluate",
        "baselines GB": "GB baselines",
    }
    table = Table("clicks", "items", *columns.values(), title="Memory is the peak so far")
    for clicks, items, values in rows:
        style = {"events/s": "{:,.0f}", "epoch s": "{:,.0f}"}
        cells = [style.get(name, "{:,.2f}").format(values[name]) for name in columns]
        table.add_row(f"{clicks:,}", f"{items:,}", *cells)
    return table


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--row", type=int, nargs=2, action="append", metavar=("CLICKS", "ITEMS"))
    options.add_argument("--train-seconds", type=float, default=60)
    options.add_argument(
        "--cases", type=int, default=2000, help="cases to evaluate; the table extrapolates to 10k"
    )
    options.add_argument("--recipe", default="default")
    options.add_argument("--set", action="append", default=[], help="recipe setting: name=value")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    return options.parse_args()


def main() -> None:
    given, console = arguments(), Console(width=160)
    if given.measure is not None:
        torch.set_num_threads(given.threads)
        keep_freed_memory()
        whole = ["validation=0", "epochs=1", *given.set]
        recipe = load_recipe(given.recipe, whole)
        values = measure(given.measure, recipe, given.train_seconds, given.cases)
        sys.stdout.write(json.dumps(values))
        return
    rows = []
    for clicks, items in given.row or ROWS:
        rows.append((clicks, items, in_own_process(clicks, items, given)))
        console.print(as_table(rows[-1:]))
    console.print(as_table(rows))


if __name__ == "__main__":
    main()
