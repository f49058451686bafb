"""Gate of a retraining: publish a candidate only if it is not worse than the current model.

Both rank the same cases. The candidate passes if the lower end of the one-sided 95 % interval of
the relative difference of Recall@20 is above minus the margin: a test of non-inferiority
(Piaggio et al., JAMA 2012). The interval is a paired bootstrap of whole sessions, as in
`training.evaluation.intervals`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.compare import HEADLINE, case_values
from training.evaluation.evaluate import RankedCases
from training.evaluation.intervals import resampled_sums, session_sums

DECIDES, ALSO = HEADLINE  # metric that decides, and one that is reported
TAIL = 0.05  # of the one-sided interval
Z_TAIL, Z_POWER = 1.645, 0.842  # normal quantiles of 95 % and of a power of 80 %


@dataclass(frozen=True, slots=True)
class RelativeDifference:
    """Metric of both models, and candidate / current − 1 with its one-sided intervals."""

    metric: str
    candidate: float
    current: float
    difference: float
    low: float  # 95 % of the resamples are above
    high: float  # 95 % of the resamples are below


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of the gate."""

    passes: bool
    margin: float
    cases: int
    sessions: int
    disagreement: float  # share of the cases that exactly one of both finds
    recall: RelativeDifference
    mrr: RelativeDifference
    cases_needed: int | None  # for an equally good model to pass four times in five


def judge(candidate: RankedCases, current: RankedCases, margin: float) -> Verdict:
    """Compare the ranks of two models on the same cases.

    Args:
        candidate: Ranks of the candidate; a target that it does not know is a miss.
        current: Ranks of the current model of the same cases, in the same order.
        margin: Relative loss of Recall@20 that is accepted; 0: the candidate must be better.
    """
    assert np.array_equal(candidate.session, current.session), "both rank the same cases"
    sessions = int(candidate.session.max()) + 1
    columns = [
        session_sums(case_values(model.rank, metric), candidate.session, sessions)
        for metric in HEADLINE
        for model in (candidate, current)
    ]
    samples = resampled_sums(np.stack(columns, axis=1))
    recall, mrr = (
        _difference(metric, candidate, current, samples[:, [2 * at, 2 * at + 1]])
        for at, metric in enumerate(HEADLINE)
    )
    found = [case_values(model.rank, DECIDES) for model in (candidate, current)]
    return Verdict(
        passes=recall.low > -margin,
        margin=margin,
        cases=len(candidate.rank),
        sessions=sessions,
        disagreement=float(np.mean(found[0] != found[1])),
        recall=recall,
        mrr=mrr,
        cases_needed=_cases_needed(len(candidate.rank), recall, margin),
    )


def _difference(
    metric: str, candidate: RankedCases, current: RankedCases, samples: NDArray[np.float64]
) -> RelativeDifference:
    """Return the relative difference; samples: (resamples, 2) sums of candidate and current."""
    values = [float(case_values(model.rank, metric).mean()) for model in (candidate, current)]
    low, high = np.quantile(_relative(samples), [TAIL, 1 - TAIL], method="lower").tolist()
    difference = float(_relative(np.array([values]))[0])
    return RelativeDifference(metric, values[0], values[1], difference, low, high)


def _relative(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return candidate / current − 1 of each row; where current is 0, 0 or infinity."""
    candidate, current = pairs[:, 0], pairs[:, 1]
    without = np.where(candidate > 0, np.inf, 0.0)
    return np.divide(candidate - current, current, out=without, where=current > 0)


def _cases_needed(cases: int, recall: RelativeDifference, margin: float) -> int | None:
    """Return the cases with which an equally good model passes with a power of 80 %.

    The standard error falls with the square root of the cases; None where it or the margin is 0.
    """
    error = (recall.high - recall.low) / (2 * Z_TAIL)
    if margin == 0 or not 0 < error < math.inf:
        return None
    return math.ceil(cases * ((Z_TAIL + Z_POWER) * error / margin) ** 2)
