"""Bars in a notebook: their widget stays open, and without ipywidgets there are none."""

from collections.abc import Callable

import pytest
from ipywidgets import Widget
from rich.console import Console

from recsys.console import NotebookConsole
from training.progress import bar, status


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
