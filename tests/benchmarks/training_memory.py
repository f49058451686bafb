"""Measure the memory of training on prepared clicks, by number of clicks with one catalogue.

    python tests/benchmarks/training_memory.py

A generator writes each prepared folder piece by piece. A process of its own then opens it, trains
some steps, and does what a run does after training: neighbours of a blend, test with baselines,
statistics, golden sessions. Anonymous memory cannot be dropped; pages of mapped files can.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import pyarrow as pa
import torch
import typer
from rich.console import Console
from rich.table import Table

from data.clicks import Duplicates
from data.prepared.arrays import TYPES, PartSize
from data.prepared.folder import PreparedFolder, seal, write_catalogue
from data.prepared.manifest import Origin, PreparedManifest
from data.statistics import describe
from recsys.allocation import keep_freed_memory
from recsys.neighbours.blend import NORMALIZING, VOTES, BlendSettings
from recsys.neighbours.scoring import VSTAN
from training.additions.blend import blend_of
from training.checkpoint import EpochResult
from training.evaluation.compare import compare_with_intervals, evaluate_with_baselines
from training.export import golden_clicks
from training.model.weights import Weights, eager_predictor
from training.recipe import load_recipe
from training.trainer import FromScratch, Trainer

T = TypeVar("T")
EXPONENT = 0.8  # P(rank r) ∝ r^-0.8: about as skewed as the public shop logs
MEAN_EXTRA_CLICKS = 2.2  # in addition to two clicks in every session
SESSIONS_AT_ONCE = 250_000
TEST_SHARE = 0.1
SECONDS_BETWEEN_LOOKS = 0.05

app = typer.Typer(pretty_exceptions_enable=False)


def write_folder(folder: Path, clicks: int, items: int) -> None:
    """Write a prepared folder of about so many training clicks, and a tenth of it to test on."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    chance = np.cumsum(np.arange(1, items + 1, dtype=np.float64) ** -EXPONENT)
    second, parts = 1_400_000_000, {}
    for part, wanted in (("train", clicks), ("test", round(clicks * TEST_SHARE))):
        parts[part], second = _write_part(folder, part, wanted, chance, second, rng)
    write_catalogue(folder, pa.array([f"i{number:07d}" for number in range(items)]))
    origin = Origin({}, [])
    seal(folder, PreparedManifest(origin, [], Duplicates(0, 0), "", items, False, parts))


def _write_part(
    folder: Path, part: str, wanted: int, chance: np.ndarray, second: int, rng: np.random.Generator
) -> tuple[PartSize, int]:
    """Write the arrays of one part; return its size, and the second of its last session."""
    clicks = sessions = 0
    files = {name: (folder / f"{part}.{name}").open("wb") for name in TYPES}
    np.zeros(1, np.int64).tofile(files["offsets.i64"])
    while clicks < wanted:
        lengths = 1 + rng.geometric(1 / (1 + MEAN_EXTRA_CLICKS), SESSIONS_AT_ONCE)
        ends = np.cumsum(lengths)
        ends = ends[: np.searchsorted(ends, wanted - clicks) + 1]
        lengths = lengths[: len(ends)]
        starts = second + np.arange(len(lengths))
        within = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
        times = 1000 * (np.repeat(starts, lengths) + 30 * within)
        rank = np.searchsorted(chance, rng.random(ends[-1]) * chance[-1])
        rank.astype(np.int32).tofile(files["items.i32"])
        times.astype(np.int64).tofile(files["times.i64"])
        (clicks + ends).astype(np.int64).tofile(files["offsets.i64"])
        clicks, sessions = clicks + int(ends[-1]), sessions + len(lengths)
        second += len(lengths)
    for file in files.values():
        file.close()
    return PartSize(sessions, clicks), second


class MeasuredEnough(Exception):
    """The training has made enough steps."""


class StepLimit:
    """`ProgressListener` that stops the training after some steps."""

    def __init__(self, checks: int) -> None:
        self.checks, self.began, self.rate = checks, 0.0, 0.0

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None:
        self.began = time.perf_counter()

    def stepped(self, events: int, mean_loss: float) -> None:
        self.rate, self.checks = events / (time.perf_counter() - self.began), self.checks - 1
        if self.checks <= 0:
            raise MeasuredEnough

    def epoch_ends(self, result: EpochResult) -> None:
        raise MeasuredEnough


