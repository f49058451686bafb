"""Preparation of clicks: training and test sessions, with the counts after every step.

`recsys train` and `recsys evaluate` share these steps, so both test on the same sessions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from data.click_options import ClickOptions
from data.clicks import ClickLog, Duplicates, find_duplicates, read_clicks, without_duplicates
from data.files import Progress
from data.sessions import (
    SessionCounts,
    Sessions,
    collapse_repeats,
    count_sessions,
    filter_to_fixed_point,
    sessionise,
)
from data.split import Split, split_by_column, split_by_days, split_by_fraction
from recsys.errors import BadInput


@dataclass(frozen=True)
class Prepared:
    """Sessions for training and testing; items are codes of the click log."""

    train: Sessions
    test: Sessions
    valid: Sessions | None
    counts: Sequence[SessionCounts]
    duplicates: Duplicates

    @property
    def cut_off(self) -> str:
        """Time of the last training click, ISO 8601, UTC."""
        last = int(self.train.time_ms.max()) / 1000
        return datetime.fromtimestamp(last, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class ReadSessions:
    """Sessions before the split, with the counts after every step so far."""

    sessions: Sessions
    counts: list[SessionCounts]
    duplicates: Duplicates


def read_log(
    options: ClickOptions, progress: Progress | None = None
) -> tuple[ClickLog, Duplicates]:
    """Return the clicks and the number of exact duplicates, which an option drops."""
    log = read_clicks(options, progress)
    repeats, duplicates = find_duplicates(log)
    if options.drop_duplicates and duplicates.rows:
        return without_duplicates(log, repeats, duplicates)
    return log, duplicates


def read_sessions(options: ClickOptions, progress: Progress | None = None) -> ReadSessions:
    """Return the sessions of at least the minimum length, before any split."""
    log, duplicates = read_log(options, progress)
    sessions = sessionise(log, options.session_gap_seconds)
    counts = [count_sessions("read", sessions)]
    if options.collapse:
        sessions = collapse_repeats(sessions)
        counts.append(count_sessions("consecutive repeats collapsed", sessions))
    sessions = sessions.keep_sessions(sessions.lengths >= options.min_length)
    counts.append(count_sessions(f"sessions of at least {options.min_length} clicks", sessions))
    if len(sessions) == 0:
        raise BadInput("No session is left", [_steps_text(counts)])
    return ReadSessions(sessions, counts, duplicates)


def prepare(options: ClickOptions, progress: Progress | None = None) -> Prepared:
    """Read, cut and split the sessions, then filter the training part; raise `BadInput`."""
    read = read_sessions(options, progress)
    counts = read.counts
    split = _split(options, read.sessions)
    train, rounds = filter_to_fixed_point(
        split.train, min_length=options.min_length, min_support=options.min_support
    )
    counts += [count_sessions("training part", split.train), *rounds]
    if len(train) == 0:
        raise BadInput("No training session is left", [_steps_text(counts)])
    test = split.test.keep_sessions(split.test.lengths >= 2)
    counts.append(count_sessions("test part", test))
    if len(test) == 0:
        raise BadInput("No test session is left", [_steps_text(counts)])
    _check_known(train, test)
    return Prepared(train, test, split.valid, counts, read.duplicates)


def _split(options: ClickOptions, sessions: Sessions) -> Split:
    if options.split_column is not None:
        return split_by_column(sessions)
    if options.test_days is not None:
        return split_by_days(sessions, options.test_days)
    return split_by_fraction(sessions, options.test_fraction)


def _check_known(train: Sessions, test: Sessions) -> None:
    if not (train.counts() > 0)[test.next_clicks].any():
        raise BadInput(
            "The test part cannot be used",
            [
                f"none of its {len(test.next_clicks):,} next clicks is on an item of training, so "
                "nothing can be measured. Choose another split, or check that item ids are "
                "written alike in all files."
            ],
        )


def _steps_text(counts: Sequence[SessionCounts]) -> str:
    steps = "; ".join(f"{c.step}: {c.sessions:,} sessions, {c.clicks:,} clicks" for c in counts)
    return f"{steps}. Loosen --min-length or --min-support, or give more clicks."
