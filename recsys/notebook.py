"""Console of the Python API: the terminal's error stream, or the output of a notebook cell."""

import importlib.util

from rich.console import Console
from rich.control import Control

from recsys.console import open_console

COLUMNS = 100  # width of the tables in a notebook


def open_api_console(*, progress: bool) -> Console:
    """Return a console that shows bars and tables, or nothing if `progress` is false."""
    console = open_console(stderr=True, quiet=not progress)
    return NotebookConsole() if progress and console.is_jupyter else console


class NotebookConsole(Console):
    """Console of a notebook cell. It draws bars if ipywidgets is installed."""

    def __init__(self) -> None:
        with_bars = importlib.util.find_spec("ipywidgets") is not None
        super().__init__(
            width=COLUMNS, highlight=False, force_terminal=with_bars, force_interactive=False
        )

    def control(self, *control: Control) -> None:
        """Move no cursor: a cell has none, and shows each control code as an empty line."""
