"""`recsys serve` whose model takes its time, SLOW_MS for each list; for `make soak` and tests.

Otherwise the service would be quicker than what loads it, and nothing would ever be too much.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from recsys.cli.main import main
from recsys.predictor import Predictor, Ranking
from recsys.retrieval.exact import RankingQuery, TopK

SLOW = (str(Path(__file__)),)  # the program, for `ServerProcess`


def slow_down(seconds: float) -> None:
    """Every list of this process takes so much longer.

    It sleeps, so that the processors are left to others, and sleeping counts as work.
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


if __name__ == "__main__":
    slow_down(float(os.environ["SLOW_MS"]) / 1000)
    main()
