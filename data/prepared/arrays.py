"""Sessions as array files: little-endian numbers without a header, opened as memory maps.

A part of the log named `train` has the files `train.items.i32`, `train.offsets.i64` and
`train.times.i64`, three arrays of `data.sessions.Sessions`, and where types count
`train.events.i8`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.schema import SPLITS
from data.sessions import Sessions

TYPES: Mapping[str, np.dtype[Any]] = {
    "events.i8": np.dtype("i1"),
    "items.i32": np.dtype("<i4"),
    "offsets.i64": np.dtype("<i8"),
    "times.i64": np.dtype("<i8"),
}


@dataclass(frozen=True, slots=True)
class PartSize:
    """Numbers of sessions and clicks of one part; they give the sizes of its files."""

    sessions: int
    clicks: int
    events: bool = False  # each click has the number of its type

    def lengths(self) -> dict[str, int]:
        """Return array → number of its elements."""
        events = {"events.i8": self.clicks} if self.events else {}
        return {
            **events,
            "items.i32": self.clicks,
            "offsets.i64": self.sessions + 1,
            "times.i64": self.clicks,
        }

    def file_sizes(self, part: str) -> dict[str, int]:
        """Return file → bytes."""
        return {
            f"{part}.{name}": count * TYPES[name].itemsize for name, count in self.lengths().items()
        }


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write the numbers; unlike that of numpy's `tofile`, the error of a full disk says so."""
    path.write_bytes(np.ascontiguousarray(array).data)


def write_sessions(folder: Path, part: str, sessions: Sessions) -> PartSize:
    """Write the arrays of one part; split labels are left out, and so are item ids."""
    arrays: dict[str, NDArray[Any]] = {
        "items.i32": sessions.items,
        "offsets.i64": sessions.offsets,
        "times.i64": sessions.time_ms,
    }
    if sessions.events is not None:
        arrays["events.i8"] = sessions.events
    for name, array in arrays.items():
        write_array(folder / f"{part}.{name}", array.astype(TYPES[name], copy=False))
    return PartSize(len(sessions), len(sessions.items), sessions.events is not None)


def open_sessions(
    folder: Path,
    part: str,
    size: PartSize,
    item_ids: tuple[str, ...],
    event_types: tuple[str, ...] = (),
    *,
    labelled: bool = False,
) -> Sessions:
    """Return one part as read-only memory maps.

    labelled: a column split the log, so that each session has the label of its part.
    """
    arrays = {
        name: _mapped(folder / f"{part}.{name}", TYPES[name], count)
        for name, count in size.lengths().items()
    }
    labels = np.broadcast_to(np.int8(SPLITS.index(part)), size.sessions) if labelled else None
    return Sessions(
        items=arrays["items.i32"],
        time_ms=arrays["times.i64"],
        offsets=arrays["offsets.i64"],
        item_ids=item_ids,
        split=labels,
        events=arrays.get("events.i8"),
        event_types=event_types,
    )


def _mapped(path: Path, kind: np.dtype[Any], count: int) -> NDArray[Any]:
    """Return the array of a file; an empty file, which no system maps, is an empty array."""
    if count == 0:
        return np.empty(0, dtype=kind)
    return np.asarray(np.memmap(path, dtype=kind, mode="r", shape=(count,)))
