"""Third stage: sessions are ordered by start time and first row, in shards that follow each other.

The keys of sampled sessions divide the log into ranges of about equal numbers of clicks. Dask moves
the clicks of each range into one partition, which becomes one shard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.distributed.cutting import CutLog
from data.distributed.runner import Runner
from data.files import Progress
from data.prepared.arrays import PartSize, open_sessions, write_array, write_sessions
from data.sessions import Sessions

LABELS = "labels.i8"  # of the sessions of a shard, where a column splits the log


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive sessions in files of a folder, whose names begin with the shard's."""

    folder: Path
    name: str
    size: PartSize

    @classmethod
    def write(cls, folder: Path, name: str, sessions: Sessions) -> "Shard":
        """Write sessions, with their split labels if they have any."""
        size = write_sessions(folder, name, sessions)
        if sessions.split is not None:
            write_array(folder / f"{name}.{LABELS}", sessions.split)
        return cls(folder, name, size)

    def recorded(self) -> tuple[str, int, int, bool]:
        """Return the values that `of` takes, besides the folder."""
        return (self.name, self.size.sessions, self.size.clicks, self.size.events)

    @classmethod
    def of(cls, recorded: tuple[str, int, int, bool], folder: Path) -> "Shard":
        """Return the shard whose values were recorded."""
        name, sessions, clicks, events = recorded
        return cls(folder, name, PartSize(sessions, clicks, events))

    def open(self) -> Sessions:
        """Return the sessions, whose items have no ids."""
        return open_sessions(self.folder, self.name, self.size, ())

    def labels(self) -> NDArray[np.int8]:
        return np.fromfile(self.folder / f"{self.name}.{LABELS}", dtype=np.int8)


@dataclass(frozen=True)
class OrderedShard:
    """A shard of the ordered log, with the times of its first and its last click."""

    number: int
    shard: Shard
    first_ms: int
    last_ms: int


@dataclass(frozen=True)
class OrderedLog:
    """Shards of the log in order."""

    shards: Sequence[OrderedShard]

    def values(self) -> Mapping[str, Any]:
        """Return the result as values of JSON."""
        shards = [(s.number, s.shard.recorded(), s.first_ms, s.last_ms) for s in self.shards]
        return {"shards": shards}

    @classmethod
    def of(cls, values: Mapping[str, Any], folder: Path) -> "OrderedLog":
        """Return the result whose values were recorded."""
        return cls(
            [
                OrderedShard(number, Shard.of(shard, folder), first_ms, last_ms)
                for number, shard, first_ms, last_ms in values["shards"]
            ]
        )


@dataclass(frozen=True)
class Bounds:
    """Keys at which ranges begin, but for the first: two (bounds,) int64 arrays."""

    starts: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def between(cls, cut: CutLog, ranges: int) -> "Bounds":
        """Return at most `ranges` - 1 bounds, from the samples of all partitions."""
        starts = np.array(cut.sample_starts, dtype=np.int64)
        rows = np.array(cut.sample_rows, dtype=np.int64)
        order = np.lexsort((rows, starts))
        at = np.unique(np.arange(1, ranges) * len(order) // ranges)
        chosen = order[at[at > 0]]
        return cls(starts[chosen], rows[chosen])

    def ranges_of(self, starts: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the number of the range of each key."""
        is_key = np.arange(len(self.starts) + len(starts)) >= len(self.starts)
        both_starts = np.concatenate([self.starts, starts])
        both_rows = np.concatenate([self.rows, rows])
        order = np.lexsort((is_key, both_rows, both_starts))  # a bound comes before its own key
        passed = np.empty(len(order), dtype=np.int32)
        passed[order] = np.cumsum(~is_key[order])
        return passed[len(self.starts) :]

    def __len__(self) -> int:
        return len(self.starts)


def order_sessions(
    cut: CutLog,
    ranges: int,
    folder: Path,
    runner: Runner,
    progress: Progress,
) -> OrderedLog:
    """Write the sessions in order, in shards."""
    import dask.dataframe as dd
    from dask import delayed

    bounds = Bounds.between(cut, ranges)
    paths = [cut.folder / name for name in cut.names]
    frame = dd.from_map(read_cut, paths, bounds=bounds, meta=read_cut(paths[0], bounds).iloc[:0])
    ordered = frame.set_index(
        "range",
        divisions=list(range(len(bounds) + 2)),
        shuffle_method=runner.shuffle_method,
    )
    write = delayed(write_shard, pure=False)
    tasks = [write(rows, n, folder) for n, rows in enumerate(ordered.to_delayed())]
    shards = [shard for shard in runner.run(tasks, progress) if shard is not None]
    return OrderedLog(sorted(shards, key=lambda shard: shard.number))


def read_cut(path: Path, bounds: Bounds) -> pd.DataFrame:
    """Return the clicks of a partition, each with the range of its session."""
    table = pq.read_table(path, use_threads=False)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    ranges = bounds.ranges_of(columns["start_ms"], columns["first_row"])
    return pd.DataFrame({"range": ranges, **columns})


def write_shard(rows: pd.DataFrame, number: int, folder: Path) -> OrderedShard | None:
    """Write the sessions of one range in order; a range may be empty."""
    if len(rows) == 0:
        return None
    columns = {str(name): rows[name].to_numpy() for name in rows.columns}
    order = np.lexsort((columns["place"], columns["first_row"], columns["start_ms"]))
    first_row = columns["first_row"][order]
    begins = np.flatnonzero(np.diff(first_row, prepend=first_row[0] - 1))
    time_ms = columns["time_ms"][order]
    sessions = Sessions(
        items=columns["item"][order],
        time_ms=time_ms,
        offsets=np.append(begins, len(order)).astype(np.int64),
        item_ids=(),
        split=columns["split"][order[begins]] if "split" in columns else None,
        events=columns["event"][order] if "event" in columns else None,
    )
    shard = Shard.write(folder, f"{number:06}", sessions)
    return OrderedShard(number, shard, int(time_ms.min()), int(time_ms.max()))
