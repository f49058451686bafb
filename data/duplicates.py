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

from data.click_options import EVENT_COLUMN
from data.clicks import ClickLog

MULTIPLIER = 6_364_136_223_846_793_005  # of Knuth's MMIX generator: spreads small differences
FEW_TIMES = 0.5  # share of sessions with one time for several items: more, and times are coarse


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Number of clicks that repeat an earlier row of the log."""

    rows: int
    clicks: int  # of the whole log, duplicates included
    coarse_times: bool = False
    by_event: bool = False  # the event type was compared, too
    event_in_some: bool = False  # it was not, because only some files have it
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
        if self.event_in_some:
            found += f" Event types are not compared: only some files have {EVENT_COLUMN!r}."
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

    Linear in time and memory. One integer a row is hashed first, and whole rows are compared only
    where these integers are equal, as they are for duplicates and, by chance, for a few others.
    """
    columns: dict[str, NDArray[np.integer]] = {
        "group": log.group,
        "item": log.item,
        "time": log.time_ms,
    }
    if log.event is not None:
        columns["event"] = log.event
    mixed = np.zeros(len(log), dtype=np.int64)
    for column in columns.values():
        mixed = mixed * MULTIPLIER + column  # modulo 2^64
    alike = np.flatnonzero(pd.Series(mixed, copy=False).duplicated(keep=False).to_numpy())
    del mixed
    rows_alike = pd.DataFrame({name: column[alike] for name, column in columns.items()})
    repeats = np.zeros(len(log), dtype=bool)
    repeats[alike] = rows_alike.duplicated().to_numpy()
    rows = int(np.count_nonzero(repeats))
    coarse = rows > 0 and _coarse_times(log, ~repeats)
    found = Duplicates(
        rows,
        len(log),
        coarse,
        by_event=log.event is not None,
        event_in_some=log.event_in_some,
    )
    return repeats, found


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
