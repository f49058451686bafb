"""Summary of a run: a few sentences on how good the model is, and where it is weak.

It is plain text from a comparison, for the report and the terminal. It states only what an interval
supports: recommenders whose difference may be zero are not clearly apart, and a group of cases is
weak where its whole interval lies below the figure of all cases. `show` prints it in the terminal,
below the metrics.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from rich.console import Console

from recsys.console import metrics_tables, print_fitting
from training.evaluation.compare import (
    HEADLINE,
    MODEL,
    RELATIVES,
    Comparison,
    Difference,
    SliceResult,
)
from training.evaluation.evaluate import Evaluation
from training.evaluation.intervals import Estimate

METRIC_NAMES = {"recall": "Recall", "mrr": "MRR", "ndcg": "NDCG"}
TRENDING = "without trending"
RELATIVE_NAMES = {
    "model alone": "the model alone",
    "without repeats": "the same blend without a bonus for items of the session",
    TRENDING: "the same model with the counts of the end of training",
    "parent": "the bundle it continues",
}
# What it means where a simple baseline is ahead of the model, and what to do.
ADVICE = {
    "popularity": "The sessions say little about the next click: check --session-column",
    "recent popularity": "What is popular changes fast: train more often, on the newest days",
    "session popularity": "Visitors return to the items of their visit: the bonus for such items "
    "(repeats = auto) is fitted where there are enough sessions to validate on",
    "markov": "The last click says nearly everything, or the clicks are too few for a model: train "
    "on more days, or search for a better recipe with recsys tune",
}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NEITHER = "not clearly apart"
WEAK_BY = HEADLINE[0]


def summary(comparison: Comparison) -> list[str]:
    """Return the sentences, the most important ones first."""
    recall = comparison.figures[MODEL][WEAK_BY].value
    return [
        f"The next click is among the model's first 20 items in {recall:.1%} of "
        f"{comparison.cases:,} cases.",
        *_limits(comparison),
        *_beside_baselines(comparison),
        *_simple_baselines_ahead(comparison),
        *_beside_relatives(comparison),
        *_new_items(comparison),
        _weakest(comparison),
        *_by_event_type(comparison),
    ]


def _by_event_type(comparison: Comparison) -> list[str]:
    """Return a sentence about the figures by the type of the next click, if clicks have types."""
    if not comparison.event_types:
        return []
    figures = ", ".join(
        f"{part.figures[MODEL][WEAK_BY].value:.4f} on {part.slice.name} ({part.cases:,} cases)"
        for part in comparison.event_types
    )
    weighted = ""
    if comparison.weighted_recall:
        recall = comparison.weighted_recall
        others = {name: recall[name] for name in recall if name not in (MODEL, *RELATIVES)}
        weighted = f" OTTO's weighted recall@20 is {recall[MODEL]:.4f}"
        if others:
            best = max(others, key=lambda name: others[name])
            weighted += f", that of the best baseline, {best}, {others[best]:.4f}"
        weighted += "."
    return [f"By the type of the next click, {metric_name(WEAK_BY)} is {figures}.{weighted}"]


def _limits(comparison: Comparison) -> list[str]:
    """Say from which sample the figures are, with the interval, and how baselines are limited."""
    limits, recall = comparison.limits, comparison.figures[MODEL][WEAK_BY]
    if limits.of_sessions is None or limits.of_cases is None:
        return list(limits.sentences)
    return [
        f"These cases are of a random sample of {comparison.sessions:,} of {limits.of_sessions:,} "
        f"test sessions, which have {limits.of_cases:,} next clicks; with 95 % confidence, "
        f"{metric_name(WEAK_BY)} of all is from {recall.low:.4f} to {recall.high:.4f}.",
        *limits.sentences,
    ]


def show(results: Mapping[str, Evaluation], comparison: Comparison, console: Console) -> None:
    """Print the metrics of all recommenders, their summary in words, and warnings."""
    model = results[MODEL]
    title = f"{model.cases:,} next clicks, {model.unseen_targets:,} on items never seen in training"
    console.print()
    print_fitting(console, metrics_tables({name: r.metrics for name, r in results.items()}, title))
    console.print()
    console.print(" ".join(summary(comparison)), markup=False, highlight=False)
    if model.warning:
        console.print(f"[bold red]warning:[/bold red] {model.warning}")


def outcome(gain: Estimate) -> str:
    """Return whether the interval of a difference means better, worse, or neither."""
    if gain.low > 0:
        return "better"
    return "worse" if gain.high < 0 else NEITHER


def metric_name(metric: str) -> str:
    """Format the name of a metric for a sentence: recall@20 → Recall@20."""
    name, _, cutoff = metric.partition("@")
    return f"{METRIC_NAMES.get(name, name)}@{cutoff}"


def _beside_baselines(comparison: Comparison) -> list[str]:
    shown = [d for d in comparison.differences if d.metric in HEADLINE]
    others = [name for name in comparison.figures if name not in (MODEL, *RELATIVES)]
    if not shown:
        return []
    if len(others) == 1:
        return [f"It {_joined(shown)}."]
    count = NUMBERS[len(others)] if len(others) < len(NUMBERS) else str(len(others))
    best = "that is" if len({d.other for d in shown}) == 1 else "these are"
    return [f"It {_joined(shown)}; of {count} baselines {best} the best."]


def _simple_baselines_ahead(comparison: Comparison) -> list[str]:
    """Return a sentence for each simple baseline with a higher metric than the model."""
    sentences = []
    for name, advice in ADVICE.items():
        ahead = [d for d in comparison.to_simple if d.other == name]
        if not ahead:
            continue
        figures = ", ".join(
            f"{metric_name(d.metric)} by {-d.gain.value:.4f}"
            + (f" ({NEITHER})" if outcome(d.gain) == NEITHER else "")
            for d in ahead
        )
        certain = any(outcome(d.gain) != NEITHER for d in ahead)
        what = advice if certain else "More test sessions would tell"
        sentences.append(f"The simple baseline {name} is ahead on {figures}. {what}.")
    return sentences


def _beside_relatives(comparison: Comparison) -> list[str]:
    others = dict.fromkeys(d.other for d in comparison.to_relatives)
    sentences = [
        f"It {_joined([d for d in comparison.to_relatives if d.other == other])}."
        for other in others
    ]
    if TRENDING in others:
        sentences.append("Its counts of clicks go on from case to case, as in the service.")
    return sentences


def _new_items(comparison: Comparison) -> list[str]:
    """Say how often a target without a training click is found, beside the baselines."""
    new = comparison.new_items
    if new is None:
        return []
    model = new.recall[MODEL]
    others = "; ".join(
        f"the baseline {name} finds {among['all'].value:.1%} and {among['new'].value:.1%}"
        for name, among in new.recall.items()
        if name != MODEL
    )
    return [
        f"In {new.cases:,} cases the next item has no training click: {model['all'].value:.1%} of "
        f"them are among the first 20 of all items, {model['new'].value:.1%} among the first 20 "
        f"of the {new.items:,} new items{f'; {others}' if others else ''}."
    ]


def _joined(differences: Sequence[Difference]) -> str:
    """Join the statements on each metric into one predicate."""
    first, *others = differences
    parts = [_predicate(first)]
    for before, difference in pairwise([first, *others]):
        same = difference.other == before.other
        alike = same and outcome(difference.gain) == outcome(before.gain)
        parts.append(_how_far(difference) if alike else _predicate(difference, it=same))
    return " and ".join(parts)


def _predicate(difference: Difference, *, it: bool = False) -> str:
    """Compare the model with another recommender; it: write "it" for the other's name."""
    other = "it" if it else RELATIVE_NAMES.get(difference.other, difference.other)
    verbs = {"better": f"beats {other}", "worse": f"falls short of {other}"}
    verb = verbs.get(outcome(difference.gain), f"is not clearly apart from {other}")
    return f"{verb} {_how_far(difference)}"


