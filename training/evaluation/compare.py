"""Comparison of the model with baselines on the same cases, with confidence intervals.

`evaluate_with_baselines` ranks; `compare_with_intervals` resamples what was ranked. The model and
its best baseline are also compared on slices, groups of cases: by position in the session, and by
popularity of the target in training. Slices without a case are left out. Popularity slices are
deciles of training clicks: items stand in falling order of their clicks, and each decile holds
about a tenth of all clicks, so the first holds a few popular items and the last most of the
catalogue.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from data.batches.selection import Selection
from data.sessions import Sessions, reindex
from recsys.catalogue.catalogue import Catalogue
from recsys.model.repeats import RepeatTerm
from recsys.predictor import Predictor
from training.baselines import learners
from training.evaluation.evaluate import Evaluation, Scorer, evaluate
from training.evaluation.event_types import WEIGHTED_RECALL, target_masks, weighted_recall
from training.evaluation.intervals import Estimate, estimate, ratio, resampled_sums, session_sums
from training.evaluation.new_items import NewItems
from training.evaluation.sample import Sample
from training.evaluation.trending import TrendingScorer, going_on
from training.parallel.processes import ALONE, Processes
from training.progress import bar

MODEL = "model"  # the row that the others are compared with
# Rows that are models, too, and so no baselines.
RELATIVES = ("model alone", "without repeats", "without trending", "parent")
# Baselines without any learning of sequences; a model that one of them beats needs attention.
SIMPLE = ("popularity", "recent popularity", "session popularity", "markov")
COMPARED = ("recall@1", "recall@5", "recall@10", "recall@20", "mrr@20", "ndcg@20")
HEADLINE = ("recall@20", "mrr@20")  # metrics of slices and of the manifest's intervals
SLICED_BASELINE_BY = "mrr@20"  # its best baseline stands beside the model in the slices
FEWEST_SESSIONS = 10  # of a slice; resampling fewer means nothing
DECILES = 10
BASELINE_SECONDS = 600.0  # of a baseline, to learn and to rank; one that takes longer is left out
POSITIONS = (  # clicks before the target: first, last
    *((n, n) for n in range(1, 6)),
    (6, 10),
    (11, 20),
    (21, 50),
    (51, None),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """Model minus another recommender, on the same resamples."""

    metric: str
    other: str
    gain: Estimate


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the cases, and the items that define them where items do."""

    name: str
    mask: NDArray[np.bool_]  # (cases,)
    items: int | None = None  # of the catalogue, in this group
    clicks: tuple[int, int] | None = None  # fewest and most training clicks of one of them


