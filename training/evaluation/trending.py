"""Trending: counts of clicks that go on from click to click, as in the service.

A case is a request at the time of the click before its target. Its counts hold the clicks before
that time, never a later one: those at the end of training, from the bundle, and since then those of
the sessions that are evaluated. The service lags behind by the second between two exchanges with
Redis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data.sessions import Sessions
from recsys.model.recent_popularity import RecentPopularity, largest_counts
from recsys.predictor import Predictor
from recsys.ragged import ScoredRaggedArray, offsets_of


@dataclass(frozen=True, slots=True)
class _Counts:
    """Counts of all items at one time."""

    values: NDArray[np.float64]  # (N,)
    at_ms: int
    clicks: int  # of the sessions, counted so far


class CountsOverTime:
    """Counts that go on from those of `recent`.

    Args:
        recent: Counts at the beginning, with a half-life.
        sessions: Sessions whose clicks are counted, items as indices, -1 where unknown. A click
            from before the time of `recent` counts as one at that time.
    """

    def __init__(self, recent: RecentPopularity, sessions: Sessions) -> None:
        assert recent.settings.half_life_seconds is not None, "counts decay"
        self._half_life_ms = 1000 * recent.settings.half_life_seconds
        counted = sessions.is_first_on_item & (sessions.items >= 0)
        time_ms = np.maximum(sessions.time_ms[counted], recent.at_ms)
        order = np.argsort(time_ms, kind="stable")
        self._time_ms, self._items = time_ms[order], sessions.items[counted][order]
        self._begin = _Counts(recent.newest.astype(np.float64), recent.at_ms, 0)
        self._reached = self._begin

    def at(self, times_ms: NDArray[np.int64]) -> ScoredRaggedArray:
        """Return the counts before each of these times, which are quick to find if they rise.

        Args:
            times_ms: (cases,) int64.

        Returns:
            Rows of item indices and their counts.
        """
        moments, moment_of_case = np.unique(
            np.maximum(times_ms, self._begin.at_ms), return_inverse=True
        )
        if moments[0] < self._reached.at_ms:
            self._reached = self._begin
        counts, rows = self._reached, []
        for at_ms in moments.tolist():
            counts = self._continued(counts, at_ms)
            places = largest_counts(counts.values)
            rows.append((places, counts.values[places]))
            if at_ms == moments[0]:
                self._reached = counts
        lengths = np.array([len(places) for places, _ in rows])
        items, values = (np.concatenate(column) for column in zip(*rows, strict=True))
        return ScoredRaggedArray(offsets_of(lengths), items, values).only(moment_of_case.tolist())

    def _continued(self, counts: "_Counts", at_ms: int) -> "_Counts":
        end = int(np.searchsorted(self._time_ms, at_ms, side="left"))
        clicks = slice(counts.clicks, end)
        values = counts.values * 2.0 ** ((counts.at_ms - at_ms) / self._half_life_ms)
        shares = 2.0 ** ((self._time_ms[clicks] - at_ms) / self._half_life_ms)
        np.add.at(values, self._items[clicks], shares)
        return _Counts(values, at_ms, end)


class TrendingScorer:
    """Predictor whose counts go on with the clicks of these sessions; see `CountsOverTime`."""

    def __init__(self, predictor: Predictor, counted: Sessions) -> None:
        recent = predictor.recent
        assert recent is not None, "the predictor counts clicks"
        self._counts = CountsOverTime(recent, counted)
        self.predictor = predictor.with_recent(recent.without_counts())

    def scores_at(
        self, sessions: Sequence[NDArray[np.int32]], times_ms: NDArray[np.int64]
    ) -> Tensor:
        """Return the scores after each click but the last of every session: (cases, N) float32.

        Args:
            sessions: As for `Predictor.scores_along`.
            times_ms: (cases,) int64, time of each request.
        """
        return self.predictor.scores_along(sessions, self._counts.at(times_ms))


def going_on(predictor: Predictor, counted: Sessions) -> Predictor | TrendingScorer:
    """Return a scorer that counts these clicks, or the predictor where its counts are fixed."""
    recent = predictor.recent
    if recent is None or not recent.is_trending:
        return predictor
    return TrendingScorer(predictor, counted)