def _how_far(difference: Difference) -> str:
    on = f"on {metric_name(difference.metric)}"
    if outcome(difference.gain) == NEITHER:
        return on
    return f"by {abs(difference.gain.value):.4f} {on}"


def _weakest(comparison: Comparison) -> str:
    """Name the weakest group by length of the session, and by popularity of the item."""
    of_all_cases = comparison.figures[MODEL][WEAK_BY].value
    at_length = _weak(comparison.positions, of_all_cases)
    of_items = _weak([p for p in comparison.popularity if p.slice.clicks], of_all_cases)
    places = []
    if at_length is not None:
        places.append(f"on sessions of {_clicks(at_length.slice.name)} ({_figure(at_length)})")
    if of_items is not None and of_items.slice.clicks is not None:
        few, many = of_items.slice.clicks
        span = f"{few:,}" if few == many else f"{few:,} to {many:,}"
        places.append(f"on items of {_clicks(span)} in training ({_figure(of_items)})")
    if not places:
        return "No length of session and no kind of item stands out as weak."
    return f"It is weakest {' and '.join(places)}."


def _weak(parts: Sequence[SliceResult], of_all_cases: float) -> SliceResult | None:
    """Return the part with the lowest figure, if it is clearly below all; NaN is never below."""
    below = [part for part in parts if part.figures[MODEL][WEAK_BY].high < of_all_cases]
    return min(below, key=lambda part: part.figures[MODEL][WEAK_BY].value, default=None)


def _figure(part: SliceResult) -> str:
    return f"{metric_name(WEAK_BY)} {part.figures[MODEL][WEAK_BY].value:.4f}"


def _clicks(number: str) -> str:
    return "one click" if number == "1" else f"{number} clicks"