@dataclass(frozen=True, slots=True)
class SliceResult:
    """Metrics of the compared recommenders on some of the cases."""

    slice: Slice
    cases: int
    figures: Mapping[str, Mapping[str, Estimate]]  # recommender → metric → figure


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a comparison: the sample that was evaluated, and sentences about baselines."""

    of_sessions: int | None = None  # that the evaluated sessions were drawn from; None: from none
    of_cases: int | None = None
    sentences: Sequence[str] = ()

    @classmethod
    def of(cls, sample: Sample, sentences: Sequence[str] = ()) -> "Limits":
        """Return the limits of an evaluation of this sample."""
        if not sample.is_part:
            return cls(sentences=sentences)
        return cls(sample.of_sessions, sample.of_cases, sentences)


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Evaluations of the model and its baselines."""

    results: Mapping[str, Evaluation]  # recommender → evaluation, the model's first
    left_out: Sequence[str] = ()  # baselines that took too long

    @property
    def sentences(self) -> list[str]:
        """Return a sentence about the baselines that were left out, if there are any."""
        if not self.left_out:
            return []
        return [
            f"Not compared with {', '.join(self.left_out)}: each baseline has "
            f"{BASELINE_SECONDS / 60:g} minutes to learn and to rank the cases. With fewer cases "
            "(max_cases), more of them are compared."
        ]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Metrics of the model and its baselines, each with its interval."""

    sessions: int
    cases: int
    unseen_targets: int
    figures: Mapping[str, Mapping[str, Estimate]]  # recommender → metric → figure
    differences: Sequence[Difference]  # to the best baseline of each metric, if there is one
    to_relatives: Sequence[Difference]
    to_simple: Sequence[Difference]  # to each simple baseline that is ahead in the metric
    sliced_baseline: str | None  # the baseline that stands beside the model in the slices
    positions: Sequence[SliceResult]
    popularity: Sequence[SliceResult]
    limits: Limits = NO_LIMITS
    event_types: Sequence[SliceResult] = ()  # by the type of the target
    weighted_recall: Mapping[str, float] = field(default_factory=dict)  # recommender → OTTO's
    new_items: NewItems | None = None  # cases whose target has no training click, if there are any


def evaluate_with_baselines(
    model: Predictor,
    catalogue: Catalogue,
    train: Sessions,
    test: Sessions,
    console: Console,
    processes: Processes = ALONE,
    counted: Sessions | None = None,
) -> Evaluations:
    """Evaluate the model and every baseline on the same cases.

    Args:
        model: The model; one with neighbours or a repeat term is also measured without both, as
            "model alone", one with both also as "without repeats". One whose counts go on counts
            the clicks of `counted`; with those at the end of training it is "without trending".
        catalogue: The model's items.
        train: Sessions from which the baselines learn.
        test: Sessions whose next clicks are ranked.
        console: Shows a bar.
        processes: They share the cases of the model; the baselines are the work of the first one.
        counted: All sessions of the time of `test`; None for these.

    Returns:
        The evaluations; those of the baselines in the first process alone. A baseline is left out
        if it has not ranked all cases after `BASELINE_SECONDS`.

    Raises:
        BadInput: The test sessions hold no next click on an item of the catalogue.
    """
    learned = Selection.of(train).indexed(catalogue.item_ids)
    tested = reindex(test, catalogue.item_ids)
    later = tested if counted is None else reindex(counted, catalogue.item_ids)
    models = models_of(model, later)
    scorers: dict[str, Callable[[], Scorer | TrendingScorer]] = {
        name: partial(_itself, one) for name, one in models.items()
    }
    if processes.is_first:
        scorers |= learners(catalogue, learned)
    results, left_out = {}, []
    # one bar: a notebook keeps an empty line for each
    with bar(console, "Testing the model and the baselines", "sessions") as progress:
        for before, (name, learn) in enumerate(scorers.items()):
            advance = partial(_advance, progress, before, len(scorers))
            if name in models:
                results[name] = evaluate(learn(), tested, len(catalogue), advance, processes)
                continue
            in_time = _in_time(advance)  # learning takes of it, too
            try:
                results[name] = evaluate(learn(), tested, len(catalogue), in_time)
            except _TakesTooLong:
                left_out.append(name)
    return Evaluations(results, left_out)


class _TakesTooLong(Exception):
    """A baseline has not ranked all cases in its time."""


def _in_time(progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Return the progress of work that begins now, which ends after `BASELINE_SECONDS`."""
    end = time.monotonic() + BASELINE_SECONDS

    def advance(done: int, total: int) -> None:
        progress(done, total)
        if done < total and time.monotonic() > end:
            raise _TakesTooLong

    return advance


def _itself(scorer: Scorer | TrendingScorer) -> Scorer | TrendingScorer:
    return scorer


def models_of(model: Predictor, counted: Sessions) -> dict[str, Predictor | TrendingScorer]:
    """Return the model, without its additions, and without some of them, all as they are served.

    Args:
        model: The model.
        counted: Sessions that a model whose counts go on counts, items as indices.
    """
    models = {MODEL: model, **_relatives(model)}
    scorers = {name: going_on(one, counted) for name, one in models.items()}
    if model.recent is not None and model.recent.is_trending:
        scorers["without trending"] = model
    return scorers


def _relatives(model: Predictor) -> dict[str, Predictor]:
    alone = model.with_repeats(None).with_blend(None).with_recent(None)
    relatives: dict[str, Predictor] = {}
    if any(part is not None for part in (model.blend, model.repeats, model.recent)):
        relatives["model alone"] = alone
    if model.blend is not None and model.repeats is not None and model.repeats.has_bonus:
        temperature = RepeatTerm(temperature=model.repeats.temperature)
        relatives["without repeats"] = model.with_repeats(temperature)
    return relatives


def _advance(
    progress: Callable[[int, int], None], before: int, scorers: int, done: int, total: int
) -> None:
    progress(before * total + done, scorers * total)


