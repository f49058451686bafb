"""Small charts as inline SVG: lines, bars, and points with intervals.

Numbers and names in, one `<svg>` out, with text as text and colours left to the page's style
sheet (classes `first` and `second`). Built as an element tree, so no name can become markup.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from markupsafe import Markup

from data.statistics import Statistics
from training.checkpoint import EpochResult
from training.evaluation.compare import HEADLINE, MODEL, Comparison, SliceResult
from training.evaluation.intervals import Estimate
from training.report.summary import metric_name

STEPS = (1, 2, 5, 10)  # what a tick may count by, times a power of ten


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` stand from `start` to `end`, which may run backwards."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log10(v) if self.log else v for v in (self.low, self.high))
        share = ((math.log10(value) if self.log else value) - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, about: int = 5, *, whole: bool = False) -> list[float]:
        """Round values within the scale; whole: no fractions. Powers of ten on a log scale."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * s for s in STEPS if power * s >= rough * 0.999)
        if whole:
            step = max(round(step), 1)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(n * step, 12) for n in range(first, last + 1)]


def spanning(
    values: Sequence[float], start: float, end: float, *, from_zero: bool = False, log: bool = False
) -> Scale:
    """A scale that holds all values with a little room; one value alone stands in the middle."""
    low, high = min(values), max(values)
    if log:
        return Scale(low, max(high, low * 10), start, end, log=True)
    if from_zero:
        low = 0.0
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Scale(low if from_zero else low - room, high + room, start, end)


def written(value: float) -> str:
    """A tick's text: 0.05, 3, 20k, 1M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:.6g}".replace("-", "−")


WIDTH, HEIGHT = 440, 280
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 50, 46  # room around the plot
ROWS_TOP = 28  # where the rows of `interval_chart` begin
ROW = 27  # height of one
NAME_WIDTH = 148  # room for its names
VALUE_WIDTH = 62  # room for its figures
NAME_LETTERS = 20
STYLES = ("first", "second")
MARKS = ("●", "○")


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; x is a number, or a place among the chart's names."""

    name: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[Estimate] = ()  # one a point, or none at all
    ringed: int | None = None  # the point that stands out


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    names: Sequence[str] = (),
    log: bool = False,
    from_zero: bool = False,
) -> Markup:
    """names: texts at x = 0, 1, …, else x is counted in whole numbers; log: both axes."""
    svg = _drawing(title, HEIGHT)
    ys = [y for line in lines for _, y in line.points]
    ys += [end for line in lines for e in line.intervals for end in (e.low, e.high) if e.low <= end]
    y = spanning(ys, HEIGHT - BOTTOM, TOP, from_zero=from_zero, log=log)
    x = _across(lines, len(names), log)
    _frame(svg, y, x_label, y_label)
    if names:
        _x_ticks(svg, {x(place): name for place, name in enumerate(names)})
    else:
        _x_ticks(svg, {x(tick): written(tick) for tick in x.ticks(whole=True)})
    for number, line in enumerate(lines):
        aside = (number - (len(lines) - 1) / 2) * 7 if names else 0.0  # whiskers side by side
        _line(svg, line, STYLES[number], x, y, aside, dots=not log)
    if len(lines) > 1:
        _legend(svg, [line.name for line in lines])
    return _markup(svg)


def bar_chart(
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    names: Sequence[str],
) -> Markup:
    """series: name → a share of 1 for each of the names, side by side with the other series."""
    svg = _drawing(title, HEIGHT)
    y = spanning(
        [v for bars in series.values() for v in bars], HEIGHT - BOTTOM, TOP, from_zero=True
    )
    x = Scale(-0.5, len(names) - 0.5, LEFT, WIDTH - RIGHT)
    _frame(svg, y, x_label, y_label, lambda share: f"{written(100 * share)} %")
    _x_ticks(svg, {x(place): name for place, name in enumerate(names)})
    wide = 0.8 * (x(1) - x(0)) / len(series)
    for number, (name, bars) in enumerate(series.items()):
        for place, value in enumerate(bars):
            left = x(place) + (number - len(series) / 2) * wide
            box = {"x": left + 0.5, "y": y(value), "width": wide - 1, "height": y(0) - y(value)}
            bar = _add(svg, "rect", f"bar {STYLES[number]}", **box)
            _add(bar, "title").text = f"{name}, {names[place]}: {value:.1%}"
    if len(series) > 1:
        _legend(svg, list(series))
    return _markup(svg)


