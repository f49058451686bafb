"""Exact duplicate clicks: rows of one session, item, time and event type that stand in a log twice.

A file that was concatenated with itself doubles every click, so a session's next click is often
the click before, and a model that learns to repeat looks far better than it is. The same item
clicked again at another time is no duplicate. Where the clicks of most sessions share one time,
the times are too coarse to tell a repeat from a duplicate; this is said, and nothing is removed
unless it is asked for.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.clicks import ClickLog

FEW_TIMES = 0.5  # share of sessions with one time for several items: more, and times are coarse


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Number of clicks that repeat an earlier row of the log."""

    rows: int
    clicks: int  # of the whole log, duplicates included
    coarse_times: bool = False
    by_event: bool = False  # the event type was compared, too
    dropped: bool = False

    @property
    def warning(self) -> str | None:
        """A sentence for the terminal and the report, or None without duplicates."""
        if self.rows == 0:
            return None
        same = (
            "session or user, item, time and event"
            if self.by_event
            else ("session or user, item and time")
        )
        found = (
            f"{self.rows:,} of {self.clicks:,} clicks ({self.rows / self.clicks:.1%}) are exact "
            f"duplicates of an earlier row: the same {same}."
        )
        if self.dropped:
            return f"{found} They were removed."
        if self.coarse_times:
            return (
                f"{found} Most sessions have one time for all their clicks, so these may also be "
                "real repeats. Where the file holds rows twice, --drop-duplicates removes them."
            )
        return (
            f"{found} Rows that a file holds twice distort every measured figure; "
            "--drop-duplicates removes them."
        )


def find_duplicates(log: ClickLog) -> tuple[NDArray[np.bool_], Duplicates]:
    """Mark every row that repeats an earlier one, (clicks,) bool, and count them.

    Linear in time and memory: pandas hashes two integers a row.
    """
    click = log.group.astype(np.int64) * len(log.item_ids) + log.item
    columns = {"click": click, "time": log.time_ms}
    if log.event is not None:
        columns["event"] = log.event
    repeats: NDArray[np.bool_] = pd.DataFrame(columns, copy=False).duplicated().to_numpy()
    rows = int(np.count_nonzero(repeats))
    coarse = rows > 0 and _coarse_times(log, ~repeats)
    return repeats, Duplicates(rows, len(log), coarse, by_event=log.event is not None)


def without_duplicates(
    log: ClickLog, repeats: NDArray[np.bool_], found: Duplicates
) -> tuple[ClickLog, Duplicates]:
    """The log without the marked rows; every session keeps its first row."""
    keep = ~repeats
    kept = dataclasses.replace(
        log,
        group=log.group[keep],
        item=log.item[keep],
        time_ms=log.time_ms[keep],
        split=None if log.split is None else log.split[keep],
        event=None if log.event is None else log.event[keep],
    )
    return kept, dataclasses.replace(found, dropped=True)


def _coarse_times(log: ClickLog, keep: NDArray[np.bool_]) -> bool:
    """Most sessions of several clicks have one and the same time for all of them."""
    grouped = pd.Series(log.time_ms[keep]).groupby(log.group[keep], sort=False)
    several = grouped.size() > 1
    if not several.any():
        return False
    return bool(((grouped.max() == grouped.min())[several]).mean() > FEW_TIMES)