def compare_with_intervals(
    results: Mapping[str, Evaluation],
    counts: NDArray[np.int64],
    limits: Limits = NO_LIMITS,
    new_items: NewItems | None = None,
) -> Comparison:
    """Compare the model with the other recommenders, on one set of resamples of sessions.

    Args:
        results: Recommender → evaluation, the model's first, all of the same cases.
        counts: (N,) int64, training clicks of every item of the model's catalogue; a relative of
            the model may have another catalogue.
        limits: Limits of the comparison.
        new_items: Result of the cases whose target has no training click, if there are any.
    """
    model, cases = results[MODEL], results[MODEL].ranked
    for name, result in results.items():
        assert np.array_equal(result.ranked.session, cases.session), f"{name} saw other cases"
    sums = _SessionSums(cases.session, int(cases.session.max()) + 1)
    all_cases = sums.add(np.ones(len(cases.rank)))
    columns = {
        (name, metric): sums.add(case_values(result.ranked.rank, metric))
        for name, result in results.items()
        for metric in COMPARED
    }
    best = {metric: _best_baseline(results, metric) for metric in COMPARED}
    sliced_baseline = best[SLICED_BASELINE_BY]
    names = [MODEL] if sliced_baseline is None else [MODEL, sliced_baseline]
    positions = _add_slices(by_position(cases.before), results, names, sums)
    popularity = _add_slices(by_popularity(cases.target, counts), results, names, sums)
    types = [Slice(name, mask) for name, mask in target_masks(cases).items()]
    event_types = _add_slices(types, results, names, sums)
    samples = sums.resampled()
    means = {key: ratio(samples[:, at], samples[:, all_cases]) for key, at in columns.items()}

    def difference(metric: str, other: str) -> Difference:
        value = model.metrics[metric] - results[other].metrics[metric]
        gain = estimate(value, means[MODEL, metric] - means[other, metric])
        return Difference(metric, other, gain)

    relatives = [name for name in RELATIVES if name in results]
    return Comparison(
        sessions=sums.sessions,
        cases=model.cases,
        unseen_targets=model.unseen_targets,
        figures={
            name: {m: estimate(result.metrics[m], means[name, m]) for m in COMPARED}
            for name, result in results.items()
        },
        differences=[difference(m, other) for m in COMPARED if (other := best[m]) is not None],
        to_relatives=[difference(m, other) for other in relatives for m in HEADLINE],
        to_simple=[
            difference(metric, other)
            for other in SIMPLE
            if other in results
            for metric in COMPARED
            if results[other].metrics[metric] > model.metrics[metric]
        ],
        sliced_baseline=sliced_baseline,
        positions=[part.result(samples) for part in positions],
        popularity=[part.result(samples) for part in popularity],
        limits=limits,
        event_types=[part.result(samples) for part in event_types],
        weighted_recall={
            name: recall
            for name, result in results.items()
            if (recall := weighted_recall(result.ranked)) is not None
        },
        new_items=new_items,
    )


def as_json(results: Mapping[str, Evaluation], comparison: Comparison) -> dict[str, Any]:
    """Return what `--json` prints and the manifest keeps; intervals as [low, high]."""
    model, limits = results[MODEL], comparison.limits
    sampled = {} if limits.of_cases is None else {"sampled_from": limits.of_cases}
    said = {"limits": list(limits.sentences)} if limits.sentences else {}
    return {
        "model": model.metrics,
        "baselines": {name: r.metrics for name, r in results.items() if name != MODEL},
        "intervals": {
            name: {metric: [figures[metric].low, figures[metric].high] for metric in HEADLINE}
            for name, figures in comparison.figures.items()
        },
        "cases": model.cases,
        "unseen_targets": model.unseen_targets,
        "warnings": [model.warning] if model.warning else [],
        **sampled,
        **said,
        **_event_types_as_json(comparison),
        **_new_items_as_json(comparison.new_items),
    }


