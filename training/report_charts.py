"""What the report draws: which figures stand in which chart, and what it is called.

Comparisons, epochs and statistics in, lists of `<svg>` out; where nothing was measured, an empty
list. How a chart looks is decided in `training/charts.py` and the page's style sheet.
"""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from data.statistics import Statistics
from training.charts import Line, bar_chart, interval_chart, line_chart
from training.checkpoint import EpochResult
from training.comparison import HEADLINE, MODEL, Comparison, SliceResult
from training.verdict import metric_name


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
