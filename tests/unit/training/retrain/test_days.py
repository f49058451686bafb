"""Training ends before the tested days begin, for every log."""

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from data.events.folder import DAY_SECONDS
from training.retrain.days import PART, TEST, TRAIN, Days, labelled

MIDNIGHT = 20_000 * DAY_SECONDS
CLICKS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=40)


def frame_of(clicks: list[tuple[int, int]]) -> pd.DataFrame:
    return pd.DataFrame(clicks, columns=["session_id", "timestamp"])


def test_the_newest_complete_day_is_tested() -> None:
    days = Days.before(MIDNIGHT + 5000, days=28, test_days=1, day_seconds=DAY_SECONDS)

    assert days == Days(MIDNIGHT - 28 * DAY_SECONDS, MIDNIGHT - DAY_SECONDS, MIDNIGHT)


def test_a_day_may_be_short_and_several_may_be_tested() -> None:
    assert Days.before(1234, days=5, test_days=2, day_seconds=100) == Days(700, 1000, 1200)


def test_no_day_is_before_1970() -> None:
    assert Days.before(1234, days=10**12, test_days=2, day_seconds=100) == Days(0, 1000, 1200)


@given(CLICKS, st.integers(1, 39))
def test_training_and_test_never_overlap(clicks: list[tuple[int, int]], border: int) -> None:
    frame = frame_of(clicks)

    parts = labelled(frame, border)

    train, test = parts[parts[PART] == TRAIN], parts[parts[PART] == TEST]
    assert not set(train["session_id"]) & set(test["session_id"])
    assert (train["timestamp"] < border).all()
    assert (test["timestamp"] >= border).all()
    # of the rest, each click is at the border or later, of a session that begins before it
    dropped = frame.drop(parts.index)
    begins = frame.groupby("session_id")["timestamp"].min()
    assert (dropped["timestamp"] >= border).all()
    assert (begins[dropped["session_id"]] < border).all()
