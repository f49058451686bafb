"""Charts as SVG: well-formed, where the numbers are, and never markup from a name."""

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.intervals import Estimate
from training.report.charts import (
    HEIGHT,
    WIDTH,
    Line,
    Scale,
    bar_chart,
    interval_chart,
    line_chart,
    spanning,
    written,
)

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def texts(svg: str) -> list[str]:
    return [text for element in ElementTree.fromstring(svg).iter() if (text := element.text)]


def test_a_scale_runs_from_start_to_end() -> None:
    across, up = Scale(0, 10, 50, 250), Scale(1, 1000, 200, 50, log=True)

    assert [across(0), across(5), across(10)] == [50, 150, 250]
    assert [up(1), up(10), up(1000)] == [200, 150, 50]


def test_ticks_are_round_and_within() -> None:
    assert Scale(0, 0.67, 0, 1).ticks() == [0, 0.2, 0.4, 0.6]
    assert Scale(0.93, 2.07, 0, 1).ticks(whole=True) == [1, 2]
    assert Scale(1, 5200, 0, 1, log=True).ticks() == [1, 10, 100, 1000]
    assert [written(tick) for tick in (0.0, 0.05, 2000.0, 1e6, -0.1)] == [
        "0", "0.05", "2k", "1M", "−0.1",
    ]  # fmt: skip


@given(st.lists(FINITE, min_size=1, max_size=8), st.booleans())
def test_every_scale_holds_its_values_and_has_ticks(values: list[float], whole: bool) -> None:
    scale = spanning(values, 0, 400)

    assert all(-0.01 <= scale(value) <= 400.01 for value in values)
    assert all(scale.low - 1e-6 <= tick <= scale.high + 1e-6 for tick in scale.ticks(whole=whole))
    assert len(scale.ticks()) <= 11


def test_one_epoch_and_a_flat_line_can_be_drawn() -> None:
    for points in ([(1.0, 0.5)], [(1.0, 0.0), (2.0, 0.0)]):
        chart = line_chart([Line("a", points)], title="t", x_label="x", y_label="y")
        assert ElementTree.fromstring(chart).get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"


def test_a_point_says_its_figure_and_its_interval() -> None:
    figures = [Estimate(0.5, 0.4, 0.6), Estimate(0.25, np.nan, np.nan)]
    chart = line_chart(
        [Line("model", [(0, 0.5), (1, 0.25)], figures)],
        title="by position",
        x_label="clicks before",
        y_label="recall",
        names=["1", "2"],
    )

    said = texts(chart)
    assert "model: 0.5000 (0.4000 to 0.6000)" in said
    assert "model: 0.2500" in said
    assert chart.count('class="whisker"') == 1


def test_bars_are_as_high_as_their_shares() -> None:
    chart = bar_chart({"train": [0.5, 0.25]}, title="t", x_label="x", y_label="y", names=["2", "3"])

    bars = [e for e in ElementTree.fromstring(chart).iter() if e.get("class") == "bar first"]
    high, low = (float(bar.get("height", 0)) for bar in bars)
    assert high == pytest.approx(2 * low, rel=0.01)


def test_a_difference_reaches_from_zero_to_its_figure_with_its_sign() -> None:
    gains = {"recall": Estimate(0.02, 0.01, 0.03), "mrr": Estimate(-0.01, -0.02, 0.005)}

    chart = interval_chart(gains, title="t", x_label="difference", signed=True)

    said = texts(chart)
    assert {"+0.0200", "−0.0100", "recall: 0.0200 (0.0100 to 0.0300)"} <= set(said)
    right, left = (e for e in ElementTree.fromstring(chart).iter() if e.get("class") == "reach")
    zero = float(right.get("x", 0))
    assert float(left.get("x", 0)) + float(left.get("width", 0)) == pytest.approx(zero)
    assert float(right.get("width", 0)) == pytest.approx(2 * float(left.get("width", 0)), rel=0.01)


def test_names_are_text_whatever_they_hold() -> None:
    evil = "<script>alert(1)</script>\"'&"

    charts = [
        interval_chart({evil: Estimate(0.5, 0.4, 0.6)}, title=evil, x_label=evil),
        bar_chart({evil: [1.0, 2.0]}, title=evil, x_label=evil, y_label=evil, names=[evil, "b"]),
        line_chart([Line(evil, [(1, 1)])], title=evil, x_label=evil, y_label=evil),
    ]

    for chart in charts:
        assert "<script" not in chart
        assert evil in texts(chart)