def _event_types_as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the model's metrics by the type of the target, and OTTO's weighted recall of all."""
    if not comparison.event_types:
        return {}
    of_types = {
        part.slice.name: {
            "cases": part.cases,
            **{metric: figure.value for metric, figure in part.figures[MODEL].items()},
        }
        for part in comparison.event_types
    }
    weighted = {WEIGHTED_RECALL: comparison.weighted_recall} if comparison.weighted_recall else {}
    return {"event_types": of_types, **weighted}


def _new_items_as_json(new_items: NewItems | None) -> dict[str, Any]:
    if new_items is None:
        return {}
    recall = {
        name: {f"among_{a}": [e.value, e.low, e.high] for a, e in among.items()}
        for name, among in new_items.recall.items()
    }
    about = {"items": new_items.items, "cases": new_items.cases}
    return {"new_items": {**about, "recall@20": recall}}


def case_values(rank: NDArray[np.int32], metric: str) -> NDArray[np.float64]:
    """Return the part of each case in a metric, which is their mean.

    Args:
        rank: (cases,) int32, 1 for the best.
        metric: recall@K, mrr@K or ndcg@K; formulas in `training.evaluation.metrics`.
    """
    name, _, cutoff = metric.partition("@")
    hit = (rank <= int(cutoff)).astype(np.float64)
    place = rank.astype(np.float64)
    match name:
        case "recall":
            return hit
        case "mrr":
            return hit / place
        case "ndcg":
            return hit / np.log2(place + 1)
    raise AssertionError(f"{metric} is not a mean over cases")


def by_position(before: NDArray[np.int32]) -> list[Slice]:
    """Group cases by how many clicks of the session stand before the target.

    Args:
        before: (cases,) int32, clicks of the session before the target, at least 1.
    """
    slices = []
    for first, last in POSITIONS:
        mask = before >= first if last is None else (before >= first) & (before <= last)
        name = f"{first}+" if last is None else f"{first}–{last}" if last > first else str(first)
        slices.append(Slice(name, mask))
    return [part for part in slices if part.mask.any()]


def by_popularity(target: NDArray[np.int32], counts: NDArray[np.int64]) -> list[Slice]:
    """Group cases by the decile of their target; unknown targets are a group of their own.

    Args:
        target: (cases,) int32, item index or -1.
        counts: (N,) int64, training clicks of every item.
    """
    decile = np.where(counts > 0, deciles(counts), -1)
    group = np.where(target >= 0, decile[target], -1)
    slices = []
    for number in range(DECILES):
        members = counts[decile == number]
        if len(members):
            span = (int(members.min()), int(members.max()))
            slices.append(Slice(str(number + 1), group == number, len(members), span))
    slices.append(Slice("not in training", group == -1))
    return [part for part in slices if part.mask.any()]


def deciles(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each item's decile, 0 for the most clicked items to 9: (N,) int64.

    An item belongs to the decile that holds the middle of its clicks. Equal counts stand in the
    order of the item index.

    Args:
        counts: (N,) int64, training clicks of every item.
    """
    order = np.argsort(-counts, kind="stable")
    doubled = 2 * np.cumsum(counts[order]) - counts[order]  # twice the middle, a whole number
    result = np.empty(len(counts), dtype=np.int64)
    result[order] = np.minimum(doubled * DECILES // max(2 * counts.sum(), 1), DECILES - 1)
    return result


@dataclass
class _SessionSums:
    """Columns of sums for each session, gathered so that all of them are resampled together."""

    session: NDArray[np.int32]
    sessions: int
    columns: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, values: NDArray[np.float64]) -> int:
        """Add a column from the values of the cases, (cases,); return its number."""
        self.columns.append(session_sums(values, self.session, self.sessions))
        return len(self.columns) - 1

    def resampled(self) -> NDArray[np.float64]:
        return resampled_sums(np.stack(self.columns, axis=1))


@dataclass(frozen=True)
class _PendingSlice:
    """A slice whose sums are not resampled yet."""

    slice: Slice
    cases: int
    sessions: int
    count_column: int
    columns: Mapping[tuple[str, str], tuple[int, float]]  # (recommender, metric) → column, mean

    def result(self, samples: NDArray[np.float64]) -> SliceResult:
        figures: dict[str, dict[str, Estimate]] = {}
        for (name, metric), (column, mean) in self.columns.items():
            means = ratio(samples[:, column], samples[:, self.count_column])
            if self.sessions < FEWEST_SESSIONS:
                means = means[:0]
            figures.setdefault(name, {})[metric] = estimate(mean, means)
        return SliceResult(self.slice, self.cases, figures)


def _add_slices(
    slices: Sequence[Slice],
    results: Mapping[str, Evaluation],
    names: Sequence[str],
    sums: _SessionSums,
) -> list[_PendingSlice]:
    pending = []
    for part in slices:
        mask = part.mask.astype(np.float64)
        columns = {}
        for name in names:
            for metric in HEADLINE:
                values = case_values(results[name].ranked.rank, metric) * mask
                columns[name, metric] = (sums.add(values), float(values.sum() / mask.sum()))
        sessions = len(np.unique(sums.session[part.mask]))
        pending.append(_PendingSlice(part, int(mask.sum()), sessions, sums.add(mask), columns))
    return pending


def _best_baseline(results: Mapping[str, Evaluation], metric: str) -> str | None:
    others = [name for name in results if name not in (MODEL, *RELATIVES)]
    return max(others, key=lambda name: results[name].metrics[metric]) if others else None
