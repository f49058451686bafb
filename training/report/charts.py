"""Charts of the report as inline SVG: lines, bars, and points with intervals.

Matplotlib draws them, through its object API, so no state is shared between charts. Text stays
text, and colours are variables of the page's style sheet with a light default. The same numbers
give the same bytes. Matplotlib is imported with the first chart, because it takes a second.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from data.statistics import Statistics
from training.checkpoint import EpochResult
from training.evaluation.compare import HEADLINE, MODEL, Comparison, SliceResult
from training.evaluation.intervals import Estimate
from training.report.summary import metric_name

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 440, 280  # of a chart, in units of its view box
ROWS_TOP, ROW_HEIGHT = 30, 27  # of an interval chart: above its rows, and of one row
FIGURE_WIDTH = 72  # of the figures beside the rows
UNITS_PER_INCH = 72  # Matplotlib's points
TOP, BOTTOM, LEFT, RIGHT = 46, 40, 62, 12  # around the plot of a line or bar chart
FONT_SIZE = 12
NAME_LETTERS = 20
WHISKER_OFFSET = 0.06  # of a category, so that the whiskers of two lines stand side by side

INK, QUIET, GRID, AXIS, PAPER = "#182030", "#556072", "#dfe4ec", "#9aa5b5", "#ffffff"
SERIES = ("#1f5fbf", "#b4540a")
VARIABLES = {  # colour → variable of report.css
    INK: "--ink",
    QUIET: "--quiet",
    GRID: "--line",
    AXIS: "--axis",
    PAPER: "--paper",
    SERIES[0]: "--first",
    SERIES[1]: "--second",
}
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": AXIS,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": QUIET,
    "axes.labelsize": 12,
    "axes.spines.bottom": False,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": QUIET,
    "axes.titlesize": 12,
    "axes.titley": 1.0,  # to find it takes Matplotlib half the time of a chart
    "figure.facecolor": "none",
    "font.size": FONT_SIZE,
    "grid.color": GRID,
    "legend.borderaxespad": 0.3,
    "legend.columnspacing": 1.2,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.labelcolor": QUIET,
    "svg.fonttype": "none",
    "text.color": QUIET,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "xtick.bottom": False,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "ytick.left": False,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; x is a number, or the index of one of the chart's names."""

    name: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[Estimate] = ()  # one for each point, or none at all
    ringed: int | None = None  # index of the point with a ring around it


