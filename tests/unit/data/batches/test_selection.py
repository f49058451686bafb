"""A selection is what a copy of the sessions would be, and holds none of their clicks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.batches import selection
from data.batches.selection import Selection, without_last
from data.sessions import Sessions, joined, reindex
from data.split import split_by_fraction
from recsys.errors import BadInput
from tests.support.training.builders import words

WORDS = st.lists(st.text("abcd", min_size=2, max_size=6), min_size=2, max_size=30)


def as_lists(sessions: Sessions) -> list[list[int]]:
    return [sessions.items.tolist(), sessions.time_ms.tolist(), sessions.offsets.tolist()]


def overlapping(texts: list[str], pause: int) -> Sessions:
    """Return sessions that begin one after another, with so long between two clicks of each."""
    plain = words(*texts)
    session = plain.session_of_click
    within = np.arange(len(session)) - plain.offsets[session]
    return Sessions(plain.items, 10 * session + pause * within, plain.offsets, plain.item_ids)


@given(WORDS, st.sampled_from([0.1, 0.3, 0.5]), st.integers(0, 30), st.integers(1, 40))
def test_the_last_share_is_cut_off_as_by_the_split(
    texts: list[str], share: float, pause: int, at_once: int
) -> None:
    sessions = overlapping(texts, pause)
    split = split_by_fraction(sessions, share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "SESSIONS_AT_ONCE", at_once)
        before, after = without_last(sessions, share)
        copies = before.sessions(), after.sessions()

    expected = split.train.keep_sessions(split.train.lengths >= 2)
    assert [as_lists(copy) for copy in copies] == [as_lists(expected), as_lists(split.test)]
    assert (len(before), before.clicks) == (len(expected), len(expected.items))
    assert before.counts().tolist() == expected.counts().tolist()


def test_sessions_that_all_begin_together_cannot_be_cut() -> None:
    together = Sessions(np.zeros(4, np.int32), np.zeros(4, np.int64), np.array([0, 2, 4]), ("a",))

    with pytest.raises(BadInput, match="training part is empty"):
        without_last(together, 0.5)


def test_all_sessions_of_a_log_are_the_log_itself() -> None:
    log = words("ab", "cd")

    assert Selection.of(log).sessions() is log
    assert Selection.of(Selection(log)).log is log


@given(WORDS, st.integers(1, 40))
def test_indexed_sessions_are_those_of_reindex(texts: list[str], at_once: int) -> None:
    log, ids = words(*texts), ("c", "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "SESSIONS_AT_ONCE", at_once)
        indexed = Selection(log).indexed(ids).sessions()

    assert as_lists(indexed) == as_lists(reindex(log, ids))


def test_a_part_holds_no_copy_of_the_clicks() -> None:
    log = words("ab", "abc", "cd")

    part = log.part(1, 3)

    assert np.shares_memory(part.items, log.items)
    assert as_lists(part) == as_lists(log.keep_sessions(np.array([False, True, True])))
    assert as_lists(joined([log.part(0, 1), part])) == as_lists(log)
