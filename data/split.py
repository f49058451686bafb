"""Split of sessions into train and test, so that training sees nothing of the future.

By time: sessions that start at or after the cut are the test part; clicks of training sessions
after the cut are dropped, because they happen during the test. By column: as labelled.
"""

from dataclasses import dataclass

from data.schema import SPLITS
from data.sessions import Sessions
from recsys.errors import BadInput

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Split:
    """Parts of one log; `valid` only where a column labels it."""

    train: Sessions
    test: Sessions
    valid: Sessions | None = None


@dataclass(frozen=True)
class Extent:
    """Numbers of a log that decide where it is cut."""

    sessions: int
    first_ms: int  # time of the first click
    last_ms: int


def extent_of(sessions: Sessions) -> Extent:
    return Extent(len(sessions), int(sessions.time_ms.min()), int(sessions.time_ms.max()))


def split_by_fraction(sessions: Sessions, fraction: float = 0.1) -> Split:
    """Test on the last `fraction` of the sessions by start; each part has at least one.

    Sessions that start in the same millisecond stay on one side.
    """
    first = first_test_session(len(sessions), fraction)
    return _cut(sessions, int(sessions.starts_ms[first]), fraction_text(fraction))


def split_by_days(sessions: Sessions, days: float) -> Split:
    """Test on the sessions that start in the last `days` × 24 hours of the log."""
    return _cut(sessions, cut_before_days(extent_of(sessions), days), days_text(days))


def split_by_column(sessions: Sessions) -> Split:
    """Split as the split column labels sessions; only `valid` may be missing."""
    split = by_label(sessions)
    check_labelled(len(split.train), len(split.test))
    return split


def first_test_session(sessions: int, fraction: float) -> int:
    """Return the session, in order of their starts, whose start is the cut; raise `BadInput`."""
    if sessions < 2:
        raise BadInput(
            "The clicks cannot be split",
            [f"a test part needs at least 2 sessions, got {sessions}. Give more clicks."],
        )
    return min(max(sessions - round(sessions * fraction), 1), sessions - 1)


def cut_before_days(extent: Extent, days: float) -> int:
    """Return the time of the cut, in milliseconds."""
    return extent.last_ms - round(days * DAY_MS) + 1


def fraction_text(fraction: float) -> str:
    return f"the last {fraction:.0%} of sessions"


def days_text(days: float) -> str:
    return f"the last {days:g} days"


def by_label(sessions: Sessions) -> Split:
    """Return the sessions of each label; only `valid` is None where there is none."""
    assert sessions.split is not None, "Read the clicks with a split column first."
    parts = {part: sessions.keep_sessions(sessions.split == i) for i, part in enumerate(SPLITS)}
    return Split(parts["train"], parts["test"], parts["valid"] if len(parts["valid"]) else None)


def by_time(sessions: Sessions, cut_ms: int) -> Split:
    """Return the sessions before and from the cut; later clicks of the former are dropped."""
    later = sessions.starts_ms >= cut_ms
    train = sessions.keep_sessions(~later)
    return Split(train.keep_clicks(train.time_ms < cut_ms), sessions.keep_sessions(later))


def check_labelled(train: int, test: int) -> None:
    """Raise `BadInput` where no session is labelled for training, or none for the test."""
    empty = [name for name, sessions in (("train", train), ("test", test)) if sessions == 0]
    if empty:
        raise BadInput(
            "The split column cannot be used",
            [f"no session is labelled {name!r}. Label some." for name in empty],
        )


def check_cut(train: int, test: int, extent: Extent, what: str) -> None:
    """Raise `BadInput` where one side of the cut has no sessions."""
    if train == 0 or test == 0:
        side = "training" if train == 0 else "test"
        raise BadInput(
            "The clicks cannot be split",
            [
                f"the {side} part is empty when {what} are tested: the log spans "
                f"{(extent.last_ms - extent.first_ms) / DAY_MS:.2f} days. Choose another "
                "--test-days or --test-fraction."
            ],
        )


def _cut(sessions: Sessions, cut_ms: int, what: str) -> Split:
    split = by_time(sessions, cut_ms)
    check_cut(len(split.train), len(split.test), extent_of(sessions), what)
    return split