class Peaks:
    """Highest anonymous and resident memory in each phase, in MB, read many times a second."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self._phase, self._ended = "start", threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def measure(self, phase: str, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        self._phase = phase
        result = work()
        self._look()
        self.values[phase].append(time.perf_counter() - began)
        self._phase = "between"
        return result

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            self._look()

    def _look(self) -> None:
        phase = self._phase
        rows = [row.split() for row in Path("/proc/self/status").read_text().splitlines()]
        kb = {row[0]: float(row[1]) for row in rows if row[0] in ("RssAnon:", "VmRSS:")}
        seen = self.values.setdefault(phase, [0.0, 0.0])
        seen[0] = max(seen[0], kb["RssAnon:"] / 1024)
        seen[1] = max(seen[1], kb["VmRSS:"] / 1024)


def measure(folder: Path, hidden: int, checks: int) -> dict[str, list[float]]:
    """Return phase → anonymous MB, resident MB, seconds; rates in events/s as one number."""
    recipe = load_recipe("default", [f"hidden={hidden}", "epochs=1"])
    peaks, console = Peaks(), Console(file=StringIO())
    prepared = peaks.measure("open", PreparedFolder.at(folder).open)
    limit = StepLimit(checks)

    def train() -> None:
        with tempfile.TemporaryDirectory() as work, suppress(MeasuredEnough):
            trainer = Trainer(recipe, Path(work), torch.device("cpu"), limit)
            trainer.train(prepared.train, prepared.valid)

    peaks.measure("train", train)
    catalogue = FromScratch().catalogue(prepared.train)
    weights = Weights.fresh(recipe.size(len(catalogue)), torch.Generator().manual_seed(1))
    settings = BlendSettings(0.3, VSTAN, NORMALIZING, VOTES)
    peaks.measure("blend", lambda: blend_of(settings, catalogue, prepared.train))
    predictor = eager_predictor(weights, catalogue, recipe)
    test = prepared.test.keep_sessions(np.arange(len(prepared.test)) < 300)

    def compare() -> None:
        tested = evaluate_with_baselines(predictor, catalogue, prepared.train, test, console)
        compare_with_intervals(tested.results, catalogue.counts)

    peaks.measure("baselines", compare)
    peaks.measure("describe", lambda: describe(prepared.train))
    peaks.measure("golden", lambda: golden_clicks(prepared.train, recipe.window))
    peaks.end()
    return {**peaks.values, "events/s": [limit.rate]}


@app.command()
def main(
    clicks: Annotated[
        list[int] | None,
        typer.Option(help="Training clicks; repeat.", show_default="1, 4, 16 and 64 million"),
    ] = None,
    items: int = 100_000,
    hidden: int = 64,
    checks: Annotated[int, typer.Option(help="Hundreds of steps to train.")] = 3,
    folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print the peaks of each phase."""
    if folder is not None:
        torch.set_num_threads(1)
        keep_freed_memory()
        sys.stdout.write(json.dumps(measure(folder, hidden, checks)))
        return
    console = Console(width=120)
    for count in clicks or (1_000_000, 4_000_000, 16_000_000, 64_000_000):
        with tempfile.TemporaryDirectory() as parent:
            path = Path(parent) / "prepared"
            write_folder(path, count, items)
            command = [sys.executable, __file__, "--folder", str(path)]
            command += ["--hidden", str(hidden), "--checks", str(checks)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        values = json.loads(done.stdout)
        rate = values.pop("events/s")[0]
        title = f"{count:,} clicks, {items:,} items, {hidden} units: {rate:,.0f} events/s"
        table = Table("phase", "anonymous MB", "resident MB", "seconds", title=title)
        for phase, (anonymous, resident, *seconds) in values.items():
            spent = f"{seconds[0]:.1f}" if seconds else ""
            table.add_row(phase, f"{anonymous:,.0f}", f"{resident:,.0f}", spent)
        console.print(table)


if __name__ == "__main__":
    app()
