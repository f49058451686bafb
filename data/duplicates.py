"""Exact duplicate clicks: rows with equal session, item, time and event type.

In a file that was concatenated with itself, the next click of a session is often the click before,
and a model that repeats the last item scores far too high. A click on the same item at another time
is not a duplicate. Where the clicks of most sessions share one time, times are too coarse to tell a
repeated click from a duplicate; a warning says so. Duplicates are removed only on request.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.click_options import EVENT_COLUMN
from data.clicks import ClickLog

MULTIPLIER = 6_364_136_223_846_793_005  # of Knuth's MMIX generator: mixes the bits of small numbers
COARSE_SHARE = 0.5  # of the sessions have one time for several clicks: times are coarse above


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Number of clicks that repeat an earlier row of the log."""

    rows: int
    clicks: int  # of the whole log, duplicates included
    coarse_times: bool = False
    by_event: bool = False  # event types were compared
    event_in_some: bool = False  # event types were not compared, because only some files have them
    dropped: bool = False

    @property
    def warning(self) -> str | None:
        """Sentence for the terminal and the report, or None without duplicates."""
        if self.rows == 0:
            return None
        same = (
            "session or user, item, time and event"
            if self.by_event
            else ("session or user, item and time")
        )
        message = (
            f"{self.rows:,} of {self.clicks:,} clicks ({self.rows / self.clicks:.1%}) are exact "
            f"duplicates of an earlier row: the same {same}."
        )
        if self.event_in_some:
            message += f" Event types are not compared: only some files have {EVENT_COLUMN!r}."
        if self.dropped:
            return f"{message} They were removed."
        if self.coarse_times:
            return (
                f"{message} Most sessions have one time for all their clicks, so these may also be "
                "real repeats. Where the file holds rows twice, --drop-duplicates removes them."
            )
        return (
            f"{message} Rows that a file holds twice distort every measured figure; "
            "--drop-duplicates removes them."
        )


def find_duplicates(log: ClickLog) -> tuple[NDArray[np.bool_], Duplicates]:
    """Mark every row that repeats an earlier one, (clicks,) bool, and count them.

    Time and memory are linear. Each row is first reduced to one integer; whole rows are compared
    only where these integers are equal.
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
    duplicates = Duplicates(
        rows, len(log), coarse, by_event=log.event is not None, event_in_some=log.event_in_some
    )
    return repeats, duplicates


def without_duplicates(
    log: ClickLog, repeats: NDArray[np.bool_], duplicates: Duplicates
) -> tuple[ClickLog, Duplicates]:
    """Return the log without the marked rows; the first of equal rows stays."""
    keep = ~repeats
    kept = dataclasses.replace(
        log,
        group=log.group[keep],
        item=log.item[keep],
        time_ms=log.time_ms[keep],
        split=None if log.split is None else log.split[keep],
        event=None if log.event is None else log.event[keep],
    )
    return kept, dataclasses.replace(duplicates, dropped=True)


def _coarse_times(log: ClickLog, keep: NDArray[np.bool_]) -> bool:
    """Return whether most sessions of several clicks have one time for all clicks."""
    grouped = pd.Series(log.time_ms[keep]).groupby(log.group[keep], sort=False)
    several = grouped.size() > 1
    if not several.any():
        return False
    return bool(((grouped.max() == grouped.min())[several]).mean() > COARSE_SHARE)
