"""Gain of an addition on the validation cases, and its standard error.

The gain is the sum of the relative gains in recall@20 and mrr@20: .02 where both gain one percent.
An addition is used where it gains more than `ERRORS` of its standard errors.
"""

import numpy as np
from numpy.typing import NDArray

from training.evaluation.evaluate import LIST_LENGTH

ERRORS = 2.0  # standard errors that an addition must gain
LEAST_SESSIONS = 20  # with cases; the standard error over fewer of them says little


def gains(ranks: NDArray[np.int64], before: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each case's part in the gain, which is their mean.

    Args:
        ranks: (cases,) int64, ranks of the targets, 1 for the best.
        before: (cases,) int64, their ranks without the addition.

    Returns:
        (cases,) float64.
    """
    old, new = metric_parts(before), metric_parts(ranks)
    means = np.maximum(old.mean(axis=1), 1 / len(ranks))
    parts: NDArray[np.float64] = ((new - old) / means[:, None]).sum(axis=0)
    return parts


def metric_parts(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the parts of the cases in recall@20 and mrr@20: (2, cases) float64."""
    hits = (ranks <= LIST_LENGTH).astype(np.float64)
    return np.stack([hits, hits / np.maximum(ranks, 1)])


def is_clear(gain: NDArray[np.float64], session: NDArray[np.int64]) -> bool:
    """Return whether the mean gain is above `ERRORS` standard errors, of enough sessions."""
    enough = len(np.unique(session)) >= LEAST_SESSIONS
    return enough and bool(gain.mean() > ERRORS * standard_error(gain, session))


def standard_error(values: NDArray[np.float64], session: NDArray[np.int64]) -> float:
    """Return the standard error of the mean of the cases, where sessions are independent.

    Args:
        values: (cases,) float64.
        session: (cases,) int64.
    """
    sums = np.bincount(session, values - values.mean())
    return float(np.sqrt((sums**2).sum()) / len(values))
