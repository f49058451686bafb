"""Tables for a terminal or a notebook: one style for all commands, never wider than the window.

Output to a file or a pipe has no maximum width and no control codes. Cells are `Text`, so an id or
a path is never markup.
"""

import importlib.util
import os
from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.control import Control
from rich.table import Table
from rich.text import Text

UNBOUNDED = 10_000  # columns, for output to a file or a pipe
NOTEBOOK_COLUMNS = 100

MetricValues = Mapping[str, Mapping[str, float]]  # recommender → metric → value
HEADINGS = {  # metric → heading, short enough for 80 columns
    "recall@1": "R@1",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "recall@20": "R@20",
    "mrr@20": "MRR@20",
    "ndcg@20": "NDCG@20",
    "coverage@20": "cover@20",
}
# left out in this order where the window is narrow
DISPENSABLE = ("recall@5", "recall@10", "ndcg@20", "recall@1", "coverage@20")


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console as wide as the window, or without a limit for a file or a pipe."""
    console = Console(stderr=stderr, quiet=quiet, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBOUNDED
    return console


def open_api_console(*, progress: bool) -> Console:
    """Return a console on standard error or in a notebook cell; a silent one without `progress`."""
    console = open_console(stderr=True, quiet=not progress)
    return NotebookConsole() if progress and console.is_jupyter else console


class NotebookConsole(Console):
    """Console of a notebook cell. It draws bars if ipywidgets is installed."""

    def __init__(self) -> None:
        bars = importlib.util.find_spec("ipywidgets") is not None
        width = NOTEBOOK_COLUMNS
        super().__init__(width=width, highlight=False, force_terminal=bars, force_interactive=False)

    def control(self, *control: Control) -> None:
        """Move no cursor: a cell has none, and shows each control code as an empty line."""


def neat_table(title: str = "", *, left: Sequence[str] = (), right: Sequence[str] = ()) -> Table:
    """Return a table with a rule under the headings: columns of text, then of numbers."""
    table = Table(
        title=_cell(title, "bold") if title else None,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        header_style="dim",
    )
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def add_row(table: Table, *cells: object, style: str = "") -> None:
    """Add a row of plain text; a `Text` keeps its own style."""
    table.add_row(*(c if isinstance(c, Text) else _cell(str(c)) for c in cells), style=style)


def _cell(text: str, style: str = "") -> Text:
    """Return the text without control characters: an id may hold an escape sequence."""
    return Text("".join(letter if letter.isprintable() else "�" for letter in text), style)


def print_fitting(console: Console, tables: Iterable[Table]) -> None:
    """Print the first table that fits the window, else the last."""
    unbounded = console.options.update(width=UNBOUNDED)
    chosen = None
    for table in tables:
        chosen = table
        if console.measure(table, options=unbounded).maximum <= console.width:
            break
    if chosen is not None:
        console.print(chosen)


def metrics_tables(metrics: MetricValues, title: str) -> Iterable[Table]:
    """Yield tables of all recommenders with fewer and fewer metrics; the first row is bold."""
    shown = list(HEADINGS)
    yield _metrics_table(metrics, title, shown)
    for metric in DISPENSABLE:
        shown.remove(metric)
        yield _metrics_table(metrics, title, shown)


def _metrics_table(metrics: MetricValues, title: str, shown: Sequence[str]) -> Table:
    """Return a table whose best value of each column is green; a missing value is a dash."""
    table = neat_table(title, left=[""], right=[HEADINGS[metric] for metric in shown])
    best = {metric: max(v.get(metric, 0.0) for v in metrics.values()) for metric in shown}
    for row, (name, values) in enumerate(metrics.items()):
        cells = [
            Text(
                f"{values[metric]:.4f}" if metric in values else "–",
                style="green" if values.get(metric) == best[metric] else "",
            )
            for metric in shown
        ]
        add_row(table, name, *cells, style="bold" if row == 0 else "")
    return table


def format_bytes(count: float) -> str:
    """Return a size with its unit: 3.5 MB."""
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
