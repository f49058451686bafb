"""Evaluations on the same cases → figures with intervals, paired differences, and slices.

Every interval comes from one set of draws of whole sessions (`training/intervals.py`). The best
baseline is the one that is best on these very cases, which favours it against the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.evaluate import Evaluation
from training.intervals import Estimate, estimate, ratio, resampled_sums, session_sums
from training.slices import Slice, by_popularity, by_position

MODEL = "model"  # the name of the row that the others are compared with
RELATIVES = ("model alone", "parent")  # rows that are models too, so no baselines
COMPARED = ("recall@1", "recall@5", "recall@10", "recall@20", "mrr@20", "ndcg@20")
HEADLINE = ("recall@20", "mrr@20")  # what slices and the manifest's intervals are of
RIVAL_BY = "mrr@20"  # its best baseline stands beside the model in the slices
FEWEST_SESSIONS = 10  # of a slice, below which resampling says nothing


@dataclass(frozen=True, slots=True)
class Difference:
    """Model minus another recommender, on the same resamples."""

    metric: str
    other: str
    gain: Estimate


@dataclass(frozen=True, slots=True)
class SliceResult:
    """What the compared recommenders reach on some of the cases."""

    slice: Slice
    cases: int
    figures: Mapping[str, Mapping[str, Estimate]]  # recommender → metric → figure


@dataclass(frozen=True, slots=True)
class Comparison:
    """The model and its baselines, each figure with its interval."""

    sessions: int
    cases: int
    unseen_targets: int
    figures: Mapping[str, Mapping[str, Estimate]]  # recommender → metric → figure
    differences: Sequence[Difference]  # to the best baseline of each metric, if there is one
    to_relatives: Sequence[Difference]
    rival: str | None  # the baseline that stands beside the model in the slices
    positions: Sequence[SliceResult]
    popularity: Sequence[SliceResult]


@dataclass
class _Columns:
    """Sums per session, gathered so that all of them are resampled together."""

    session: NDArray[np.int32]
    sessions: int
    columns: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, values: NDArray[np.float64]) -> int:
        """values: (cases,); returns the column's number."""
        self.columns.append(session_sums(values, self.session, self.sessions))
        return len(self.columns) - 1

    def resampled(self) -> NDArray[np.float64]:
        return resampled_sums(np.stack(self.columns, axis=1))


def compare_with_intervals(
    results: Mapping[str, Evaluation], counts: NDArray[np.int64]
) -> Comparison:
    """results: the model's first, all of the same cases; counts: (N,) training clicks.

    The targets are taken from the model's catalogue; a relative may have another one.
    """
    model, cases = results[MODEL], results[MODEL].ranked
    for name, result in results.items():
        assert np.array_equal(result.ranked.session, cases.session), f"{name} saw other cases"
    sessions = int(cases.session.max()) + 1
    columns = _Columns(cases.session, sessions)
    all_cases = columns.add(np.ones(len(cases.rank)))
    wanted = {
        (name, metric): columns.add(gains(result.ranked.rank, metric))
        for name, result in results.items()
        for metric in COMPARED
    }
    best = {metric: _best_baseline(results, metric) for metric in COMPARED}
    rival = best[RIVAL_BY]
    shown = [MODEL] if rival is None else [MODEL, rival]
    positions = _sliced(by_position(cases.before), results, shown, columns)
    popularity = _sliced(by_popularity(cases.target, counts), results, shown, columns)
    sums = columns.resampled()
    means = {key: ratio(sums[:, column], sums[:, all_cases]) for key, column in wanted.items()}

    def gain(metric: str, other: str) -> Difference:
        value = model.metrics[metric] - results[other].metrics[metric]
        return Difference(
            metric, other, estimate(value, means[MODEL, metric] - means[other, metric])
        )

    return Comparison(
        sessions=sessions,
        cases=model.cases,
        unseen_targets=model.unseen_targets,
        figures={
            name: {m: estimate(result.metrics[m], means[name, m]) for m in COMPARED}
            for name, result in results.items()
        },
        differences=[gain(m, other) for m in COMPARED if (other := best[m]) is not None],
        to_relatives=[gain(m, other) for other in RELATIVES if other in results for m in HEADLINE],
        rival=rival,
        positions=[part.result(sums) for part in positions],
        popularity=[part.result(sums) for part in popularity],
    )


def gains(rank: NDArray[np.int32], metric: str) -> NDArray[np.float64]:
    """What each case adds to a metric before the mean is taken; formulas as in `recsys.metrics`."""
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


def _best_baseline(results: Mapping[str, Evaluation], metric: str) -> str | None:
    others = [name for name in results if name not in (MODEL, *RELATIVES)]
    return max(others, key=lambda name: results[name].metrics[metric]) if others else None


@dataclass(frozen=True)
class _Sliced:
    """A slice whose sums wait to be resampled."""

    slice: Slice
    cases: int
    sessions: int
    count_column: int
    columns: Mapping[tuple[str, str], tuple[int, float]]  # (recommender, metric) → column, mean

    def result(self, sums: NDArray[np.float64]) -> SliceResult:
        figures: dict[str, dict[str, Estimate]] = {}
        for (name, metric), (column, mean) in self.columns.items():
            means = ratio(sums[:, column], sums[:, self.count_column])
            if self.sessions < FEWEST_SESSIONS:
                means = means[:0]
            figures.setdefault(name, {})[metric] = estimate(mean, means)
        return SliceResult(self.slice, self.cases, figures)


def _sliced(
    slices: Sequence[Slice],
    results: Mapping[str, Evaluation],
    names: Sequence[str],
    columns: _Columns,
) -> list[_Sliced]:
    found = []
    for part in slices:
        inside = part.inside.astype(np.float64)
        chosen = {}
        for name in names:
            for metric in HEADLINE:
                gain = gains(results[name].ranked.rank, metric) * inside
                chosen[name, metric] = (columns.add(gain), float(gain.sum() / inside.sum()))
        sessions = len(np.unique(columns.session[part.inside]))
        found.append(_Sliced(part, int(inside.sum()), sessions, columns.add(inside), chosen))
    return found
