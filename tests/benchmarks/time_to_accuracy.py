"""Measure how long `recsys train` takes to reach the accuracy of a plain training loop.

    python tests/benchmarks/time_to_accuracy.py --clicks F --split-column split --epochs 10

trains `tests/support/training/plain_loop.py` with the published settings and our recipe on the same
sessions, in one process and in turns of one epoch, so that other load on the machine affects both.
One evaluator judges each epoch on the same held-out sessions (`--held-out test` uses the test part;
the default cuts validation sessions out of training). The times exclude evaluation; ours include
checkpoints.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from data.click_options import ClickOptions
from data.prepare import prepare
from data.sessions import Sessions, known_items, reindex
from data.split import split_by_fraction
from recsys.allocation import keep_freed_memory
from recsys.catalogue.catalogue import Catalogue
from recsys.model.cells import CELLS
from tests.support.training.plain_loop import PlainLoop, Published
from training.checkpoint import EpochResult
from training.evaluation.evaluate import evaluate
from training.model.sampling import RandomStreams, candidate_sampler
from training.recipe import Recipe, load_recipe
from training.trainer import Trainer, plan_batches

METRICS = ("recall@20", "mrr@20")
PASSES = 3  # forward, gradient of the input, gradient of the weights


@dataclass
class TrainingRecord:
    """Times and metrics of the epochs of one way of training."""

    name: str
    preparing: float = 0.0  # seconds from sessions to the first step
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)

    def until(self, metric: str, target: float) -> float | None:
        """Return the seconds of training to the end of the first epoch with the target."""
        for epoch, scores in enumerate(self.scores):
            if scores[metric] >= target:
                return sum(self.seconds[: epoch + 1])
        return None


class PlainTraining:
    """Training by the plain loop, epoch by epoch on request."""

    def __init__(
        self, train: Sessions, held_out: Sessions, epochs: int, settings: Published
    ) -> None:
        began = time.perf_counter()
        item_ids = known_items(train)
        self.train = reindex(train, item_ids)
        self._catalogue = Catalogue(item_ids, self.train.counts())
        self._loop = PlainLoop(self._catalogue.counts, settings)
        self.record = TrainingRecord("plain loop", time.perf_counter() - began)
        self._held_out, self.epochs = reindex(held_out, item_ids), epochs

    def up_to(self, share: float, window: int) -> None:
        """Train until this share of all epochs is done, and evaluate each epoch."""
        while len(self.record.seconds) < round(share * self.epochs):
            began, cpu_began = time.perf_counter(), time.process_time()
            self._loop.epoch(self.train)
            self.record.seconds.append(time.perf_counter() - began)
            self.record.cpu_seconds.append(time.process_time() - cpu_began)
            predictor = self._loop.predictor(self._catalogue, window)
            result = evaluate(predictor, self._held_out, len(self._catalogue))
            self.record.scores.append(result.metrics)


class AlternatingWatcher:
    """`ProgressListener` that trains the plain loop after each epoch of ours."""

    def __init__(self, plain: PlainTraining, recipe: Recipe, console: Console) -> None:
        self.record = TrainingRecord("recsys train")
        self.shape = StepShape.of(recipe, plain.train)
        self.peaks = [matmul_peak(self.shape)]
        self._plain, self._recipe, self._console = plain, recipe, console
        self._events = 0
        self._resumed = self._now()

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def begin(self) -> None:
        self._resumed = self._now()

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None:
        self._events = events
        if not self.record.seconds:
            self.record.preparing = time.perf_counter() - self._resumed[0]
            self._resumed = self._now()

    def stepped(self, events: int, mean_loss: float) -> None:
        if events == self._events:  # the time counts work between epochs, but not validation
            wall, cpu = self._now()
            self.record.seconds.append(wall - self._resumed[0])
            self.record.cpu_seconds.append(cpu - self._resumed[1])

    def epoch_ends(self, result: EpochResult) -> None:
        self.record.scores.append(result.metrics)
        self.peaks.append(matmul_peak(self.shape))
        self._plain.up_to(result.epoch / self._recipe.epochs, self._recipe.window)
        for record in (self._plain.record, self.record):
            if record.seconds:
                reached = "  ".join(f"{name} {record.scores[-1][name]:.4f}" for name in METRICS)
                self._console.print(
                    f"{record.name}, epoch {len(record.seconds)}: {reached}  "
                    f"{record.seconds[-1]:.1f} s"
                )
        self._resumed = self._now()


@dataclass(frozen=True)
class StepShape:
    """Average shape of the matrix products of one training step."""

    hidden: int
    layers: int
    gates: int
    events: int  # of one step
    candidates: int  # items of the sampled softmax

    @classmethod
    def of(cls, recipe: Recipe, sessions: Sessions) -> "StepShape":
        """Measure the average shape; sessions: of item indices."""
        device, plan = torch.device("cpu"), plan_batches(sessions, recipe)
        sampler = candidate_sampler(recipe, sessions.counts(), plan.clicks / len(plan), device)
        counts = []
        for step in np.linspace(0, len(plan) - 1, num=20, dtype=int).tolist():
            batch, random = plan[step], RandomStreams(device, recipe.seed, 0, step)
            inputs, targets = map(torch.from_numpy, (batch.inputs, batch.targets))
            counts.append(len(sampler.sample(inputs, targets, None, random).items))
        gates = CELLS[recipe.cell].GATES
        events = round(plan.clicks / len(plan))
        return cls(recipe.hidden, recipe.layers, gates, events, round(statistics.mean(counts)))

    @property
    def flops_of_cells(self) -> int:
        """Return the FLOPs per event, forward and backward, of input and recurrent products."""
        return PASSES * self.layers * 2 * (2 * self.gates * self.hidden * self.hidden)

    @property
    def flops_of_scores(self) -> int:
        return PASSES * 2 * self.hidden * self.candidates


def matmul_peak(shape: StepShape, rounds: int = 30) -> float:
    """Return the FLOP/s of the bare float32 matrix products of one training step."""
    rows, hidden, candidates = shape.events, shape.hidden, shape.candidates
    products = [  # (m, k, n): the gates twice per layer, the scores once; each with two gradients
        shape
        for m, k, n, times in ((rows, hidden, shape.gates * hidden, 2 * shape.layers),
                               (rows, hidden, candidates, 1))
        for shape in ((m, k, n), (m, n, k), (k, m, n))
        for _ in range(times)
    ]  # fmt: skip
    sides = [(torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)) for m, k, n in products]
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for left, right, out in sides:
            torch.mm(left, right, out=out)
        times.append(time.perf_counter() - began)
    return sum(2 * m * k * n for m, k, n in products) / statistics.median(times)


def report(
    records: Sequence[TrainingRecord], reading: float, targets: dict[str, float], events: int
) -> Table:
    """Build the table of both trainings: speed, metrics, seconds to reach the targets."""
    plain, ours = records
    table = Table("", *(t.name for t in records), "ratio", title=f"{events:,} events per epoch")

    def row(name: str, values: Sequence[float | None], style: str = "{:,.1f}") -> None:
        cells = ["never" if v is None else style.format(v) for v in values]
        first, second = values
        ratio = "" if not first or not second else f"{first / second:.2f}"
        table.add_row(name, *cells, ratio)

    row("seconds per epoch, median", [statistics.median(t.seconds) for t in records])
    row("CPU seconds per epoch, median", [statistics.median(t.cpu_seconds) for t in records])
    row("events/s, median", [events / statistics.median(t.seconds) for t in records], "{:,.0f}")
    for name, target in targets.items():
        reached = [t.until(name, target) for t in records]
        row(f"{name} best", [max(s[name] for s in t.scores) for t in records], "{:.4f}")
        row(f"seconds to {name} {target:.4f}, steps only", reached)
        before = [reading + t.preparing for t in (plain, ours)]
        whole = [None if r is None else r + b for r, b in zip(reached, before, strict=True)]
        row(f"seconds to {name} {target:.4f}, with reading", whole)
    return table


def floor_line(shape: StepShape, peak: float, ours: TrainingRecord, events: int) -> str:
    cells, scores = shape.flops_of_cells, shape.flops_of_scores
    floor = (cells + scores) / peak
    measured = statistics.median(ours.seconds) / events
    return (
        f"Flop floor: {cells / 1e6:.2f} MFLOP an event for the cells + {scores / 1e6:.2f} for "
        f"{shape.candidates:,} candidates (forward and backward); the bare float32 "
        f"products reach {peak / 1e9:.0f} GFLOP/s here with {torch.get_num_threads()} thread(s), "
        f"so {1 / floor:,.0f} events/s at most. Ours: {1 / measured:,.0f}, {measured / floor:.2f} "
        "times the floor."
    )


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--clicks", type=Path, required=True)
    for column, default in (("session", "session_id"), ("item", "item_id"), ("time", "timestamp")):
        options.add_argument(f"--{column}-column", default=default)
    options.add_argument("--split-column")
    options.add_argument("--epochs", type=int, default=10, help="epochs of the plain loop")
    options.add_argument(
        "--recipe", default="default", help="our recipe, with its own number of epochs"
    )
    options.add_argument(
        "--set", action="append", default=[], help="setting of our recipe: name=value"
    )
    options.add_argument("--held-out", choices=("valid", "test"), default="valid")
    options.add_argument(
        "--target",
        action="append",
        default=[],
        help="metric=value; default: the best of the plain loop",
    )
    options.add_argument("--seed", type=int, default=1, help="of both")
    options.add_argument("--threads", type=int, default=1)
    return options.parse_args()


def main() -> None:
    given, console = arguments(), Console()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    recipe = load_recipe(given.recipe, [*given.set, f"patience={10**6}", f"seed={given.seed}"])
    began = time.perf_counter()
    options = ClickOptions(
        given.clicks,
        session_column=given.session_column,
        item_column=given.item_column,
        time_column=given.time_column,
        split_column=given.split_column,
    )
    prepared = prepare(options)
    train, held_out = prepared.train, prepared.test
    if given.held_out == "valid":
        cut = split_by_fraction(prepared.train, recipe.validation or 0.1)
        train, held_out = cut.train.keep_sessions(cut.train.lengths >= 2), cut.test
    reading = time.perf_counter() - began
    events = int((train.lengths - 1).sum())

    plain = PlainTraining(train, held_out, given.epochs, Published(seed=given.seed))
    watcher = AlternatingWatcher(plain, recipe, console)
    with tempfile.TemporaryDirectory() as folder:
        watcher.begin()
        Trainer(recipe, Path(folder), torch.device("cpu"), watcher).train(train, held_out)
    reached = {name: max(s[name] for s in plain.record.scores) for name in METRICS}
    targets = {name: float(value) for name, _, value in (t.partition("=") for t in given.target)}
    console.print(
        f"Reading: {reading:.1f} s; preparing: plain {plain.record.preparing:.1f} s, ours "
        f"{watcher.record.preparing:.1f} s; {given.threads} thread(s)."
    )
    console.print(report([plain.record, watcher.record], reading, targets or reached, events))
    console.print(
        floor_line(watcher.shape, statistics.median(watcher.peaks), watcher.record, events)
    )


if __name__ == "__main__":
    main()
