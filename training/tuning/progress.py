"""What a person sees of a search: a bar of trials, a bar of the epoch, a line for each trial."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from recsys.console import add_row, neat_table
from training.tuning.study import Outcome

SHOWN_TRIALS = 10


class TuneBars:
    """Two bars and, above them, one line for each trial that ended."""

    def __init__(self, console: Console, metric: str) -> None:
        self._console = console
        self._metric = metric
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._trials = self._bars.add_task("trials", total=None, note="")
        self._epoch = self._bars.add_task("epoch", total=None, note="")

    def __enter__(self) -> "TuneBars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def trial_begins(self, done: int, trials: int, best: Outcome | None) -> None:
        note = "" if best is None else f"best {self._metric} {best.score:.4f}"
        self._bars.update(self._trials, completed=done, total=trials, note=note)

    def epoch_begins(self, trial: int, epoch: int, epochs: int, done: int, events: int) -> None:
        title = f"trial {trial}, epoch {epoch}/{epochs}"
        self._bars.reset(self._epoch, description=title, total=events, completed=done, note="")

    def stepped(self, events: int, mean_loss: float) -> None:
        self._bars.update(self._epoch, completed=events, note=f"loss {mean_loss:.3f}")

    def trial_ends(self, outcome: Outcome, best: Outcome | None) -> None:
        score = "" if outcome.score is None else f" {self._metric} {outcome.score:.4f}"
        after = f"{outcome.epochs} epochs, {outcome.seconds:.0f} s"
        news = ""
        if best is not None:
            new = best.number == outcome.number
            news = "the best so far" if new else f"best {best.score:.4f} of trial {best.number}"
        parts = [f"{outcome.ending}{score}", after, outcome.reason, news, _written(outcome)]
        line = "; ".join(part for part in parts if part)
        self._console.print(
            f"trial {outcome.number}: {line}", soft_wrap=True, markup=False, highlight=False
        )


def outcomes_table(outcomes: Sequence[Outcome], metric: str) -> Table:
    """The best trials that came to their end, best first."""
    finished = [o for o in outcomes if o.ending == "finished"]
    ranked = sorted(finished, key=lambda o: -(o.score or 0.0))[:SHOWN_TRIALS]
    title = f"Best of {len(outcomes)} trials"
    table = neat_table(title, right=["#", metric, "epochs", "s"])
    table.add_column("settings", overflow="fold")
    for row, o in enumerate(ranked):
        cells = (o.number, f"{o.score:.4f}", o.epochs, f"{o.seconds:.0f}", _written(o))
        add_row(table, *cells, style="bold" if row == 0 else "")
    return table


def endings_line(outcomes: Sequence[Outcome]) -> str:
    """How many trials ended how: `12 finished, 7 pruned, 1 diverged`."""
    endings = [o.ending for o in outcomes]
    return ", ".join(f"{endings.count(ending)} {ending}" for ending in dict.fromkeys(endings))


def importance_line(shares: Mapping[str, float]) -> str:
    parts = (f"{name} {share:.0%}" for name, share in shares.items())
    return f"What mattered: {', '.join(parts)}."


def _written(outcome: Outcome) -> str:
    values = outcome.settings.items()
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values
    )
