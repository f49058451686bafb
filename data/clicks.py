"""Reading of click files into a `ClickLog`: checked, coded as integers, in the order of the files.

All problems of all files are reported together, each with file, row, column and value; or so many
bad rows as an option allows are left out and listed in a file. `data/sessions.py` builds sessions.

Exact duplicates are rows with equal session, item, time and event type. In a file that was
concatenated with itself, the next click of a session is often the click before, and a model that
repeats the last item scores far too high. A click on the same item at another time is not a
duplicate. Where the clicks of most sessions share one time, times are too coarse to tell a repeated
click from a duplicate; a warning says so. Duplicates are removed only on request.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.bad_rows import NO_SKIPPED, BadClick, BrokenRows, SkippedRows, list_skipped
from data.click_options import EVENT_COLUMN, FROM_USERS, ClickOptions
from data.files import ClickFile, Progress, TextFormat, click_files, mixed_types
from data.schema import SPLITS, BadRow, as_texts, bad_ids, bad_splits, parse_times, similar_names
from recsys.errors import SHOWN_PROBLEMS, BadInput

MULTIPLIER = 6_364_136_223_846_793_005  # of Knuth's MMIX generator: mixes the bits of small numbers
MOST_PROBLEMS = 100 * SHOWN_PROBLEMS  # reading stops at more bad rows
FEW_BAD = 0.01  # share of bad rows up to which leaving them out is proposed, or of duplicates
COARSE_SHARE = 0.5  # of the sessions have one time for several clicks: times are coarse above


@dataclass(frozen=True)
class ClickLog:
    """Clicks in the order of the files; ids are codes into tuples of texts.

    group: (clicks,) int32, the session or, before sessions are cut, the user; item: (clicks,)
    int32; time_ms: (clicks,) int64; split: (clicks,) int8 into `SPLITS`, or None; event: (clicks,)
    int32 codes into `event_ids`, the event type, or None, also where only some files have it. Codes
    are numbered by first appearance.
    """

    group: NDArray[np.int32]
    item: NDArray[np.int32]
    time_ms: NDArray[np.int64]
    group_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    split: NDArray[np.int8] | None = None
    event: NDArray[np.int32] | None = None
    event_in_some: bool = False  # only some files have it
    event_ids: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()  # of the sessions' clicks; none where types do not count
    skipped: SkippedRows = NO_SKIPPED

    def __len__(self) -> int:
        return len(self.item)

    def keep_rows(self, keep: NDArray[np.bool_]) -> "ClickLog":
        """Return the log with these rows only; codes stay as they are."""
        return replace(
            self,
            group=self.group[keep],
            item=self.item[keep],
            time_ms=self.time_ms[keep],
            split=None if self.split is None else self.split[keep],
            event=None if self.event is None else self.event[keep],
        )


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
    def distorts(self) -> bool:
        """True where so many rows are there twice that figures are in doubt."""
        return self.rows > FEW_BAD * self.clicks and not self.dropped and not self.coarse_times

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


@dataclass(frozen=True)
class CheckedBatch:
    """Checked rows of one file, without those of other events; ids are still texts.

    Where bad rows may be left out, they are; else the log is refused for them.
    """

    group: pa.Array
    item: pa.Array
    time_ms: NDArray[np.int64]
    split: NDArray[np.int8] | None
    event: pa.Array | None
    events_seen: frozenset[str]  # where events are chosen
    bad: Sequence[BadClick]
    bytes_read: int  # of the file, up to here

    def keep_rows(self, keep: NDArray[np.bool_]) -> "CheckedBatch":
        """Return the batch with these rows only."""
        mask = pa.array(keep)
        return replace(
            self,
            group=self.group.filter(mask),
            item=self.item.filter(mask),
            time_ms=self.time_ms[keep],
            split=None if self.split is None else self.split[keep],
            event=None if self.event is None else self.event.filter(mask),
        )


@dataclass
class _Parts:
    """Batches read so far."""

    group: list[pa.Array] = field(default_factory=list)
    item: list[pa.Array] = field(default_factory=list)
    time_ms: list[NDArray[np.int64]] = field(default_factory=list)
    split: list[NDArray[np.int8]] = field(default_factory=list)
    event: list[pa.Array] = field(default_factory=list)

    def add(self, batch: CheckedBatch) -> None:
        self.group.append(batch.group.dictionary_encode())
        self.item.append(batch.item.dictionary_encode())
        self.time_ms.append(batch.time_ms)
        if batch.split is not None:
            self.split.append(batch.split)
        if batch.event is not None:
            self.event.append(batch.event.dictionary_encode())


@dataclass
class Findings:
    """Bad rows, events and clicks of all files so far, in the order of the files.

    allowed: number of bad rows that are left out.
    """

    allowed: int
    bad: list[BadClick] = field(default_factory=list)
    events_seen: set[str] = field(default_factory=set)
    clicks: int = 0

    def add(self, bad: Sequence[BadClick], events_seen: Iterable[str], clicks: int) -> None:
        """Add those of one batch; raise `BadInput` where there are too many bad rows."""
        self.bad += bad
        self.events_seen.update(events_seen)
        self.clicks += clicks
        if len(self.bad) > (self.allowed or MOST_PROBLEMS):
            self._refuse(to_the_end=False)

    def check(self) -> None:
        """Raise `BadInput` with the problems, if there are more bad rows than allowed."""
        if len(self.bad) > self.allowed:
            self._refuse(to_the_end=True)

    def _refuse(self, *, to_the_end: bool) -> None:
        heading, bad = "The clicks cannot be used", len(self.bad)
        if self.allowed:
            heading = f"More rows are bad than --skip-bad-rows {self.allowed} allows"
        elif to_the_end and bad <= FEW_BAD * self.clicks:
            heading += f" ({bad:,} of {self.clicks:,} are bad; --skip-bad-rows {bad} omits them)"
        raise BadInput(heading, [problem for one in self.bad for problem in one.problems()])

    def check_some(self, options: ClickOptions) -> None:
        """Raise `BadInput` where no click was read."""
        if self.clicks:
            return
        if self.events_seen:
            wanted, seen = ", ".join(options.events), ", ".join(sorted(self.events_seen)[:10])
            column = options.required_event_column
            why = f"no click has the event {wanted}; column {column!r} has: {seen}."
        else:
            why = f"{options.path} has a header but no clicks. Give a file with clicks."
        raise BadInput("There is nothing to read", [why])


@dataclass(frozen=True)
class ClickFiles:
    """Files of a log whose columns are checked, and options with the event column of all files."""

    files: Sequence[ClickFile]
    options: ClickOptions
    event_in_some: bool  # only some files have an event column

    @classmethod
    def find(cls, options: ClickOptions) -> "ClickFiles":
        """Find the files and check their columns; raise `BadInput`."""
        text = TextFormat(options.delimiter, options.encoding)
        files = click_files(options.path, text, skip_broken=options.skip_bad_rows > 0)
        _check_columns(files, options)
        event_in_some = False
        if options.required_event_column is None:
            with_event = [_has_event(file, options) for file in files]
            if all(with_event):
                options = replace(options, event_column=EVENT_COLUMN)
            event_in_some = any(with_event) and not all(with_event)
        return cls(files, options, event_in_some)


def read_clicks(options: ClickOptions, progress: Progress | None = None) -> ClickLog:
    """Return all clicks of a file or folder; raise `BadInput` with every problem."""
    found = ClickFiles.find(options)
    parts, findings = _Parts(), Findings(options.skip_bad_rows)
    read, total = 0, sum(file.found.state.bytes for file in found.files)
    for file in found.files:
        for batch in checked_batches(file, found.options):
            parts.add(batch)
            findings.add(batch.bad, batch.events_seen, len(batch.time_ms))
            if progress is not None:
                progress(read + batch.bytes_read, total)
        read += file.found.state.bytes
    findings.check()
    findings.check_some(found.options)
    skipped = list_skipped(findings.bad, options.skipped_rows)
    return replace(_build_log(parts), event_in_some=found.event_in_some, skipped=skipped)


def checked_batches(file: ClickFile, options: ClickOptions) -> Iterator[CheckedBatch]:
    """Yield the batches of a file in its order, each with its bad rows.

    Where bad rows may be left out, a last batch without clicks has those that are in no batch.

    Raises:
        BadInput: The file cannot be read, or has broken lines that may not be left out.
    """
    columns, rows, last = options.columns(), 0, 0
    allowed = options.skip_bad_rows
    broken = BrokenRows(str(file.path))
    for batch, bytes_read in file.batches(columns, broken if allowed else None):
        numbers = broken.numbers(rows, batch.num_rows)
        checked = _checked(file, options, batch, numbers, bytes_read)
        rows += batch.num_rows
        before, last = last, max(int(numbers.max(initial=0)), last)
        among = [one for one in broken.rows if before < one.row < last]
        yield replace(checked, bad=sorted([*checked.bad, *among], key=lambda one: one.row))
        if len(broken.rows) > allowed:
            break
    after = sorted((one for one in broken.rows if one.row > last), key=lambda one: one.row)
    if after:
        schema = pa.schema([(name, pa.string()) for name in columns])
        none = pa.RecordBatch.from_pylist([], schema)
        nothing = _checked(file, options, none, np.array([], dtype=np.int64), 0)
        size = file.found.state.bytes
        yield replace(nothing, bad=after[: allowed + 1], bytes_read=size)


def find_duplicates(log: ClickLog) -> tuple[NDArray[np.bool_], Duplicates]:
    """Mark every row that repeats an earlier one, (clicks,) bool, and count them."""
    repeats = mark_repeats(log)
    rows = int(np.count_nonzero(repeats))
    several, coarse = coarse_groups(log, ~repeats) if rows else (0, 0)
    duplicates = Duplicates(
        rows,
        len(log),
        are_coarse(several, coarse),
        by_event=log.event is not None,
        event_in_some=log.event_in_some,
    )
    return repeats, duplicates


def mark_repeats(log: ClickLog) -> NDArray[np.bool_]:
    """Mark every row that repeats an earlier one, (clicks,) bool.

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
    return repeats


