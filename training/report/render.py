"""Report of a run: one HTML file that needs no other, to be read or printed.

It is rendered from the measurements of a run (`ReportData`) and the manifest of its bundle. The
page loads nothing and runs nothing (its own content policy forbids both), and every value in it is
escaped, because item ids, paths and commands come from outside.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from data.prepare import Remark
from data.sessions import SessionCounts
from data.statistics import Statistics
from recsys import __version__
from recsys.bundle.manifest import Manifest
from recsys.retrieval.exact import describe_retrieval
from training.checkpoint import EpochResult
from training.competition.standing import CHOSEN, SCORE_NAME, Standing
from training.evaluation.compare import COMPARED, HEADLINE, Comparison
from training.evaluation.evaluate import Evaluation
from training.evaluation.intervals import RESAMPLES, Estimate
from training.recipe import SETTINGS
from training.report.charts import (
    data_charts,
    difference_charts,
    result_charts,
    slice_charts,
    training_charts,
)
from training.report.examples import FEWEST_CLICKS, ExampleVisit
from training.report.summary import metric_name, outcome, summary

MANY_UNSEEN = 0.05  # share of the next clicks on new items that is worth a warning
LISTED_RANKS = 10  # of the popularity curve, in the table beside it


@dataclass(frozen=True)
class ReportData:
    """Content of a report beside the manifest; an evaluation alone has no epochs."""

    command: str
    device: str
    counts: Sequence[SessionCounts]
    train: Statistics | None
    test: Statistics
    epochs: Sequence[EpochResult]
    results: Mapping[str, Evaluation]  # the model's first
    comparison: Comparison
    log_warnings: Sequence[Remark]  # what is odd in it
    standings: Sequence[Standing] = ()  # of the recipes that competed
    examples: Sequence[ExampleVisit] = ()


def render_report(manifest: Manifest, data: ReportData) -> str:
    """Render the whole page as HTML."""
    parts = {"training": data.train, "test": data.test}
    described = {name: part for name, part in parts.items() if part is not None}
    return render_page(
        "report.html",
        manifest=manifest,
        data=data,
        comparison=data.comparison,
        metrics=COMPARED,
        chosen=CHOSEN,
        score_name=SCORE_NAME,
        best=_best(data.comparison),
        resamples=RESAMPLES,
        recipe=_settings(manifest.recipe),
        summary=summary(data.comparison),
        outcomes=[
            (d, outcome(d.gain))
            for d in (*data.comparison.differences, *data.comparison.to_relatives)
        ],
        fewest_clicks=FEWEST_CLICKS,
        retrieval=describe_retrieval(manifest.retrieval),
        warnings=warnings_of(manifest, data),
        result_charts=result_charts(data.comparison),
        difference_charts=difference_charts(data.comparison),
        position_charts=slice_charts(
            data.comparison.positions, "clicks before the target", "by position"
        ),
        popularity_charts=slice_charts(
            [part for part in data.comparison.popularity if part.slice.items is not None],
            "decile of training clicks, most clicked items first",
            "by popularity",
        ),
        training_charts=training_charts(data.epochs, manifest.training.get("best_epoch")),
        parts=list(described),
        facts=_facts(list(described.values())),
        data_charts=data_charts(described),
        length_rows=_length_rows(list(described.values())),
        popularity_rows=_popularity_rows(described),
    )


def render_page(template: str, **values: object) -> str:
    """Render a template of this package, which extends `page.html`, the frame of all pages."""
    page = _environment().get_template(template)
    return page.render(style=Markup(style_sheet()), version=__version__, **values)


@cache
def _environment() -> Environment:
    """Return the templates; each is compiled once, which takes as long as three charts."""
    page = Environment(
        loader=PackageLoader("training.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {
        "whole": _whole,
        "figure": _figure,
        "signed": _signed,
        "between": _between,
        "moment": _moment,
        "named": metric_name,
    }
    return page


def style_sheet() -> str:
    """Return the style of all pages as CSS."""
    return resources.files("training.report").joinpath("templates/report.css").read_text("utf-8")


def warnings_of(manifest: Manifest, data: ReportData) -> list[Remark]:
    """Return a sentence for each weakness of the result; a good run has none."""
    warnings = list(data.log_warnings)
    warnings += [
        Remark(f"{name}: {result.warning}", is_serious=True)
        for name, result in data.results.items()
        if result.warning
    ]
    warnings += [
        Remark(
            f"{d.other} beats the model: {metric_name(d.metric)} {_signed(d.gain.value)} vs "
            f"{d.other}, 95 % interval {_signed(d.gain.low)} to {_signed(d.gain.high)}.",
            is_serious=True,
        )
        for d in (*data.comparison.differences, *data.comparison.to_relatives)
        if d.metric in HEADLINE and d.gain.high < 0
    ]
    comparison = data.comparison
    unseen = comparison.unseen_targets / comparison.cases
    if unseen > MANY_UNSEEN:
        warnings.append(
            Remark(
                f"{unseen:.1%} of the next clicks are on items that training never saw; no model "
                "of this kind can recommend them. Train more often, or on newer clicks."
            )
        )
    validated = [result for result in data.epochs if result.metrics]
    if validated and manifest.training.get("best_epoch") == manifest.recipe.get("epochs"):
        warnings.append(
            Remark(
                "The last epoch allowed was the best one: the model may not have learned all it "
                "can. Try more, --set epochs=N."
            )
        )
    return warnings


def _settings(recipe: Mapping[str, object]) -> list[tuple[str, object, bool]]:
    """Return (name, value, differs from the default) of every setting."""
    return [
        (name, value, name in SETTINGS and value != SETTINGS[name].default)
        for name, value in recipe.items()
    ]


def _best(comparison: Comparison) -> Mapping[str, float]:
    """Return metric → its highest figure."""
    every = comparison.figures.values()
    return {metric: max(figures[metric].value for figures in every) for metric in COMPARED}


def _facts(parts: Sequence[Statistics]) -> list[tuple[str, list[str]]]:
    """Describe each part of the click log: (fact, one text for each part)."""
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


def _length_rows(parts: Sequence[Statistics]) -> list[tuple[str, list[str]]]:
    """Return (length, share of sessions in each part); the groups are the same in all parts."""
    return [
        (groups[0].name, [f"{group.share:.1%}" for group in groups])
        for groups in zip(*(part.lengths for part in parts), strict=True)
    ]


def _popularity_rows(parts: Mapping[str, Statistics]) -> list[tuple[str, int, int]]:
    """Return (part, rank of an item, its clicks) for some ranks, the first and last among them."""
    rows = []
    for name, part in parts.items():
        last = len(part.popularity) - 1
        places = dict.fromkeys(round(last * at / (LISTED_RANKS - 1)) for at in range(LISTED_RANKS))
        rows += [(name, *part.popularity[place]) for place in places]
    return rows


def _moment(text: str) -> str:
    """Format an ISO time for reading; leave any other text as it is."""
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M %Z}".strip()
    except ValueError:
        return text


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
