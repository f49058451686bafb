"""Of a log with more than baselines may take, the newest sessions count, and this is said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.batches.selection import Selection
from recsys.catalogue.catalogue import Catalogue
from tests.support.training.builders import words
from training.baselines import baselines, newest
from training.baselines.newest import LIMITS, clicks, limits_of, pairs, pairs_of_rules

LOG = words("ab", "abc", "cd", "abcd")  # 2 + 3 + 2 + 4 clicks


@pytest.mark.parametrize(
    ("most", "sessions"), [(11, 4), (10, 3), (9, 3), (8, 2), (6, 2), (5, 1), (4, 1), (3, 1), (0, 1)]
)
def test_the_newest_sessions_fit_and_one_always_counts(most: int, sessions: int) -> None:
    found = newest.newest(Selection(LOG), most)

    expected = LOG.part(4 - sessions, 4)
    assert found.items.tolist() == expected.items.tolist()
    assert found.offsets.tolist() == expected.offsets.tolist()


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20).filter(any),
    st.integers(0, 60),
    st.integers(1, 25),
)
def test_sessions_that_are_left_out_cost_nothing(kept: list[int], most: int, at_once: int) -> None:
    log = words(*["abcde"] * len(kept))
    selection = Selection(log, np.array(kept, dtype=np.int32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newest, "SESSIONS_AT_ONCE", at_once)
        found = newest.newest(selection, most)

    lengths = [n for n in kept if n]
    fitting = [n for n in range(1, len(lengths) + 1) if sum(lengths[-n:]) <= most]
    count = max(fitting, default=0)
    if count == 0:
        assert len(found) <= 1
    else:
        assert found.lengths.tolist() == lengths[-count:]


def test_costs_are_the_pairs_of_a_session() -> None:
    lengths = np.array([2, 3, 20])

    assert clicks(lengths).tolist() == [2, 3, 20]
    assert pairs(lengths).tolist() == [4, 9, 400]
    assert pairs_of_rules(lengths).tolist() == [1, 3, sum(20 - d for d in range(1, 11))]


def test_nothing_is_said_where_all_sessions_count() -> None:
    assert limits_of(LOG) == []


def test_limited_baselines_are_named_with_their_clicks(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {**LIMITS, "markov": (5, clicks), "vstan": (7, clicks)}
    monkeypatch.setattr(newest, "LIMITS", limits)

    assert limits_of(LOG, blend=True) == [
        "Because of memory, the newest 4 of 11 training clicks are what markov learned from.",
        "Because of memory, the newest 6 of 11 training clicks are what vstan, the model's blend "
        "learned from.",
    ]


def test_every_limited_baseline_exists() -> None:
    catalogue = Catalogue(LOG.item_ids, LOG.counts())

    assert set(LIMITS) <= set(baselines(catalogue, LOG))