class _Chart:
    """One figure with one pair of axes, and the texts that appear over its points.

    Margins are given, in units of the view box: to find them takes Matplotlib a third of the time.
    """

    def __init__(
        self,
        title: str,
        height: float,
        *,
        top: float = TOP,
        left: float = LEFT,
        right: float = RIGHT,
    ) -> None:
        from matplotlib.figure import Figure

        self._title = title
        self._tooltips: list[str] = []
        self._figure = Figure(figsize=(WIDTH / UNITS_PER_INCH, height / UNITS_PER_INCH))
        self._figure.suptitle(title, x=0, y=1, ha="left", fontsize=14, fontweight="bold", color=INK)
        self._figure.subplots_adjust(
            left / WIDTH, BOTTOM / height, 1 - right / WIDTH, 1 - top / height
        )
        self.axes: Axes = self._figure.subplots()

    def add_tooltip(self, artist: "Artist", text: str) -> None:
        """Show a text while the pointer is over an artist."""
        artist.set_gid(f"tooltip-{len(self._tooltips)}")
        self._tooltips.append(text)

    def add_legend(self, artists: Sequence["Artist"], names: Sequence[str]) -> None:
        """Name the series above the plot at the right, if there are several."""
        if len(names) > 1:
            self.axes.legend(
                artists,
                [_short(name) for name in names],
                loc="lower right",
                bbox_to_anchor=(1, 1),
                ncols=len(names),
            )

    def svg(self) -> Markup:
        """Return the `<svg>` element."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        buffer = io.StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(self._figure).print_svg(buffer, metadata=no_metadata)  # type: ignore[no-untyped-call]
        text = buffer.getvalue()
        text = text[text.index("<svg") :]  # what is before it belongs to a file of its own
        name = escape(self._title)
        text = re.sub(r"<svg [^>]*>", f'<svg {_opening(text)} aria-label="{name}">', text, count=1)
        for number, tooltip in enumerate(self._tooltips):
            group = f'<g id="tooltip-{number}">'
            text = text.replace(group, f"<g><title>{escape(tooltip)}</title>")
        text = re.sub(r"<style[^<]*</style>", "", text)  # would hold for the whole page
        text = re.sub(r' id="[\w.]+_\d+"', "", text)  # would occur once in each chart of a page
        for colour, variable in VARIABLES.items():
            text = text.replace(colour, f"var({variable}, {colour})")
        return Markup(text)


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    names: Sequence[str] = (),
    log: bool = False,
    from_zero: bool = False,
    mark_zero: bool = False,
) -> Markup:
    """Draw at most two lines, with the interval of each point.

    Args:
        lines: The curves; with `names`, their x is an index of `names`, else a whole number.
        title: Heading, and the chart's name for a screen reader.
        x_label: Text below the plot.
        y_label: Text above the plot.
        names: Categories along the x axis.
        log: Both axes are logarithmic, without a mark for each point.
        from_zero: The y axis begins at zero.
        mark_zero: A line is drawn at zero.
    """
    with _style(title):
        from matplotlib.ticker import MaxNLocator

        chart = _Chart(title, HEIGHT)
        if mark_zero:
            chart.axes.axhline(0, color=AXIS, linewidth=1)
        _label_axes(chart.axes, x_label, y_label)
        if log:
            _set_log_scales(chart.axes)
        elif names:
            chart.axes.set_xticks(range(len(names)), names)
            chart.axes.set_xlim(-0.5, len(names) - 0.5)
        else:
            chart.axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        artists = []
        for number, line in enumerate(lines):
            shift = (2 * number - len(lines) + 1) * WHISKER_OFFSET if names else 0.0
            artists.append(_draw_line(chart, line, number, shift, with_points=not log))
        if from_zero:
            chart.axes.set_ylim(bottom=0)
        chart.add_legend(artists, [line.name for line in lines])
        return chart.svg()


def bar_chart(
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    names: Sequence[str],
) -> Markup:
    """Draw shares as bars, those of at most two series side by side.

    Args:
        series: Name → a share of 1 for each of `names`.
        title: Heading, and the chart's name for a screen reader.
        x_label: Text below the plot.
        y_label: Text above the plot.
        names: Categories along the x axis.
    """
    with _style(title):
        from matplotlib.ticker import PercentFormatter

        chart = _Chart(title, HEIGHT)
        _label_axes(chart.axes, x_label, y_label)
        chart.axes.set_xticks(range(len(names)), names)
        chart.axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        width = 0.8 / len(series)
        artists: list[Artist] = []
        for number, (name, shares) in enumerate(series.items()):
            left = [place + (number - len(series) / 2) * width for place in range(len(names))]
            bars = chart.axes.bar(left, shares, 0.92 * width, align="edge", color=SERIES[number])
            for bar, category, share in zip(bars, names, shares, strict=True):
                chart.add_tooltip(bar, f"{name}, {category}: {share:.1%}")
            artists.append(bars[0])
        chart.add_legend(artists, list(series))
        return chart.svg()


def interval_chart(
    rows: Mapping[str, Estimate], *, title: str, x_label: str, signed: bool = False
) -> Markup:
    """Draw one row for each name: a bar from zero, its interval, its figure.

    Args:
        rows: Name → figure; the first row stands out.
        title: Heading, and the chart's name for a screen reader.
        x_label: Text below the plot.
        signed: The figures are differences, written with their sign; no row stands out.
    """
    with _style(title):
        from matplotlib.ticker import MaxNLocator

        names = [_short(name) for name in rows]
        chart = _Chart(
            title,
            ROWS_TOP + ROW_HEIGHT * len(rows) + BOTTOM,
            top=ROWS_TOP,
            left=max(map(_text_width, names)) + 8,
            right=FIGURE_WIDTH,
        )
        axes = chart.axes
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.use_sticky_edges = False  # leaves room beside a bar that ends at zero
        axes.axvline(0, color=AXIS, linewidth=1)
        for row, (name, figure) in enumerate(rows.items()):
            stands_out = row == 0 and not signed
            weight, ink = ("bold", INK) if stands_out else ("normal", QUIET)
            axes.get_yticklabels()[row].set(fontweight=weight, color=ink)
            colour = SERIES[0 if stands_out or signed else 1]
            axes.barh(row, figure.value, 0.45, color=colour, alpha=0.28)
            _draw_point(chart, (figure.value, row), colour, colour, f"{name}: {_in_words(figure)}")
            if not math.isnan(figure.low):
                axes.hlines(row, figure.low, figure.high, color=colour, linewidth=2)
            text = f"{figure.value:+.4f}" if signed else f"{figure.value:.4f}"
            text = text.replace("-", "−")
            beside = axes.get_yaxis_transform()
            axes.text(1.03, row, text, va="center", transform=beside, color=ink, fontweight=weight)
        if not signed:
            axes.set_xlim(left=0)
        return chart.svg()


def _style(title: str) -> "AbstractContextManager[None]":
    """Return Matplotlib's settings for one chart; its title keeps the chart's ids apart."""
    from matplotlib import rc_context

    settings: Any = {**STYLE, "svg.hashsalt": title}
    return rc_context(settings)


def _opening(svg: str) -> str:
    """Return the attributes of the element, without a size in points."""
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None, "Matplotlib writes a view box"
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'{names} {view_box.group()} role="img"'


def _text_width(text: str) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font = FontProperties(size=FONT_SIZE, weight="bold")
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return float(width)


def _label_axes(axes: "Axes", x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_title(y_label, loc="left")
    axes.grid(visible=False, axis="x")


def _set_log_scales(axes: "Axes") -> None:
    """Make both axes logarithmic, with a tick for each power of ten: 1, 10, 100, 1k."""
    from matplotlib.ticker import EngFormatter, LogLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10))
        axis.set_major_formatter(EngFormatter(sep=""))
    axes.minorticks_off()


def _draw_line(
    chart: _Chart, line: Line, number: int, shift: float, *, with_points: bool
) -> "Artist":
    """Draw one curve and return the artist that stands for it in the legend."""
    colour, dashes = SERIES[number], ("-", (0, (4, 2)))[number]
    x = [across + shift for across, _ in line.points]
    y = [up for _, up in line.points]
    (curve,) = chart.axes.plot(x, y, color=colour, linestyle=dashes, linewidth=2)
    known = [
        (across, figure.low, figure.high)
        for across, figure in zip(x, line.intervals, strict=False)
        if not math.isnan(figure.low)
    ]
    if known:
        chart.axes.vlines(*zip(*known, strict=True), color=colour, linewidth=2)
    for place, point in enumerate(zip(x, y, strict=True) if with_points else ()):
        text = _in_words(line.intervals[place]) if line.intervals else f"{point[1]:.4g}"
        _draw_point(chart, point, colour, (colour, PAPER)[number], f"{line.name}: {text}")
        if place == line.ringed:
            chart.axes.plot(*point, "o", markersize=15, markerfacecolor="none", color=colour)
    return curve


def _draw_point(
    chart: _Chart, at: tuple[float, float], colour: str, fill: str, tooltip: str
) -> None:
    (point,) = chart.axes.plot(
        *at, "o", color=colour, markerfacecolor=fill, markersize=7, clip_on=False, zorder=3
    )
    chart.add_tooltip(point, tooltip)


def _short(name: str) -> str:
    return name if len(name) <= NAME_LETTERS else name[: NAME_LETTERS - 1] + "…"


def _in_words(figure: Estimate) -> str:
    if math.isnan(figure.low):
        return f"{figure.value:.4f}"
    return f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"


def result_charts(comparison: Comparison) -> list[Markup]:
    """Draw each headline metric of all recommenders: the model, then the others, best first."""
    charts = []
    for metric in HEADLINE:
        figures = {name: metrics[metric] for name, metrics in comparison.figures.items()}
        ranked = sorted(figures, key=lambda name: (name != MODEL, -figures[name].value))
        charts.append(
            interval_chart(
                {name: figures[name] for name in ranked},
                title=f"{metric_name(metric)} of all recommenders",
                x_label=f"{metric_name(metric)}, 95 % interval",
            )
        )
    return charts


def difference_charts(comparison: Comparison) -> list[Markup]:
    """Draw the model vs the best baseline of each metric, and vs each of its relatives."""
    gains = {"the best baseline": {d.metric: d.gain for d in comparison.differences}}
    for d in comparison.to_relatives:
        gains.setdefault(d.other, {})[d.metric] = d.gain
    return [
        interval_chart(
            rows, title=f"Model vs {other}", x_label="difference, 95 % interval", signed=True
        )
        for other, rows in gains.items()
        if rows
    ]


def slice_charts(parts: Sequence[SliceResult], x_label: str, grouping: str) -> list[Markup]:
    """Draw each headline metric of some slices, the model beside its best baseline."""
    if not parts:
        return []
    return [
        line_chart(
            [
                Line(
                    name,
                    [(at, part.figures[name][metric].value) for at, part in enumerate(parts)],
                    [part.figures[name][metric] for part in parts],
                )
                for name in parts[0].figures
            ],
            title=f"{metric_name(metric)} {grouping}",
            x_label=x_label,
            y_label="with 95 % intervals",
            names=[part.slice.name for part in parts],
            from_zero=True,
        )
        for metric in HEADLINE
    ]


def training_charts(epochs: Sequence[EpochResult], best_epoch: object) -> list[Markup]:
    """Draw loss, validation metrics and gradient norm, with a ring around the chosen epoch."""
    if not epochs:
        return []
    phases = list(dict.fromkeys(result.phase for result in epochs))

    def curves(of: Mapping[str, list[tuple[float, float]]], title: str, label: str) -> Markup:
        lines = [
            Line(name, points, ringed=_index_of(points, best_epoch) if name == "search" else None)
            for name, points in of.items()
        ]
        return line_chart(lines, title=title, x_label="epoch", y_label=label)

    loss = {p: [(float(r.epoch), r.loss) for r in epochs if r.phase == p] for p in phases}
    norm = {p: [(float(r.epoch), r.gradient_norm) for r in epochs if r.phase == p] for p in phases}
    charts = [curves(loss, "Training loss", "mean loss of a click")]
    for metric in HEADLINE:
        points = [(float(r.epoch), r.metrics[metric]) for r in epochs if metric in r.metrics]
        if points:
            name = metric_name(metric)
            charts.append(curves({"search": points}, f"{name} on validation sessions", name))
    return [*charts, curves(norm, "Gradient norm", "mean norm, before clipping")]


def _index_of(points: Sequence[tuple[float, float]], epoch: object) -> int | None:
    return next((at for at, (x, _) in enumerate(points) if x == epoch), None)


def data_charts(parts: Mapping[str, Statistics]) -> list[Markup]:
    """Draw session lengths and item popularity of the parts of a click log."""
    return [
        bar_chart(
            {name: [group.share for group in part.lengths] for name, part in parts.items()},
            title="Session lengths",
            x_label="clicks in a session",
            y_label="share of sessions",
            names=[group.name for group in next(iter(parts.values())).lengths],
        ),
        line_chart(
            [
                Line(name, [(float(rank), float(clicks)) for rank, clicks in part.popularity])
                for name, part in parts.items()
            ],
            title="Item popularity",
            x_label="rank of the item, by clicks",
            y_label="clicks on the item",
            log=True,
        ),
    ]
