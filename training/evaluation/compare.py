"""Groups of test cases: by position in the session, and by how popular the target was in training.

Groups without a case are left out. Popularity groups are deciles of training clicks: items stand
in falling order of their clicks, and each decile holds about a tenth of all clicks, so the first
holds a few popular items and the last most of the catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.evaluation.evaluate import Evaluation
from training.evaluation.intervals import Estimate, estimate, ratio, resampled_sums, session_sums

DECILES = 10
POSITIONS = (  # clicks before the target: first, last
    *((n, n) for n in range(1, 6)),
    (6, 10),
    (11, 20),
    (21, 50),
    (51, None),
)


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the cases, and the items that define them where items do."""

    name: str
    inside: NDArray[np.bool_]  # (cases,)
    items: int | None = None  # of the catalogue, in this group
    clicks: tuple[int, int] | None = None  # fewest and most training clicks of one of them


def by_position(before: NDArray[np.int32]) -> list[Slice]:
    """before: (cases,) clicks of the session before the target."""
    slices = []
    for first, last in POSITIONS:
        inside = before >= first if last is None else (before >= first) & (before <= last)
        name = f"{first}+" if last is None else f"{first}–{last}" if last > first else str(first)
        slices.append(Slice(name, inside))
    return [part for part in slices if part.inside.any()]


def by_popularity(target: NDArray[np.int32], counts: NDArray[np.int64]) -> list[Slice]:
    """target: (cases,) item index or -1; counts: (N,) training clicks of every item."""
    decile = deciles(counts)
    group = np.where(target >= 0, decile[target], -1)
    slices = []
    for number in range(DECILES):
        members = counts[decile == number]
        if len(members):
            span = (int(members.min()), int(members.max()))
            slices.append(Slice(str(number + 1), group == number, len(members), span))
    slices.append(Slice("not in training", group == -1))
    return [part for part in slices if part.inside.any()]


def deciles(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) 0 for the most clicked items to 9; an item belongs where the middle of its clicks lies.

    Equal counts stand in the order of the item index.
    """
    order = np.argsort(-counts, kind="stable")
    doubled = 2 * np.cumsum(counts[order]) - counts[order]  # twice the middle, a whole number
    found = np.empty(len(counts), dtype=np.int64)
    found[order] = np.minimum(doubled * DECILES // max(2 * counts.sum(), 1), DECILES - 1)
    return found


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
    """Return what each case adds to a metric; formulas as in `training.evaluation.metrics`."""
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
