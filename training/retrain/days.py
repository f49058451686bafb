"""Days of a retraining: which clicks are read, and which sessions are trained and tested on.

Days are counted from 1970 in UTC, so that a day of 24 hours begins at midnight. The newest complete
days are tested; the days before them are trained on.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

TRAIN, TEST = "train", "test"  # labels of a session
PART = "part"  # column of the labels


@dataclass(frozen=True, slots=True)
class Days:
    """Times of a retraining, in seconds since 1970: clicks from `since` on and before `until`."""

    since: float
    border: float  # training sessions end before it, test sessions begin at it or later
    until: float

    @classmethod
    def before(cls, now: float, days: int, test_days: int, day_seconds: float) -> Self:
        """Return the last complete days at this time: so many, the newest ones of them tested.

        No day is before 1970, so that calendars represent each of them.
        """
        assert 0 < test_days < days, "some days are trained on and some are tested"
        until = now // day_seconds * day_seconds
        border = max(until - test_days * day_seconds, 0.0)
        return cls(max(until - days * day_seconds, 0.0), border, until)


def labelled(clicks: pd.DataFrame, border: float) -> pd.DataFrame:
    """Return the clicks with the part of their session, as `data.split.by_time` splits sessions.

    A session that begins before the border is trained on, and its clicks at the border or later are
    dropped: they belong to neither part. A session that begins at the border or later is tested on.

    Args:
        clicks: Columns session_id and timestamp, in seconds since 1970.
        border: Time of the border, in seconds since 1970.
    """
    begins = clicks.groupby("session_id")["timestamp"].transform("min")
    is_test: NDArray[np.bool_] = (begins >= border).to_numpy()
    kept = is_test | (clicks["timestamp"] < border).to_numpy()
    parts = np.where(is_test, TEST, TRAIN)
    return clicks.assign(**{PART: parts})[kept]
