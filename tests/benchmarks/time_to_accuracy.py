"""How long `recsys train` takes to the accuracy of a plain loop, both in one process and one run.

    python tests/benchmarks/time_to_accuracy.py --clicks F --split-column split --epochs 10

trains `tests/support/training/plain_loop.py` with the published set and our recipe on the same
sessions, in turns of an epoch so that whatever else the machine does hits both, and judges every
epoch by one evaluator on the same held-out sessions (`--held-out test` reads the test part; the
default cuts validation sessions out of training). Evaluation is in nobody's time; checkpoints are
in ours.
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
from training.trainer import Trainer, steps_of

METRICS = ("recall@20", "mrr@20")
BACKWARD_TOO = 3  # forward, the gradient of the input, the gradient of the weights


@dataclass
class Trial:
    """One way of training: what its epochs took and reached."""

    name: str
    preparing: float = 0.0  # seconds from sessions to the first step
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)

    def until(self, metric: str, target: float) -> float | None:
        """Seconds of training to the end of the first epoch that reaches the target."""
        for epoch, scores in enumerate(self.scores):
            if scores[metric] >= target:
                return sum(self.seconds[: epoch + 1])
        return None


class Plain:
    """The plain loop, an epoch whenever it is asked for."""

    def __init__(
        self, train: Sessions, held_out: Sessions, epochs: int, settings: Published
    ) -> None:
        began = time.perf_counter()
        item_ids = known_items(train)
        self.train = reindex(train, item_ids)
        self._catalogue = Catalogue(item_ids, self.train.counts())
        self._loop = PlainLoop(self._catalogue.counts, settings)
        self.trial = Trial("plain loop", time.perf_counter() - began)
        self._held_out, self.epochs = reindex(held_out, item_ids), epochs

    def up_to(self, share: float, window: int) -> None:
        """As many epochs as make this share of all of them."""
        while len(self.trial.seconds) < round(share * self.epochs):
            began, cpu_began = time.perf_counter(), time.process_time()
            self._loop.epoch(self.train)
            self.trial.seconds.append(time.perf_counter() - began)
            self.trial.cpu_seconds.append(time.process_time() - cpu_began)
            predictor = self._loop.predictor(self._catalogue, window)
            found = evaluate(predictor, self._held_out, len(self._catalogue))
            self.trial.scores.append(found.metrics)


class Turns:
    """A `training.trainer.Watcher` that lets the plain loop work after each epoch of ours."""

    def __init__(self, plain: Plain, recipe: Recipe, console: Console) -> None:
        self.trial = Trial("recsys train")
        self.shape = Shape.of(recipe, plain.train)
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
        if not self.trial.seconds:
            self.trial.preparing = time.perf_counter() - self._resumed[0]
            self._resumed = self._now()

    def stepped(self, events: int, mean_loss: float) -> None:
        if events == self._events:  # what is made between two epochs counts, validation does not
            wall, cpu = self._now()
            self.trial.seconds.append(wall - self._resumed[0])
            self.trial.cpu_seconds.append(cpu - self._resumed[1])

    def epoch_ends(self, result: EpochResult) -> None:
        self.trial.scores.append(result.metrics)
        self.peaks.append(matmul_peak(self.shape))
        self._plain.up_to(result.epoch / self._recipe.epochs, self._recipe.window)
        for trial in (self._plain.trial, self.trial):
            if trial.seconds:
                reached = "  ".join(f"{name} {trial.scores[-1][name]:.4f}" for name in METRICS)
                self._console.print(
                    f"{trial.name}, epoch {len(trial.seconds)}: {reached}  "
                    f"{trial.seconds[-1]:.1f} s"
                )
        self._resumed = self._now()


@dataclass(frozen=True)
class Shape:
    """What a step of ours multiplies, on average."""

    hidden: int
    layers: int
    gates: int
    events: int  # of one step
    columns: int  # that its events are scored against

    @classmethod
    def of(cls, recipe: Recipe, sessions: Sessions) -> "Shape":
        """sessions: in the indices of the catalogue."""
        device, plan = torch.device("cpu"), steps_of(sessions, recipe)
        columns = candidate_sampler(recipe, sessions.counts(), plan.events / len(plan), device)
        seen = []
        for step in np.linspace(0, len(plan) - 1, num=20, dtype=int).tolist():
            batch, draws = plan[step], RandomStreams(device, recipe.seed, 0, step)
            clicked, following = map(torch.from_numpy, (batch.clicked, batch.following))
            seen.append(len(columns.choose(clicked, following, None, draws).items))
        gates = CELLS[recipe.cell].GATES
        events = round(plan.events / len(plan))
        return cls(recipe.hidden, recipe.layers, gates, events, round(statistics.mean(seen)))

    @property
    def flops_of_cells(self) -> int:
        """Of an event, forward and backward; one multiply-add is two. Input and recurrent part."""
        return BACKWARD_TOO * self.layers * 2 * (2 * self.gates * self.hidden * self.hidden)

    @property
    def flops_of_scores(self) -> int:
        return BACKWARD_TOO * 2 * self.hidden * self.columns


def matmul_peak(shape: Shape, rounds: int = 30) -> float:
    """FLOP/s of the bare float32 products of one step, at its shapes, with torch's threads."""
    rows, hidden, columns = shape.events, shape.hidden, shape.columns
    products = [  # (m, k, n): the gates twice per layer, the scores once; each with two gradients
        shape
        for m, k, n, times in ((rows, hidden, shape.gates * hidden, 2 * shape.layers),
                               (rows, hidden, columns, 1))
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
    trials: Sequence[Trial], reading: float, targets: dict[str, float], events: int
) -> Table:
    """Plain loop and ours side by side; seconds to accuracy without and with reading."""
    plain, ours = trials
    table = Table("", *(t.name for t in trials), "ratio", title=f"{events:,} events an epoch")

    def row(name: str, values: Sequence[float | None], style: str = "{:,.1f}") -> None:
        cells = ["never" if v is None else style.format(v) for v in values]
        first, second = values
        ratio = "" if not first or not second else f"{first / second:.2f}"
        table.add_row(name, *cells, ratio)

    row("seconds an epoch, median", [statistics.median(t.seconds) for t in trials])
    row("CPU seconds an epoch, median", [statistics.median(t.cpu_seconds) for t in trials])
    row("events/s, median", [events / statistics.median(t.seconds) for t in trials], "{:,.0f}")
    for name, target in targets.items():
        reached = [t.until(name, target) for t in trials]
        row(f"{name} best", [max(s[name] for s in t.scores) for t in trials], "{:.4f}")
        row(f"seconds to {name} {target:.4f}, steps only", reached)
        before = [reading + t.preparing for t in (plain, ours)]
        whole = [None if r is None else r + b for r, b in zip(reached, before, strict=True)]
        row(f"seconds to {name} {target:.4f}, with reading", whole)
    return table


