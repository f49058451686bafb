"""Split of sessions into train and test, so that training sees nothing of the future.

By time: sessions that start at or after the cut are the test part; clicks of training sessions
after the cut are dropped, because they happen during the test. By column: as labelled.
"""

from dataclasses import dataclass

import numpy as np

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


def split_by_fraction(sessions: Sessions, fraction: float = 0.1) -> Split:
    """Test on the last `fraction` of the sessions by start; each part has at least one.

    Sessions that start in the same millisecond stay on one side.
    """
    if len(sessions) < 2:
        raise BadInput(
            "The clicks cannot be split",
            [f"a test part needs at least 2 sessions, got {len(sessions)}. Give more clicks."],
        )
    first = min(max(len(sessions) - round(len(sessions) * fraction), 1), len(sessions) - 1)
    return _cut(sessions, int(sessions.starts_ms[first]), f"the last {fraction:.0%} of sessions")


def split_by_days(sessions: Sessions, days: float) -> Split:
    """Test on the sessions that start in the last `days` × 24 hours of the log."""
    cut = int(sessions.time_ms.max()) - round(days * DAY_MS) + 1
    return _cut(sessions, cut, f"the last {days:g} days")


def split_by_column(sessions: Sessions) -> Split:
    """Split as the split column labels sessions; only `valid` may be missing."""
    assert sessions.split is not None, "Read the clicks with a split column first."
    parts = {part: sessions.keep_sessions(sessions.split == i) for i, part in enumerate(SPLITS)}
    empty = [name for name in ("train", "test") if len(parts[name]) == 0]
    if empty:
        raise BadInput(
            "The split column cannot be used",
            [f"no session is labelled {name!r}. Label some." for name in empty],
        )
    return Split(parts["train"], parts["test"], parts["valid"] if len(parts["valid"]) else None)


def _cut(sessions: Sessions, cut_ms: int, what: str) -> Split:
    later = sessions.starts_ms >= cut_ms
    train = sessions.keep_sessions(~later)
    train = train.keep_clicks(train.time_ms < cut_ms)
    if len(train) == 0 or not later.any():
        side = "training" if len(train) == 0 else "test"
        raise BadInput(
            "The clicks cannot be split",
            [
                f"the {side} part is empty when {what} are tested: the log spans "
                f"{np.ptp(sessions.time_ms) / DAY_MS:.2f} days. Choose another --test-days or "
                "--test-fraction."
            ],
        )
    return Split(train, sessions.keep_sessions(later))
