"""Progress: the widget of a bar in a notebook stays open, an epoch's line has its figures."""

from collections.abc import Callable
from io import StringIO

import pytest
from ipywidgets import Widget
from rich.console import Console

from recsys.console import NotebookConsole
from training.checkpoint import EpochResult
from training.progress import TrainingBars, bar, status


def draw_bar(console: Console) -> None:
    with bar(console, "Reading", "rows") as progress:
        progress(1, 4)


def draw_status(console: Console) -> None:
    with status(console, "Waiting") as update:
        update("Still waiting")


def open_outputs() -> int:
    """Return how many widgets that show outputs can get messages from the page."""
    models = Widget.get_manager_state()["state"].values()
    return sum(model["model_name"] == "OutputModel" for model in models)


@pytest.mark.parametrize("draw", [draw_bar, draw_status])
def test_the_widget_of_a_bar_that_ended_is_still_open(
    draw: Callable[[Console], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page answers each drawing; a closed widget would print `No such comm` for each answer."""
    monkeypatch.setattr("IPython.display.display", lambda *shown: None)  # there is no page here
    console = Console(force_jupyter=True, force_terminal=True)
    before = open_outputs()

    for _ in range(3):
        draw(console)

    assert open_outputs() == before + 3


def test_without_ipywidgets_a_notebook_has_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert not NotebookConsole().is_terminal


@pytest.mark.parametrize(
    ("processes", "seconds", "line"),
    [
        (1, 0.0, "4 s    1,000 events/s"),
        (2, 1.0, "1,000 events/s  (2 processes of 500; 1 s in communication, 2.0 MB a step)"),
        (2, 0.0, "1,000 events/s  (2 processes of 500; 2.0 MB a step)"),  # on graphics cards
    ],
)
def test_the_line_of_an_epoch_says_what_processes_exchange(
    processes: int, seconds: float, line: str
) -> None:
    printed = StringIO()
    result = EpochResult("refit", 1, 2.5, 4.0, 4000, {}, 0.0, processes, seconds, 2e6)

    TrainingBars(Console(file=printed, width=200)).epoch_ends(result)

    assert printed.getvalue().rstrip().endswith(line)
