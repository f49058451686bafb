"""Tables fit the window and show every cell literally."""

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping

import pytest
from rich.console import Console

from recsys.console import (
    HEADINGS,
    add_row,
    format_bytes,
    metrics_tables,
    neat_table,
    open_console,
    print_fitting,
)
from recsys.listing import ranked_tables
from recsys.predictor import Predictor
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.training.command_line import run

EVIL = "[red]a[/red] \x1b[31mb"
FIGURES = {"model": dict.fromkeys(HEADINGS, 0.5), "sequential rules": dict.fromkeys(HEADINGS, 0.25)}


def printed(width: int, metrics: Mapping[str, Mapping[str, float]] = FIGURES) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_fitting(console, metrics_tables(metrics, "Measured"))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_all_figures_fit_80_columns_on_one_line_each() -> None:
    title, head, rule, *rows = printed(80)

    assert title == "Measured"
    assert head.split() == list(HEADINGS.values())
    assert set(rule) == {"─"}
    assert [row.split()[0] for row in rows] == ["model", "sequential"]
    assert rows[1].count("0.2500") == len(HEADINGS)


@pytest.mark.parametrize("width", range(34, 81, 2))
def test_a_narrow_window_shows_fewer_figures_and_breaks_none(width: int) -> None:
    _, head, _, *rows = printed(width)

    assert all(len(row) <= width for row in rows)
    assert {"R@20", "MRR@20"} <= set(head.split())
    assert len(rows) == 2, "no name is broken over two lines"


def test_a_missing_metric_is_a_dash() -> None:
    assert printed(80, {"model": {"recall@20": 0.5}})[-1].split() == [
        "model", "–", "–", "–", "0.5000", "–", "–", "–",
    ]  # fmt: skip
    assert printed(80, {"model": {}})[-1].split() == ["model", *"–––––––"]


@pytest.mark.parametrize("width", [20, 40, 60, 100])
def test_lists_drop_attributes_before_they_break_ids(predictor: Predictor, width: int) -> None:
    scored = [("aurora-tent", 9.5), ("aurora-kettle", 8.25)]
    console = Console(file=io.StringIO(), width=width)

    print_fitting(console, ranked_tables(predictor.catalogue, scored, "Likely next"))

    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    if width >= 40:
        assert "1  aurora-tent" in lines[3]
    assert ("Camping" in lines[3]) == (width >= 60)


def test_a_cell_is_never_markup_nor_control_codes() -> None:
    console = Console(file=io.StringIO(), width=80)
    table = neat_table(EVIL, left=["item"])
    add_row(table, EVIL)

    console.print(table)

    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert said.count("[red]a[/red]") == 2
    assert "\x1b" not in said


def test_a_pipe_has_long_lines_and_no_control_codes(
    capsys: pytest.CaptureFixture[str], trained: TrainedShop
) -> None:
    for verb in (["inspect", str(trained.bundle)], ["recommend", "--bundle", str(trained.bundle)]):
        items = ["aurora-tent"] if verb[0] == "recommend" else ["--item", "aurora-tent"]
        code, out, _ = run(capsys, *verb, *items)
        assert code == 0
        assert "\x1b" not in out
        assert "Aurora" in out


def test_the_width_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    assert open_console().width == 50


def test_no_colour_variable_removes_colours(trained: TrainedShop) -> None:
    """Run in a terminal with NO_COLOR: bold and dim are not colours."""
    command = [sys.executable, "-m", "recsys", "inspect", str(trained.bundle)]
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "80"}
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while chunk := _read(ours):
            said += chunk
    os.close(ours)

    assert process.returncode == 0, said.decode()
    assert b"\x1b[" in said
    assert not re.search(rb"\x1b\[[0-9;]*(?<![0-9])[349][0-7][0-9;]*m", said)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # what a terminal says when the other side is closed
        return b""


def test_sizes_have_three_digits() -> None:
    assert [format_bytes(n) for n in (12, 1500, 3_514_892, 5e9)] == [
        "12 bytes", "1.5 KB", "3.5 MB", "5.0 GB",
    ]  # fmt: skip
