"""Scorers with known rankings, evaluated on words as sessions."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from data.sessions import reindex
from tests.support.training.builders import words
from training.evaluation.evaluate import Evaluation, evaluate

CATALOGUE = tuple("abcdefghijklmnopqrstuvwxy")  # 25 items, so that rank 21 and later are misses
COUNTS = np.arange(25, 0, -1).astype(np.int64)  # 325 clicks: a 25, b 24, … y 1


class Fixed:
    """Scorer with one fixed ranking."""

    def __init__(self, order: str) -> None:
        self._scores = torch.tensor([-float(order.index(item)) for item in CATALOGUE])

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> torch.Tensor:
        return self._scores.expand(sum(len(session) - 1 for session in sessions), len(CATALOGUE))


FORWARD = Fixed("".join(CATALOGUE))
BACKWARD = Fixed("".join(reversed(CATALOGUE)))


def evaluated(*sessions: str, **scorers: Fixed) -> dict[str, Evaluation]:
    tested = reindex(words(*sessions), CATALOGUE)
    return {name: evaluate(scorer, tested, len(CATALOGUE)) for name, scorer in scorers.items()}
