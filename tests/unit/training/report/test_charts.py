"""Charts as SVG: well-formed, with their figures as text, the same each time, never markup."""

import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from training.evaluation.intervals import Estimate
from training.report.charts import Line, bar_chart, interval_chart, line_chart

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [text for element in ElementTree.fromstring(svg).iter() if (text := element.text)]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "points", [[(1.0, 0.5)], [(1.0, 1.0), (2.0, 1.0)], [(1.0, 0.1), (2.0, 9.0)]]
)
def test_one_epoch_and_a_flat_line_can_be_drawn(
    points: list[tuple[float, float]], log: bool
) -> None:
    chart = line_chart([Line("a", points)], title="t", x_label="x", y_label="y", log=log)

    assert ElementTree.fromstring(chart).get("viewBox") == "0 0 440 280"
    assert {"t", "x", "y"} <= set(texts(chart))


def test_large_numbers_on_a_logarithmic_axis_are_shortened() -> None:
    chart = line_chart(
        [Line("a", [(1, 2e6), (5000, 1)])], title="t", x_label="x", y_label="y", log=True
    )

    assert {"1", "10", "1k", "1M"} <= set(texts(chart))


def test_a_point_names_its_figure_and_its_interval() -> None:
    figures = [Estimate(0.5, 0.4, 0.6), Estimate(0.25, np.nan, np.nan)]
    chart = line_chart(
        [Line("model", [(0, 0.5), (1, 0.25)], figures)],
        title="by position",
        x_label="clicks before",
        y_label="recall",
        names=["1", "2"],
    )

    assert "model: 0.5000 (0.4000 to 0.6000)" in texts(chart)
    assert "model: 0.2500" in texts(chart)
    assert chart.count('id="LineCollection') == 0, "ids that a page would hold twice are removed"


def test_bars_name_their_shares() -> None:
    chart = bar_chart(
        {"train": [0.5, 0.25], "test": [0.4, 0.3]},
        title="t",
        x_label="x",
        y_label="y",
        names=["2", "3"],
    )

    assert {"train, 2: 50.0%", "train, 3: 25.0%", "test, 2: 40.0%"} <= set(texts(chart))
    assert {"50 %", "train", "test"} <= set(texts(chart))


def test_a_difference_is_written_with_its_sign() -> None:
    gains = {"recall": Estimate(0.02, 0.01, 0.03), "mrr": Estimate(-0.01, -0.02, 0.005)}

    chart = interval_chart(gains, title="t", x_label="difference", signed=True)

    assert {"+0.0200", "−0.0100", "recall: 0.0200 (0.0100 to 0.0300)"} <= set(texts(chart))


def test_colours_follow_the_style_sheet_of_the_page() -> None:
    chart = interval_chart({"model": Estimate(0.5, 0.4, 0.6)}, title="t", x_label="x")

    assert "var(--first, #1f5fbf)" in chart
    assert "#" not in chart.replace(", #", "").replace("url(#", "").replace('href="#', "")


def test_the_same_numbers_give_the_same_bytes() -> None:
    def draw() -> str:
        lines = [Line("a", [(1, 1), (2, 3)]), Line("b", [(1, 2), (2, 1)])]
        return line_chart(lines, title="t", x_label="x", y_label="y")

    assert draw() == draw()


def test_names_are_text_whatever_they_hold() -> None:
    evil = "<script>a(1)\"'&$x$"

    charts = [
        interval_chart({evil: Estimate(0.5, 0.4, 0.6)}, title=evil, x_label=evil),
        bar_chart({evil: [1.0, 2.0]}, title=evil, x_label=evil, y_label=evil, names=[evil, "b"]),
        line_chart([Line(evil, [(1, 1)])], title=evil, x_label=evil, y_label=evil),
    ]

    for chart in charts:
        assert "<script" not in chart
        assert evil in texts(chart)
        assert ElementTree.fromstring(chart).get("aria-label") == evil
        assert ElementTree.fromstring(chart).tag == f"{SVG}svg"


def test_matplotlib_is_imported_with_the_first_chart() -> None:
    code = "import sys, training.report.render; assert 'matplotlib' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
