"""What a person sees while a run works: bars on the terminal's error stream, tables at the end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from data.sessions import SessionCounts
from recsys.console import add_row, neat_table
from training.checkpoint import EpochResult


class _EventsPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} events/s" if task.speed else "")


class TrainingBars:
    """A `ProgressListener`: one bar an epoch with loss, events per second, time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            _EventsPerSecond(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "TrainingBars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None:
        title = f"{phase} epoch {epoch}/{epochs}"
        self._task = self._bars.add_task(title, total=events, completed=done, loss=float("nan"))

    def stepped(self, events: int, mean_loss: float) -> None:
        assert self._task is not None, "an epoch begins before its steps"
        self._bars.update(self._task, completed=events, loss=mean_loss)

    def epoch_ends(self, result: EpochResult) -> None:
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
            f"[dim]{result.seconds:>3.0f} s  {speed:>7,.0f} events/s[/dim]",
            soft_wrap=True,
            highlight=False,
        )


@contextmanager
def bar(console: Console, title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work that counts (done, total); it leaves no trace when it ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    count = (MofNCompleteColumn(), TextColumn(unit)) if unit else ()
    with Progress(
        *columns, *count, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def warn(console: Console, sentence: str | None) -> None:
    """Print a warning, if there is one."""
    if sentence is not None:
        console.print(f"Warning: {sentence}", style="yellow", soft_wrap=True, markup=False)


def counts_table(counts: Sequence[SessionCounts]) -> Table:
    table = neat_table("What was read", left=["step"], right=["sessions", "clicks", "items"])
    for c in counts:
        add_row(table, c.step, f"{c.sessions:,}", f"{c.clicks:,}", f"{c.items:,}")
    return table