def coarse_groups(log: ClickLog, keep: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many sessions or users have several clicks, and how many of these one time."""
    grouped = pd.Series(log.time_ms[keep]).groupby(log.group[keep], sort=False)
    several = grouped.size() > 1
    coarse = (grouped.max() == grouped.min()) & several
    return int(several.sum()), int(coarse.sum())


def are_coarse(several: int, coarse: int) -> bool:
    """Return whether most sessions of several clicks have one time for all clicks."""
    return several > 0 and coarse / several > COARSE_SHARE


def without_duplicates(
    log: ClickLog, repeats: NDArray[np.bool_], duplicates: Duplicates
) -> tuple[ClickLog, Duplicates]:
    """Return the log without the marked rows; the first of equal rows stays."""
    return log.keep_rows(~repeats), replace(duplicates, dropped=True)


def _has_event(file: ClickFile, options: ClickOptions) -> bool:
    """Return whether the file has a readable event column that no option uses otherwise."""
    return (
        EVENT_COLUMN not in options.columns()
        and file.columns().count(EVENT_COLUMN) == 1
        and file.id_kind(EVENT_COLUMN)[0] in ("text", "whole number")
    )


def _has_users_only(file: ClickFile, options: ClickOptions) -> bool:
    """Return whether the file has a column of users, but none of sessions, which is wanted."""
    present = file.columns()
    wanted = options.visitor_column
    return wanted == options.session_column not in present and options.user_column in present


def _lacks_sessions(file: ClickFile, options: ClickOptions) -> bool:
    """Return whether the file has neither the column of sessions nor one of a similar name."""
    wanted = options.session_column
    return wanted == options.visitor_column and not similar_names(wanted, file.columns())


def _check_columns(files: Sequence[ClickFile], options: ClickOptions) -> None:
    """Raise `BadInput` for a missing column, or an id or event of several types."""
    wanted = {name: options.option_of(name) for name in options.columns()}
    found = [file.check_columns(wanted) for file in files]
    problems = [problem for of_file in found for problem in of_file]
    if any(_has_users_only(file, options) for file in files):
        problems.append(
            f"there is a column {options.user_column!r}: --session-column {FROM_USERS} cuts "
            "sessions from the clicks of each user."
        )
    elif all(_lacks_sessions(file, options) for file in files):
        problems.append(
            f"without a column of sessions, --session-column {FROM_USERS} --user-column COLUMN "
            "cuts sessions from the clicks of each user."
        )
    if problems and not all(found):
        problems.append(
            f"{options.path} stands for {len(files)} files, and others of them have the columns. "
            "Give one file, or a pattern."
        )
    if not problems:
        ids = (options.visitor_column, options.item_column, options.required_event_column)
        problems = [text for name in ids if name is not None for text in mixed_types(files, name)]
    if problems:
        raise BadInput("The clicks cannot be used", problems)


def _checked(
    file: ClickFile,
    options: ClickOptions,
    batch: pa.RecordBatch,
    numbers: NDArray[np.int64],
    bytes_read: int,
) -> CheckedBatch:
    """Check the rows of one batch that have a chosen event; numbers: (rows,) in the file."""
    event_column, split_column = options.required_event_column, options.split_column
    events_seen: frozenset[str] = frozenset()
    event = split = None
    if event_column is not None:
        event = pc.fill_null(as_texts(batch[event_column]), "")
        if options.events:
            events_seen = frozenset(str(text) for text in pc.unique(event).to_pylist())
            chosen = pc.is_in(event, pa.array(options.events))
            batch, event = batch.filter(chosen), event.filter(chosen)
            numbers = numbers[chosen.to_numpy(zero_copy_only=False)]
    group_column, item_column = options.visitor_column, options.item_column
    group, item = as_texts(batch[group_column]), as_texts(batch[item_column])
    times = batch[options.time_column]
    time_ms, problems = parse_times(options.time_column, times, 0, options.time_format)
    problems += bad_ids(group_column, group, 0) + bad_ids(item_column, item, 0)
    if split_column is not None:
        labels = as_texts(batch[split_column])
        problems += bad_splits(split_column, labels, 0)
        codes = pc.fill_null(pc.index_in(labels, pa.array(SPLITS)), 0)
        split = codes.to_numpy(zero_copy_only=False).astype(np.int8)
    checked = CheckedBatch(
        group=group,
        item=item,
        time_ms=time_ms,
        split=split,
        event=event,
        events_seen=events_seen,
        bad=_bad_clicks(file, batch, numbers, problems),
        bytes_read=bytes_read,
    )
    if not problems or not options.skip_bad_rows:
        return checked
    good = np.ones(len(time_ms), dtype=bool)
    good[[problem.row for problem in problems]] = False
    return checked.keep_rows(good)


def _bad_clicks(
    file: ClickFile, batch: pa.RecordBatch, numbers: NDArray[np.int64], problems: Sequence[BadRow]
) -> list[BadClick]:
    """Return the bad rows of a batch in order; the problems have their places in it."""
    reasons: dict[int, list[str]] = {}
    for problem in sorted(problems, key=lambda problem: problem.row):
        reasons.setdefault(problem.row, []).append(problem.problem)
    return [
        BadClick(
            str(file.path),
            int(numbers[at]),
            why,
            json.dumps({n: batch[n][at].as_py() for n in batch.schema.names}, default=str),
        )
        for at, why in reasons.items()
    ]


def _build_log(parts: _Parts) -> ClickLog:
    group, group_ids = _coded(parts.group)
    item, item_ids = _coded(parts.item)
    event, event_ids = _coded(parts.event) if parts.event else (None, ())
    return ClickLog(
        group=group,
        item=item,
        time_ms=np.concatenate(parts.time_ms),
        group_ids=group_ids,
        item_ids=item_ids,
        split=np.concatenate(parts.split) if parts.split else None,
        event=event,
        event_ids=event_ids,
    )


def _coded(chunks: list[pa.Array]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return the texts of all batches as codes and distinct texts, by first appearance."""
    whole = pa.chunked_array(chunks).unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # pyarrow keeps a single chunk chunked
        whole = whole.chunk(0)
    return whole.indices.to_numpy().astype(np.int32), tuple(whole.dictionary.to_pylist())
