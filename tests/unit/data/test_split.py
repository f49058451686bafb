import pytest

from data.sessions import Sessions, sessionise
from data.split import split_by_column, split_by_days, split_by_fraction
from recsys.errors import BadInput
from tests.support.training.builders import log_of, texts

DAY = 86_400


def shop(split: list[int] | None = None) -> Sessions:
    """Four sessions of two clicks, a day apart; the second lasts beyond the start of the last."""
    rows = [
        ("s0", "a", 0), ("s0", "b", 60),
        ("s1", "c", DAY), ("s1", "d", 3 * DAY + 60),
        ("s2", "e", 2 * DAY), ("s2", "f", 2 * DAY + 60),
        ("s3", "g", 3 * DAY), ("s3", "h", 3 * DAY + 60),
    ]  # fmt: skip
    return sessionise(log_of(rows, split), None)


def test_the_last_sessions_by_start_are_the_test() -> None:
    split = split_by_fraction(shop(), 0.25)

    assert texts(split.test) == ["gh"]


def test_training_sees_no_click_after_the_test_begins() -> None:
    """Session s1 began before the cut and ended after it: its later click is of the future."""
    split = split_by_fraction(shop(), 0.25)

    assert texts(split.train) == ["ab", "c", "ef"]
    assert split.train.time_ms.max() < split.test.time_ms.min()


def test_at_least_one_session_stands_on_each_side() -> None:
    assert len(split_by_fraction(shop(), 0.01).test) == 1
    assert len(split_by_fraction(shop(), 0.99).train) == 1


def test_days_count_back_from_the_last_click() -> None:
    assert texts(split_by_days(shop(), 1.5).test) == ["ef", "gh"]


def test_more_days_than_the_log_has_are_refused() -> None:
    with pytest.raises(BadInput, match="the training part is empty when the last 30 days"):
        split_by_days(shop(), 30)


def test_a_split_column_decides_the_parts() -> None:
    split = split_by_column(shop([0, 0, 2, 2, 1, 1, 2, 2]))

    assert texts(split.train) == ["ab"]
    assert texts(split.test) == ["cd", "gh"]
    assert split.valid is not None
    assert texts(split.valid) == ["ef"]


def test_a_column_without_test_is_refused() -> None:
    with pytest.raises(BadInput, match="no session is labelled 'test'"):
        split_by_column(shop([0] * 8))


def test_a_single_session_cannot_be_split() -> None:
    with pytest.raises(BadInput, match="at least 2 sessions, got 1"):
        split_by_fraction(shop().keep_sessions(shop().starts_ms == 0))
