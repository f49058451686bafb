"""Reading of click files into a `ClickLog`: checked, coded as integers, in the order of the files.

All problems of all files are reported together, each with file, row, column and value.
`data/sessions.py` builds sessions.

Exact duplicates are rows with equal session, item, time and event type. In a file that was
concatenated with itself, the next click of a session is often the click before, and a model that
repeats the last item scores far too high. A click on the same item at another time is not a
duplicate. Where the clicks of most sessions share one time, times are too coarse to tell a repeated
click from a duplicate; a warning says so. Duplicates are removed only on request.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.click_options import EVENT_COLUMN, ClickOptions
from data.files import ClickFile, Progress, click_files, mixed_types
from data.schema import SPLITS, as_texts, bad_ids, bad_splits, parse_times
from recsys.errors import SHOWN_PROBLEMS, BadInput

MULTIPLIER = 6_364_136_223_846_793_005  # of Knuth's MMIX generator: mixes the bits of small numbers
COARSE_SHARE = 0.5  # of the sessions have one time for several clicks: times are coarse above


@dataclass(frozen=True)
class ClickLog:
    """Clicks in the order of the files; ids are codes into tuples of texts.

    group: (clicks,) int32, the session or, before sessions are cut, the user; item: (clicks,)
    int32; time_ms: (clicks,) int64; split: (clicks,) int8 into `SPLITS`, or None; event: (clicks,)
    int32, the event type, or None, also where only some files have it. Codes are numbered by first
    appearance.
    """

    group: NDArray[np.int32]
    item: NDArray[np.int32]
    time_ms: NDArray[np.int64]
    group_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    split: NDArray[np.int8] | None = None
    event: NDArray[np.int32] | None = None
    event_in_some: bool = False  # only some files have it

    def __len__(self) -> int:
        return len(self.item)


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


@dataclass
class _Parts:
    """Batches read so far."""

    group: list[pa.Array] = field(default_factory=list)
    item: list[pa.Array] = field(default_factory=list)
    time_ms: list[NDArray[np.int64]] = field(default_factory=list)
    split: list[NDArray[np.int8]] = field(default_factory=list)
    event: list[pa.Array] = field(default_factory=list)
    events_seen: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def read_clicks(options: ClickOptions, progress: Progress | None = None) -> ClickLog:
    """Return all clicks of a file or folder; raise `BadInput` with every problem."""
    files = click_files(options.path, options.delimiter)
    _check_columns(files, options)
    event_in_some = False
    if options.required_event_column is None:
        with_event = [_has_event(file, options) for file in files]
        if all(with_event):
            options = replace(options, event_column=EVENT_COLUMN)
        event_in_some = any(with_event) and not all(with_event)
    parts, read, total = _Parts(), 0, sum(file.path.stat().st_size for file in files)
    for file in files:
        row = 1
        for batch, done in file.batches(options.columns()):
            _add_batch(parts, file, options, batch, row)
            row += batch.num_rows
            if progress is not None:
                progress(read + done, total)
        read += file.path.stat().st_size
    if parts.problems:
        raise BadInput("The clicks cannot be used", parts.problems)
    return replace(_build_log(parts, options), event_in_some=event_in_some)


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
    kept = replace(
        log,
        group=log.group[keep],
        item=log.item[keep],
        time_ms=log.time_ms[keep],
        split=None if log.split is None else log.split[keep],
        event=None if log.event is None else log.event[keep],
    )
    return kept, replace(duplicates, dropped=True)


def _has_event(file: ClickFile, options: ClickOptions) -> bool:
    """Return whether the file has a readable event column that no option uses otherwise."""
    return (
        EVENT_COLUMN not in options.columns()
        and file.columns().count(EVENT_COLUMN) == 1
        and file.id_kind(EVENT_COLUMN)[0] in ("text", "whole number")
    )


def _check_columns(files: Sequence[ClickFile], options: ClickOptions) -> None:
    """Raise `BadInput` for a missing column, or an id or event of several types."""
    wanted = {name: options.option_of(name) for name in options.columns()}
    problems = [problem for file in files for problem in file.check_columns(wanted)]
    if not problems:
        ids = (options.visitor_column, options.item_column, options.required_event_column)
        problems = [text for name in ids if name is not None for text in mixed_types(files, name)]
    if problems:
        raise BadInput("The clicks cannot be used", problems)


def _add_batch(
    parts: _Parts, file: ClickFile, options: ClickOptions, batch: pa.RecordBatch, row: int
) -> None:
    """Check one batch and keep its rows, or its problems."""
    group_column, item_column = options.visitor_column, options.item_column
    event_column, split_column = options.required_event_column, options.split_column
    group, item = as_texts(batch[group_column]), as_texts(batch[item_column])
    time_ms, problems = parse_times(options.time_column, batch[options.time_column], row)
    problems += bad_ids(group_column, group, row) + bad_ids(item_column, item, row)
    keep = np.ones(batch.num_rows, dtype=bool)
    if event_column is not None:
        seen = pc.fill_null(as_texts(batch[event_column]), "")
        if options.events:
            parts.events_seen.update(str(text) for text in pc.unique(seen).to_pylist())
            keep = pc.is_in(seen, pa.array(options.events)).to_numpy(zero_copy_only=False)
        parts.event.append(seen.filter(pa.array(keep)).dictionary_encode())
    if split_column is not None:
        split = as_texts(batch[split_column])
        problems += bad_splits(split_column, split, row)
        codes = pc.fill_null(pc.index_in(split, pa.array(SPLITS)), 0)
        parts.split.append(codes.to_numpy(zero_copy_only=False).astype(np.int8)[keep])
    problems.sort(key=lambda problem: problem.row)
    parts.problems += [f"{file.path}: {problem}" for problem in problems]
    if len(parts.problems) > 100 * SHOWN_PROBLEMS:
        raise BadInput("The clicks cannot be used", parts.problems)
    parts.group.append(group.filter(pa.array(keep)).dictionary_encode())
    parts.item.append(item.filter(pa.array(keep)).dictionary_encode())
    parts.time_ms.append(time_ms[keep])


def _build_log(parts: _Parts, options: ClickOptions) -> ClickLog:
    if sum(len(times) for times in parts.time_ms) == 0:
        if parts.events_seen:
            wanted, seen = ", ".join(options.events), ", ".join(sorted(parts.events_seen)[:10])
            column = options.required_event_column
            why = f"no click has the event {wanted}; column {column!r} has: {seen}."
        else:
            why = f"{options.path} has a header but no clicks. Give a file with clicks."
        raise BadInput("There is nothing to read", [why])
    group, group_ids = _coded(parts.group)
    item, item_ids = _coded(parts.item)
    return ClickLog(
        group=group,
        item=item,
        time_ms=np.concatenate(parts.time_ms),
        group_ids=group_ids,
        item_ids=item_ids,
        split=np.concatenate(parts.split) if parts.split else None,
        event=_coded(parts.event)[0] if parts.event else None,
    )


def _coded(chunks: list[pa.Array]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return the texts of all batches as codes and distinct texts, by first appearance."""
    whole = pa.chunked_array(chunks).unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # pyarrow keeps a single chunk chunked
        whole = whole.chunk(0)
    return whole.indices.to_numpy().astype(np.int32), tuple(whole.dictionary.to_pylist())


def _coarse_times(log: ClickLog, keep: NDArray[np.bool_]) -> bool:
    """Return whether most sessions of several clicks have one time for all clicks."""
    grouped = pd.Series(log.time_ms[keep]).groupby(log.group[keep], sort=False)
    several = grouped.size() > 1
    if not several.any():
        return False
    return bool(((grouped.max() == grouped.min())[several]).mean() > COARSE_SHARE)
