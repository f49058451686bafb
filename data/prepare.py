"""Preparation of clicks: training and test sessions, with the counts after every step.

`recsys train` and `recsys evaluate` share these steps, so both test on the same sessions.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from data.bad_rows import NO_SKIPPED, SkippedRows
from data.click_options import ClickOptions
from data.clicks import ClickLog, Duplicates, find_duplicates, read_clicks, without_duplicates
from data.event_types import with_event_types
from data.files import Progress
from data.sessions import (
    SessionCounts,
    Sessions,
    collapse_repeats,
    count_sessions,
    filter_to_fixed_point,
    sessionise,
)
from data.split import DAY_MS, Split, split_by_column, split_by_days, split_by_fraction
from recsys.errors import BadInput

FIRST_CLICKS = 10_000  # of a log, of which most have times of day
FRACTION = re.compile(r"\d+\.0")
FIRST_ITEMS = 1_000  # of a log, of which most are no fractional numbers
DATES = (
    "The times are dates without a time of day. Clicks of a session on one day are read in the "
    "order of their rows, so the rows must be in the order of the clicks. Sessions that begin on "
    "one day are all trained on, or all tested. --session-column none makes one session of all "
    "clicks of a user and day. Export the time of each click, if the shop has it."
)

FRACTIONS = (
    "The item ids end in .0, as in {}: a program wrote whole numbers as fractional ones. The items "
    "file and the requests to the service must write them alike. Better export whole numbers."
)


@dataclass(frozen=True, slots=True)
class Remark:
    """Sentence about a log or a result; a serious one puts its figures in doubt."""

    text: str
    is_serious: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Prepared:
    """Sessions for training and testing; items are codes of the click log."""

    train: Sessions
    test: Sessions
    valid: Sessions | None
    counts: Sequence[SessionCounts]
    duplicates: Duplicates
    skipped: SkippedRows = NO_SKIPPED

    @property
    def warnings(self) -> list[Remark]:
        """Return what is odd in the log."""
        return warnings_of(self.duplicates, self.skipped, self.train.time_ms, self.train.item_ids)

    @property
    def cut_off(self) -> str:
        """Time of the last training click, ISO 8601, UTC."""
        return as_cut_off(int(self.train.time_ms.max()))


@dataclass(frozen=True)
class ReadSessions:
    """Sessions before the split, with the counts after every step so far."""

    sessions: Sessions
    counts: list[SessionCounts]
    duplicates: Duplicates
    skipped: SkippedRows

    @property
    def warnings(self) -> list[Remark]:
        """Return what is odd in the log."""
        return warnings_of(
            self.duplicates, self.skipped, self.sessions.time_ms, self.sessions.item_ids
        )


def warnings_of(
    duplicates: Duplicates,
    skipped: SkippedRows,
    time_ms: NDArray[np.int64],
    item_ids: Sequence[str],
) -> list[Remark]:
    """Return what is odd in a log; time_ms: (clicks,) of its clicks; item_ids: the first ones."""
    ids = item_ids[:FIRST_ITEMS]
    found = [
        Remark(skipped.warning or ""),
        Remark(duplicates.warning or "", is_serious=duplicates.distorts),
        Remark(DATES if are_dates(time_ms) else ""),
        Remark(FRACTIONS.format(ids[0]) if ids and all(map(FRACTION.fullmatch, ids)) else ""),
    ]
    return [warning for warning in found if warning.text]


def are_dates(time_ms: NDArray[np.int64]) -> bool:
    """Return whether the times are of several days, and all at one time of day."""
    of_day = time_ms[0] % DAY_MS
    alike = all(np.all(part % DAY_MS == of_day) for part in (time_ms[:FIRST_CLICKS], time_ms))
    return alike and bool(time_ms.min() < time_ms.max())


def as_cut_off(last_ms: int) -> str:
    """Return the time of the last training click, ISO 8601, UTC."""
    return datetime.fromtimestamp(last_ms / 1000, UTC).isoformat(timespec="seconds")


def read_log(
    options: ClickOptions, progress: Progress | None = None, types: Sequence[str] = ()
) -> tuple[ClickLog, Duplicates]:
    """Return the clicks and the number of exact duplicates, which an option drops.

    types: Event types of clicks before, which count, too.
    """
    log = with_event_types(read_clicks(options, progress), options, types)
    repeats, duplicates = find_duplicates(log)
    if options.drop_duplicates and duplicates.rows:
        return without_duplicates(log, repeats, duplicates)
    return log, duplicates


def read_sessions(
    options: ClickOptions, progress: Progress | None = None, types: Sequence[str] = ()
) -> ReadSessions:
    """Return the sessions of at least the minimum length, before any split; types: see above."""
    log, duplicates = read_log(options, progress, types)
    sessions = sessionise(log, options.session_gap_seconds)
    counts = [count_sessions("read", sessions)]
    if options.collapse:
        sessions = collapse_repeats(sessions)
        counts.append(count_sessions("consecutive repeats collapsed", sessions))
    sessions = sessions.keep_sessions(sessions.lengths >= options.min_length)
    counts.append(count_sessions(f"sessions of at least {options.min_length} clicks", sessions))
    check_left("session", counts)
    return ReadSessions(sessions, counts, duplicates, log.skipped)


def prepare(options: ClickOptions, progress: Progress | None = None) -> Prepared:
    """Read, cut and split the sessions, then filter the training part; raise `BadInput`."""
    read = read_sessions(options, progress)
    counts = read.counts
    split = _split(options, read.sessions)
    train, rounds = filter_to_fixed_point(
        split.train, min_length=options.min_length, min_support=options.min_support
    )
    counts += [count_sessions("training part", split.train), *rounds]
    check_left("training session", counts)
    test = split.test.keep_sessions(split.test.lengths >= 2)
    counts.append(count_sessions("test part", test))
    check_left("test session", counts)
    check_known((train.counts() > 0)[test.next_clicks], len(test.next_clicks))
    return Prepared(train, test, split.valid, counts, read.duplicates, read.skipped)


def _split(options: ClickOptions, sessions: Sessions) -> Split:
    if options.split_column is not None:
        return split_by_column(sessions)
    if options.test_days is not None:
        return split_by_days(sessions, options.test_days)
    return split_by_fraction(sessions, options.test_fraction)


def check_left(what: str, counts: Sequence[SessionCounts]) -> None:
    """Raise `BadInput` where the last step has left no session."""
    if counts[-1].sessions == 0:
        steps = "; ".join(f"{c.step}: {c.sessions:,} sessions, {c.clicks:,} clicks" for c in counts)
        advice = "Loosen --min-length or --min-support, or give more clicks."
        raise BadInput(f"No {what} is left", [f"{steps}. {advice}"])


def check_known(known: NDArray[np.bool_], cases: int) -> None:
    """Raise `BadInput` where no next click of the test part is on an item of training.

    known: of the next clicks, or of their distinct items; cases: number of next clicks.
    """
    if not known.any():
        raise BadInput(
            "The test part cannot be used",
            [
                f"none of its {cases:,} next clicks is on an item of training, so "
                "nothing can be measured. Choose another split, or check that item ids are "
                "written alike in all files."
            ],
        )