def interval_chart(
    rows: Mapping[str, Estimate], *, title: str, x_label: str, signed: bool = False
) -> Markup:
    """One row a name: a bar from zero, its interval, the figure; the first row stands out.

    signed: the figures are differences, none of them outstanding, written with their sign.
    """
    bottom, right = ROWS_TOP + ROW * len(rows), WIDTH - VALUE_WIDTH
    svg = _drawing(title, bottom + BOTTOM)
    ends = [v for e in rows.values() for v in (e.value, e.low, e.high) if not math.isnan(v)]
    x = spanning([0.0, *ends], NAME_WIDTH, right, from_zero=not signed)
    for tick in x.ticks():
        style = "axis" if tick == 0 else "grid"
        _add(svg, "line", style, x1=x(tick), x2=x(tick), y1=ROWS_TOP, y2=bottom)
        _text(svg, written(tick), x(tick), bottom + 17, "middle")
    _text(svg, x_label, (NAME_WIDTH + right) / 2, bottom + 38, "middle", "label")
    for row, (name, figure) in enumerate(rows.items()):
        first = row == 0 and not signed
        _row(svg, name, figure, x, ROWS_TOP + ROW * (row + 0.5), first=first, signed=signed)
    return _markup(svg)


def _row(
    svg: ElementTree.Element,
    name: str,
    figure: Estimate,
    x: Scale,
    height: float,
    *,
    first: bool,
    signed: bool,
) -> None:
    strong = "strong" if first else ""
    _text(svg, _short(name), NAME_WIDTH - 10, height + 4, "end", strong)
    group = _add(svg, "g", STYLES[0 if first or signed else 1])
    _add(group, "title").text = f"{name}: {_in_words(figure)}"
    from_, to = sorted((x(0.0), x(figure.value)))
    _add(group, "rect", "reach", x=from_, y=height - 6, width=to - from_, height=12)
    if not math.isnan(figure.low):
        _add(group, "line", "whisker", x1=x(figure.low), x2=x(figure.high), y1=height, y2=height)
    _add(group, "circle", "dot", cx=x(figure.value), cy=height, r=4)
    said = f"{figure.value:+.4f}" if signed else f"{figure.value:.4f}"
    _text(svg, said.replace("-", "−"), WIDTH, height + 4, "end", strong)


def _across(lines: Sequence[Line], names: int, log: bool) -> Scale:
    if names:
        return Scale(-0.5, names - 0.5, LEFT, WIDTH - RIGHT)
    return spanning([x for line in lines for x, _ in line.points], LEFT, WIDTH - RIGHT, log=log)


def _line(
    svg: ElementTree.Element,
    line: Line,
    style: str,
    x: Scale,
    y: Scale,
    aside: float,
    *,
    dots: bool,
) -> None:
    group = _add(svg, "g", style)
    places = [(x(across) + aside, y(up)) for across, up in line.points]
    _add(group, "polyline", "line", points=" ".join(f"{px:g},{py:g}" for px, py in places))
    for (px, _), figure in zip(places, line.intervals, strict=False):
        if not math.isnan(figure.low):
            _add(group, "line", "whisker", x1=px, x2=px, y1=y(figure.low), y2=y(figure.high))
    for number, (px, py) in enumerate(places if dots else ()):
        dot = _add(group, "circle", "dot", cx=px, cy=py, r=3.5)
        value = line.points[number][1]
        said = _in_words(line.intervals[number]) if line.intervals else f"{value:.4g}"
        _add(dot, "title").text = f"{line.name}: {said}"
        if number == line.ringed:
            _add(group, "circle", "ring", cx=px, cy=py, r=8)


def _drawing(title: str, height: float) -> ElementTree.Element:
    svg = ElementTree.Element("svg", {"viewBox": f"0 0 {WIDTH} {height:g}", "role": "img"})
    svg.set("aria-label", title)
    _text(svg, title, 0, 12, "start", "title")
    return svg