def floor_line(shape: Shape, peak: float, ours: Trial, events: int) -> str:
    cells, scores = shape.flops_of_cells, shape.flops_of_scores
    floor = (cells + scores) / peak
    measured = statistics.median(ours.seconds) / events
    return (
        f"Flop floor: {cells / 1e6:.2f} MFLOP an event for the cells + {scores / 1e6:.2f} for "
        f"{shape.columns:,} columns (forward and backward); the bare float32 "
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
    options.add_argument("--epochs", type=int, default=10, help="of the plain loop")
    options.add_argument("--recipe", default="default", help="ours; its own number of epochs")
    options.add_argument("--set", action="append", default=[], help="name=value, of our recipe")
    options.add_argument("--held-out", choices=("valid", "test"), default="valid")
    options.add_argument("--target", action="append", default=[], help="metric=value, else plain's")
    options.add_argument("--threads", type=int, default=1)
    return options.parse_args()


def main() -> None:
    given, console = arguments(), Console()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    recipe = load_recipe(given.recipe, [*given.set, f"patience={10**6}"])
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

    plain = Plain(train, held_out, given.epochs, Published())
    turns = Turns(plain, recipe, console)
    with tempfile.TemporaryDirectory() as folder:
        turns.begin()
        Trainer(recipe, Path(folder), torch.device("cpu"), turns).train(train, held_out)
    best = {name: max(s[name] for s in plain.trial.scores) for name in METRICS}
    asked = {name: float(value) for name, _, value in (t.partition("=") for t in given.target)}
    console.print(f"Reading: {reading:.1f} s; preparing: plain {plain.trial.preparing:.1f} s, ours "
                  f"{turns.trial.preparing:.1f} s; {given.threads} thread(s).")  # fmt: skip
    console.print(report([plain.trial, turns.trial], reading, asked or best, events))
    console.print(floor_line(turns.shape, statistics.median(turns.peaks), turns.trial, events))


if __name__ == "__main__":
    main()
