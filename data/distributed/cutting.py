"""Second stage: rows meet by session or user, and each partition is cut into sessions.

Dask shuffles the rows by the text of their session or user. In a partition, the functions of the
in-memory path drop duplicates, cut, collapse and filter; the counts of all partitions are added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.click_options import ClickOptions
from data.clicks import ClickLog, Duplicates, are_coarse, coarse_groups, mark_repeats
from data.distributed.reading import ReadLog, empty_frame, read_part
from data.distributed.runner import Runner
from data.files import Progress
from data.sessions import (
    MOST_DIVIDED,
    SessionCounts,
    Sessions,
    collapse_repeats,
    divided_sessions,
    refuse_divided,
    sessionise_with_rows,
)

CLICKS_PER_SAMPLE = 5_000  # every so many clicks a session is sampled, to place the ranges


@dataclass(frozen=True)
class CutPartition:
    """Counts of one partition, and a sample of its sessions.

    steps: sessions and clicks after each step; items: (items,) int32 distinct codes after the
    last; divided: row, place and id of sessions with several labels; sample_starts, sample_rows:
    (samples,) int64 keys of sampled sessions.
    """

    name: str | None  # of its file; None where no session is left
    repeats: int = 0
    several: int = 0
    coarse: int = 0
    steps: Sequence[tuple[int, int]] = ()
    items: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    divided: Sequence[tuple[int, int, str]] = ()
    sample_starts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    sample_rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class CutLog:
    """Sessions of the log in no order, with counts and duplicates as in the in-memory path.

    names: of the files in the folder; sample_starts, sample_rows: (samples,) keys of sessions.
    """

    folder: Path
    names: Sequence[str]
    sample_starts: Sequence[int]
    sample_rows: Sequence[int]
    counts: Sequence[SessionCounts]
    duplicates: Duplicates

    def values(self) -> Mapping[str, Any]:
        """Return the result as values of JSON."""
        return {**asdict(replace(self, folder=Path())), "folder": None}

    @classmethod
    def of(cls, values: Mapping[str, Any], folder: Path) -> "CutLog":
        """Return the result whose values were recorded."""
        counts = [SessionCounts(**count) for count in values["counts"]]
        duplicates = Duplicates(**values["duplicates"])
        return cls(**{**values, "folder": folder, "counts": counts, "duplicates": duplicates})


@dataclass
class _Sums:
    """Counts of all partitions so far; memory grows with the items of the log alone."""

    left: NDArray[np.bool_]  # (items,) whether an item is in a session of the minimum length
    steps: NDArray[np.int64]  # (steps, 2) sessions and clicks
    names: list[str] = field(default_factory=list)
    repeats: int = 0
    several: int = 0
    coarse: int = 0
    divided: list[tuple[int, int, str]] = field(default_factory=list)
    sample_starts: list[int] = field(default_factory=list)
    sample_rows: list[int] = field(default_factory=list)

    def add(self, partition: CutPartition) -> None:
        self.left[partition.items] = True
        if partition.steps:
            self.steps += np.array(partition.steps)
        if partition.name is not None:
            self.names.append(partition.name)
        self.repeats += partition.repeats
        self.several += partition.several
        self.coarse += partition.coarse
        self.divided = sorted([*self.divided, *partition.divided])[:MOST_DIVIDED]
        self.sample_starts += partition.sample_starts.tolist()
        self.sample_rows += partition.sample_rows.tolist()

    def counts(self, names: Sequence[str]) -> list[SessionCounts]:
        """Return the counts by step; no item is lost before short sessions are dropped."""
        items = [len(self.left)] * (len(names) - 1) + [int(self.left.sum())]
        return [
            SessionCounts(name, sessions, clicks, left)
            for name, (sessions, clicks), left in zip(
                names, self.steps.tolist(), items, strict=True
            )
        ]


def cut_log(
    log: ReadLog,
    options: ClickOptions,
    event_in_some: bool,
    event_types: tuple[str, ...],
    folder: Path,
    rows_per_partition: int,
    runner: Runner,
    progress: Progress,
) -> CutLog:
    """Cut the log into sessions of at least the minimum length.

    event_types: Those that count.

    Raises:
        BadInput: The split column divides sessions.
    """
    import dask.dataframe as dd
    from dask import delayed

    frame = dd.from_map(read_part, log.parts, folder=log.folder, meta=empty_frame(log))
    shuffled = frame.shuffle(
        "group",
        npartitions=-(-log.rows // rows_per_partition),
        shuffle_method=runner.shuffle_method,
    )
    cut = delayed(cut_partition, pure=False)
    steps = ["read"]
    if options.collapse:
        steps.append("consecutive repeats collapsed")
    steps.append(f"sessions of at least {options.min_length} clicks")
    sums = _Sums(np.zeros(log.items, dtype=bool), np.zeros((len(steps), 2), dtype=np.int64))
    events = (tuple(log.event_ids), event_types) if event_types else ((), ())
    tasks = [
        cut(rows, options, folder / f"{number:06}.parquet", *events)
        for number, rows in enumerate(shuffled.to_delayed())
    ]
    for partition in runner.run(tasks, progress):
        sums.add(partition)
    refuse_divided([group for _, _, group in sums.divided])
    duplicates = Duplicates(
        sums.repeats,
        log.rows,
        are_coarse(sums.several, sums.coarse) if sums.repeats else False,
        by_event=log.has_event,
        event_in_some=event_in_some,
        dropped=options.drop_duplicates and sums.repeats > 0,
    )
    return CutLog(
        folder,
        sorted(sums.names),
        sums.sample_starts,
        sums.sample_rows,
        sums.counts(steps),
        duplicates,
    )


def cut_partition(
    rows: pd.DataFrame,
    options: ClickOptions,
    path: Path,
    event_ids: tuple[str, ...],
    event_types: tuple[str, ...],
) -> CutPartition:
    """Cut the rows of some sessions or users into sessions, and write these."""
    if len(rows) == 0:
        return CutPartition(None)
    log, row_of = _log_of(rows)
    log = replace(log, event_ids=event_ids, event_types=event_types)
    repeats = mark_repeats(log)
    found = int(np.count_nonzero(repeats))
    several, coarse = coarse_groups(log, ~repeats)
    if options.drop_duplicates and found:
        log, row_of = log.keep_rows(~repeats), row_of[~repeats]
    divided = divided_sessions(log, options.session_gap_seconds)
    if divided:
        return CutPartition(None, divided=_named(log, row_of, divided))
    sessions, first = sessionise_with_rows(log, options.session_gap_seconds)
    first_rows = row_of[first]
    steps = [(len(sessions), len(sessions.items))]
    if options.collapse:
        sessions = collapse_repeats(sessions)
        steps.append((len(sessions), len(sessions.items)))
    long = sessions.lengths >= options.min_length
    sessions, first_rows = sessions.keep_sessions(long), first_rows[long]
    steps.append((len(sessions), len(sessions.items)))
    sampled = _sample(sessions)
    if len(sessions):
        _write(sessions, first_rows, path)
    return CutPartition(
        name=path.name if len(sessions) else None,
        repeats=found,
        several=several,
        coarse=coarse,
        steps=steps,
        items=np.unique(sessions.items),
        sample_starts=sessions.starts_ms[sampled],
        sample_rows=first_rows[sampled],
    )


def _log_of(rows: pd.DataFrame) -> tuple[ClickLog, NDArray[np.int64]]:
    """Return the rows, in the order of the files, as a log, and the row of each of its clicks."""
    rows = rows.sort_values("row")
    codes, ids = pd.factorize(rows["group"])
    log = ClickLog(
        group=codes.astype(np.int32),
        item=rows["item"].to_numpy(),
        time_ms=rows["time_ms"].to_numpy(),
        group_ids=tuple(ids) if "split" in rows else (),  # named where a session is divided
        item_ids=(),
        split=rows["split"].to_numpy() if "split" in rows else None,
        event=rows["event"].to_numpy() if "event" in rows else None,
    )
    return log, rows["row"].to_numpy()


def _named(
    log: ClickLog, row_of: NDArray[np.int64], divided: Sequence[int]
) -> list[tuple[int, int, str]]:
    """Return divided sessions as (first row of the group, place in it, id), which orders them."""
    groups, first = np.unique(log.group, return_index=True)
    first_of = dict(zip(groups.tolist(), row_of[first].tolist(), strict=True))
    codes = [int(log.group[row]) for row in divided]
    return [(first_of[code], at, log.group_ids[code]) for at, code in enumerate(codes)]


def _sample(sessions: Sessions) -> NDArray[np.int64]:
    """Return some sessions, each for about the same number of clicks."""
    places = np.arange(0, len(sessions.items), CLICKS_PER_SAMPLE)
    return np.unique(np.searchsorted(sessions.offsets, places, side="right") - 1)


def _write(sessions: Sessions, first_rows: NDArray[np.int64], path: Path) -> None:
    lengths = sessions.lengths
    columns: dict[str, NDArray[np.generic]] = {
        "start_ms": np.repeat(sessions.starts_ms, lengths),
        "first_row": np.repeat(first_rows, lengths),
        "place": (
            np.arange(len(sessions.items)) - np.repeat(sessions.offsets[:-1], lengths)
        ).astype(np.int32),
        "time_ms": sessions.time_ms,
        "item": sessions.items,
    }
    if sessions.split is not None:
        columns["split"] = np.repeat(sessions.split, lengths)
    if sessions.events is not None:
        columns["event"] = sessions.events
    pq.write_table(pa.table(columns), path)