def _frame(
    svg: ElementTree.Element,
    y: Scale,
    x_label: str,
    y_label: str,
    said: Callable[[float], str] = written,
) -> None:
    """Horizontal grid lines with their values, and the names of both axes."""
    for tick in y.ticks():
        style = "axis" if tick == 0 else "grid"
        _add(svg, "line", style, x1=LEFT, x2=WIDTH - RIGHT, y1=y(tick), y2=y(tick))
        _text(svg, said(tick), LEFT - 8, y(tick) + 4, "end")
    _text(svg, x_label, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle", "label")
    _text(svg, y_label, 0, 31, "start", "label")


def _x_ticks(svg: ElementTree.Element, texts: Mapping[float, str]) -> None:
    for place, text in texts.items():
        _text(svg, text, place, HEIGHT - BOTTOM + 17, "middle")


def _legend(svg: ElementTree.Element, names: Sequence[str]) -> None:
    """Right above the plot, one text, so that marks stay beside their names in any font."""
    legend = _text(svg, "", WIDTH - RIGHT, 31, "end")
    for mark, style, name in zip(MARKS, STYLES, names, strict=True):
        entry = _add(legend, "tspan", f"mark {style}", dx=12)
        entry.text = mark
        entry.tail = f" {_short(name)}"


def _short(name: str) -> str:
    return name if len(name) <= NAME_LETTERS else name[: NAME_LETTERS - 1] + "…"


def _in_words(figure: Estimate) -> str:
    if math.isnan(figure.low):
        return f"{figure.value:.4f}"
    return f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"


def _text(
    parent: ElementTree.Element, text: str, x: float, y: float, anchor: str, style: str = ""
) -> ElementTree.Element:
    element = _add(parent, "text", style, x=x, y=y)
    element.set("text-anchor", anchor)
    element.text = text
    return element


def _add(
    parent: ElementTree.Element, tag: str, style: str = "", **numbers: float | str
) -> ElementTree.Element:
    attributes = {k: v if isinstance(v, str) else f"{v:g}" for k, v in numbers.items()}
    if style:
        attributes["class"] = style
    return ElementTree.SubElement(parent, tag, attributes)


def _markup(svg: ElementTree.Element) -> Markup:
    return Markup(ElementTree.tostring(svg, encoding="unicode"))


def result_charts(comparison: Comparison) -> list[Markup]:
    """The model, then the others from the best on."""
    charts = []
    for metric in HEADLINE:
        figures = {name: found[metric] for name, found in comparison.figures.items()}
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
    """The model less the best baseline of each metric, and less each of its relatives."""
    gains = {"the best baseline": {d.metric: d.gain for d in comparison.differences}}
    for d in comparison.to_relatives:
        gains.setdefault(d.other, {})[d.metric] = d.gain
    return [
        interval_chart(
            rows, title=f"Model less {other}", x_label="difference, 95 % interval", signed=True
        )
        for other, rows in gains.items()
        if rows
    ]


def slice_charts(parts: Sequence[SliceResult], x_label: str, how: str) -> list[Markup]:
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
            title=f"{metric_name(metric)} {how}",
            x_label=x_label,
            y_label="with 95 % intervals",
            names=[part.slice.name for part in parts],
            from_zero=True,
        )
        for metric in HEADLINE
    ]


def training_charts(epochs: Sequence[EpochResult], best_epoch: object) -> list[Markup]:
    """Loss, validation and gradient norm along the epochs, a ring around the chosen epoch."""
    if not epochs:
        return []
    phases = list(dict.fromkeys(result.phase for result in epochs))

    def curves(of: Mapping[str, list[tuple[float, float]]], title: str, label: str) -> Markup:
        lines = [
            Line(name, points, ringed=_place(points, best_epoch) if name == "search" else None)
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


def _place(points: Sequence[tuple[float, float]], epoch: object) -> int | None:
    return next((at for at, (x, _) in enumerate(points) if x == epoch), None)


def data_charts(parts: Mapping[str, Statistics]) -> list[Markup]:
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
