"""The report of a run: one HTML file that needs nothing else, for a person to read or print.

Enters what the run measured (`Story`) and what the bundle says of itself (its manifest); leaves a
text. The page may load nothing and run nothing (its own content policy forbids both), and every
value in it is escaped, because item ids, paths and commands come from outside.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from data.sessions import Counts
from data.statistics import Statistics
from recsys.manifest import Manifest
from training.charts import Line, bar_chart, interval_chart, line_chart
from training.checkpoint import EpochResult
from training.comparison import COMPARED, HEADLINE, Comparison, Difference, SliceResult
from training.evaluate import Evaluation
from training.intervals import RESAMPLES, Estimate
from training.recipe import SETTINGS

MANY_UNSEEN = 0.05  # share of the next clicks on new items that deserves a word


@dataclass(frozen=True)
class Story:
    """What is told beside the manifest; an evaluation alone has no training to tell of."""

    command: str
    device: str
    counts: Sequence[Counts]
    train: Statistics | None
    test: Statistics
    epochs: Sequence[EpochResult]
    results: Mapping[str, Evaluation]  # the model's first
    comparison: Comparison


def render_report(manifest: Manifest, story: Story) -> str:
    """The whole page."""
    templates = resources.files("training") / "templates"
    page = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.filters |= {"whole": _whole, "figure": _figure, "signed": _signed, "between": _between}
    parts = {"training": story.train, "test": story.test}
    described = {name: part for name, part in parts.items() if part is not None}
    template = page.from_string((templates / "report.html").read_text(encoding="utf-8"))
    return template.render(
        manifest=manifest,
        story=story,
        comparison=story.comparison,
        style=Markup((templates / "report.css").read_text(encoding="utf-8")),
        metrics=COMPARED,
        resamples=RESAMPLES,
        recipe=_settings(manifest.recipe),
        verdicts=[
            (d, _verdict(d))
            for d in (*story.comparison.differences, *story.comparison.to_relatives)
        ],
        warnings=warnings_of(manifest, story),
        result_charts=_result_charts(story.comparison),
        position_charts=_slice_charts(
            story.comparison.positions, "clicks before the target", "by position"
        ),
        popularity_charts=_slice_charts(
            [part for part in story.comparison.popularity if part.slice.items is not None],
            "decile of training clicks, most clicked items first",
            "by popularity",
        ),
        training_charts=_training_charts(story.epochs, manifest.training.get("best_epoch")),
        parts=list(described),
        facts=_facts(list(described.values())),
        data_charts=_data_charts(described),
    )


def warnings_of(manifest: Manifest, story: Story) -> list[str]:
    """Sentences about what a reader should not miss; none is the good case."""
    found = [f"{name}: {r.warning}" for name, r in story.results.items() if r.warning]
    found += [
        f"{d.other} beats the model: {d.metric} of the model less that of {d.other} is "
        f"{_signed(d.gain.value)}, 95 % interval {_signed(d.gain.low)} to {_signed(d.gain.high)}."
        for d in (*story.comparison.differences, *story.comparison.to_relatives)
        if d.metric in HEADLINE and d.gain.high < 0
    ]
    comparison = story.comparison
    unseen = comparison.unseen_targets / comparison.cases
    if unseen > MANY_UNSEEN:
        found.append(
            f"{unseen:.1%} of the next clicks are on items that training never saw; no model of "
            "this kind can recommend them. Train more often, or on newer clicks."
        )
    validated = [result for result in story.epochs if result.metrics]
    if validated and manifest.training.get("best_epoch") == manifest.recipe.get("epochs"):
        found.append(
            "The last epoch allowed was the best one: the model may not have learned all it can. "
            "Try more, --set epochs=N."
        )
    return found


def _verdict(difference: Difference) -> str:
    """Better, worse or neither, as the interval has it."""
    if difference.gain.low > 0:
        return "better"
    return "worse" if difference.gain.high < 0 else "not clearly apart"


def _settings(recipe: Mapping[str, object]) -> list[tuple[str, object, bool]]:
    """(name, value, differs from the default) of every setting."""
    return [
        (name, value, name in SETTINGS and value != SETTINGS[name].default)
        for name, value in recipe.items()
    ]


def _result_charts(comparison: Comparison) -> list[Markup]:
    return [
        interval_chart(
            {name: figures[metric] for name, figures in comparison.figures.items()},
            title=f"{metric} of all recommenders",
            x_label=f"{metric}, 95 % interval",
        )
        for metric in HEADLINE
    ]


def _slice_charts(parts: Sequence[SliceResult], x_label: str, how: str) -> list[Markup]:
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
            title=f"{metric} {how}",
            x_label=x_label,
            y_label=metric,
            names=[part.slice.name for part in parts],
            from_zero=True,
        )
        for metric in HEADLINE
    ]


def _training_charts(epochs: Sequence[EpochResult], best_epoch: object) -> list[Markup]:
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
            charts.append(curves({"search": points}, f"Validation {metric}", metric))
    return [*charts, curves(norm, "Gradient norm", "mean norm, before clipping")]


def _place(points: Sequence[tuple[float, float]], epoch: object) -> int | None:
    return next((at for at, (x, _) in enumerate(points) if x == epoch), None)


def _facts(parts: Sequence[Statistics]) -> list[tuple[str, list[str]]]:
    """What is said of each part of the log: (fact, one text a part)."""
    facts = [
        ("first click, UTC", [part.begins for part in parts]),
        ("last click, UTC", [part.ends for part in parts]),
        ("sessions", [_whole(part.sessions) for part in parts]),
        ("clicks", [_whole(part.clicks) for part in parts]),
        ("items", [_whole(part.items) for part in parts]),
        ("mean length", [f"{part.length_mean:.2f}" for part in parts]),
    ]
    facts += [
        (f"{name} length", [_whole(part.length_quantiles[name]) for part in parts])
        for name in parts[0].length_quantiles
    ]
    facts += [
        (f"clicks on the top {share:.0%} of items", [f"{p.top_items[share]:.1%}" for p in parts])
        for share in parts[0].top_items
    ]
    return facts


def _data_charts(parts: Mapping[str, Statistics]) -> list[Markup]:
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


def _whole(value: int) -> str:
    return f"{value:,}"


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _between(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return "–"
    return f"{estimate.low:.4f} – {estimate.high:.4f}".replace("-", "−")
