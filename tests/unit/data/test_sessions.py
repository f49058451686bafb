import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import sessions
from data.sessions import collapse_repeats, filter_to_fixed_point, known_items, reindex, sessionise
from recsys.errors import BadInput
from tests.support.training.builders import log_of, texts, words


def test_clicks_are_ordered_by_time_and_equal_times_by_row() -> None:
    log = log_of([("s", "c", 9), ("s", "a", 5), ("s", "b", 5)])

    assert texts(sessionise(log, None)) == ["abc"]


def test_sessions_are_ordered_by_their_first_click() -> None:
    log = log_of([("late", "a", 50), ("late", "b", 60), ("early", "c", 10), ("early", "d", 99)])

    assert texts(sessionise(log, None)) == ["cd", "ab"]


def test_interleaved_sessions_are_separated() -> None:
    log = log_of([("x", "a", 1), ("y", "b", 2), ("x", "c", 3), ("y", "d", 4)])

    assert texts(sessionise(log, None)) == ["ac", "bd"]


def test_a_user_is_cut_where_the_pause_is_longer_than_the_gap() -> None:
    log = log_of([("u", "a", 0), ("u", "b", 1800), ("u", "c", 3601), ("v", "d", 3601)])

    assert texts(sessionise(log, idle_gap_seconds=1800)) == ["ab", "c", "d"]


def test_a_session_in_both_train_and_test_is_refused() -> None:
    log = log_of([("s", "a", 1), ("s", "b", 2)], split=[0, 2])

    with pytest.raises(BadInput, match="session 's' has clicks of more than one"):
        sessionise(log, None)


def test_collapse_drops_repeats_in_a_row_but_not_across_sessions() -> None:
    assert texts(collapse_repeats(words("aab", "bba", "aba"))) == ["ab", "ba", "aba"]


def test_filters_run_until_nothing_changes() -> None:
    """Dropping rare c shortens 'cb', whose loss makes b rare, whose loss ends 'ab'."""
    sessions, rounds = filter_to_fixed_point(words("aa", "ab", "cb"), min_length=2, min_support=2)

    assert texts(sessions) == ["aa"]
    assert [(r.step, r.sessions, r.clicks) for r in rounds] == [
        ("items of at least 2 clicks", 3, 5),
        ("sessions of at least 2 clicks", 2, 4),
        ("items of at least 2 clicks", 2, 3),
        ("sessions of at least 2 clicks", 1, 2),
    ]


def test_filters_may_leave_nothing() -> None:
    sessions, _ = filter_to_fixed_point(words("ab", "cd"), min_length=2, min_support=2)

    assert len(sessions) == 0


@given(
    st.lists(st.text("abcde", min_size=1, max_size=6), min_size=1, max_size=12),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_a_fixed_point_satisfies_both_rules(
    sessions: list[str], min_length: int, min_support: int
) -> None:
    kept, _ = filter_to_fixed_point(
        words(*sessions), min_length=min_length, min_support=min_support
    )

    assert (kept.lengths >= min_length).all()
    assert (kept.counts()[kept.items] >= min_support).all()


def test_items_the_catalogue_lacks_become_minus_one() -> None:
    sessions = words("abc")

    assert reindex(sessions, ("c", "a")).items.tolist() == [1, -1, 0]


def test_known_items_are_those_clicked() -> None:
    sessions = words("ab", "cd")

    assert known_items(sessions.keep_sessions(np.array([False, True]))) == ("c", "d")


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(1, 40))
def test_numbers_of_a_log_do_not_depend_on_how_much_is_read_at_a_time(
    lengths: list[int], at_once: int
) -> None:
    log = words(*("abcde"[:length] for length in lengths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "CLICKS_AT_ONCE", at_once)
        counts, by_length = log.counts(), log.length_counts()
        ordered = log.at_places_by_length(range(len(log)))

    assert counts.tolist() == np.bincount(log.items, minlength=len(log.item_ids)).tolist()
    assert by_length.tolist() == np.bincount(lengths).tolist()
    assert ordered == np.argsort(lengths, kind="stable").tolist()
