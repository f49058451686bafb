"""Progress in the terminal: bars on the error stream while a run works, tables at the end."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from data.prepare import Remark
from data.sessions import SessionCounts
from recsys.console import add_row, format_bytes, neat_table

if TYPE_CHECKING:  # a command that only reads clicks loads no torch
    from training.checkpoint import EpochResult


class _EventsPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} events/s" if task.speed else "")


class _Progress(Progress):
    """Bars that leave no trace when they end, and are not drawn where there is no terminal.

    In a notebook their widget stays, without bars. If it were closed, the page would still send
    messages to it, and the kernel would print `No such comm` for each.
    """

    def __init__(self, console: Console, *columns: ProgressColumn) -> None:
        transient, disable = not console.is_jupyter, not console.is_terminal
        super().__init__(*columns, console=console, transient=transient, disable=disable)

    def stop(self) -> None:
        """Stop the refreshing of the bars, and remove them."""
        if self.live.ipy_widget is not None:
            for task in self.task_ids:
                self.remove_task(task)
            self.refresh()
        super().stop()


class _Bars:
    """Bars of work that lasts, with its time and the time left."""

    def __init__(self, console: Console, *columns: ProgressColumn) -> None:
        self._console = console
        self._bars = _Progress(
            console,
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


class TrainingBars(_Bars):
    """Watcher of a trainer: a bar for each epoch with loss, events per second, time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, _EventsPerSecond(), TextColumn("loss {task.fields[loss]:.3f}"))
        self._task: TaskID | None = None

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None:
        title = f"{phase} epoch {epoch}/{epochs}"
        self._task = self._bars.add_task(title, total=events, completed=done, loss=float("nan"))

    def stepped(self, events: int, mean_loss: float) -> None:
        assert self._task is not None, "an epoch begins before its steps"
        self._bars.update(self._task, completed=events, loss=mean_loss)

    def epoch_ends(self, result: "EpochResult") -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        scores = "  ".join(
            f"{name} {result.metrics[name]:.4f}"
            for name in ("recall@20", "mrr@20")
            if result.metrics
        )
        speed = result.events / max(result.seconds, 1e-9)
        self._console.print(
            f"{result.phase:<6} epoch {result.epoch:>2}  loss {result.loss:.4f}  {scores:<31}  "
            f"[dim]{result.seconds:>3.0f} s  {speed:>7,.0f} events/s{_exchange(result)}[/dim]",
            soft_wrap=True,
            highlight=False,
        )


def _exchange(result: "EpochResult") -> str:
    """Return what several processes cost: each one's share of the speed, time and bytes."""
    if result.processes == 1:
        return ""
    speed = result.events / max(result.seconds, 1e-9) / result.processes
    waited = f"{result.communication_seconds:.0f} s in communication, " * bool(
        result.communication_seconds
    )
    return (
        f"  ({result.processes} processes of {speed:,.0f}; "
        f"{waited}{format_bytes(result.bytes_per_step)} a step)"
    )


@dataclass(frozen=True, slots=True)
class NamedProgress:
    """Watcher of one rival's trainer: its search has the name of the recipe."""

    bars: TrainingBars
    name: str

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None:
        self.bars.epoch_begins(self._named(phase), epoch, epochs, done, events)

    def stepped(self, events: int, mean_loss: float) -> None:
        self.bars.stepped(events, mean_loss)

    def epoch_ends(self, result: "EpochResult") -> None:
        self.bars.epoch_ends(dataclasses.replace(result, phase=self._named(result.phase)))

    def _named(self, phase: str) -> str:
        return self.name if phase == "search" else phase


class TuneBars(_Bars):
    """A bar of trials, a bar of the epoch and, above them, one line for each trial that ended."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        self._trials = self._bars.add_task("trials", total=None, note="")
        self._epoch = self._bars.add_task("epoch", total=None, note="")

    def trial_begins(self, done: int, trials: int, note: str) -> None:
        self._bars.update(self._trials, completed=done, total=trials, note=note)

    def epoch_begins(self, trial: int, epoch: int, epochs: int, done: int, events: int) -> None:
        title = f"trial {trial}, epoch {epoch}/{epochs}"
        self._bars.reset(self._epoch, description=title, total=events, completed=done, note="")

    def stepped(self, events: int, mean_loss: float) -> None:
        self._bars.update(self._epoch, completed=events, note=f"loss {mean_loss:.3f}")

    def trial_ends(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def bar(console: Console, title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Draw a bar for work that counts (done, total); it leaves no trace when it ends."""
    count = (MofNCompleteColumn(), TextColumn(unit)) if unit else ()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), *count)
    with _Progress(console, *columns) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def status(console: Console, title: str) -> Iterator[Callable[[str], None]]:
    """Show what is at work until it ends; the yielded function changes the text."""
    with _Progress(console, SpinnerColumn(), TextColumn("{task.description}")) as progress:
        task = progress.add_task(title, total=None)
        yield lambda text: progress.update(task, description=text)


def warn(console: Console, *sentences: str | Remark | None) -> None:
    """Print each warning that there is."""
    for sentence in sentences:
        if sentence is not None:
            console.print(f"Warning: {sentence}", style="yellow", soft_wrap=True, markup=False)


def counts_table(counts: Sequence[SessionCounts]) -> Table:
    """Build the table of what is left after each step of reading."""
    table = neat_table("What was read", left=["step"], right=["sessions", "clicks", "items"])
    for c in counts:
        add_row(table, c.step, f"{c.sessions:,}", f"{c.clicks:,}", f"{c.items:,}")
    return table
