"""`recsys serve` with an artificially slow model, for overload tests.

Without the delay the load generator would reach its limit before the service does.
"""

import time
from collections.abc import Callable, Sequence

from torch import Tensor

from recsys.predictor import Predictor, Ranking
from recsys.retrieval.exact import RankingQuery, TopK


def slow_down(seconds: float) -> None:
    """Add a delay to each list of this process.

    The delay is a sleep, which leaves the processors to other processes; it counts as work.
    """
    time.thread_time = time.perf_counter
    quick = Predictor._rank  # of `rank` and `rank_quickly`

    def slow(
        self: Predictor,
        find: Callable[..., Sequence[TopK | None]],
        state: Tensor,
        windows: Sequence[Sequence[int]],
        queries: Sequence[RankingQuery],
    ) -> list[Ranking | None]:
        time.sleep(seconds * len(queries))
        return quick(self, find, state, windows, queries)

    Predictor._rank = slow  # type: ignore[method-assign]
