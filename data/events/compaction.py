"""Compaction of an events folder: deletions are carried out, old hours end, files are merged.

Each step leaves a folder that reads as before, or without the rows that had to go, so that a
process may be killed at any of them. A file that a merged one replaces stays for a while,
because a reader may have listed it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.events.folder import (
    DAY_SECONDS,
    HOUR_SECONDS,
    EventFile,
    EventsFolder,
    current,
    file_name,
)
from data.events.reading import Deletions, open_file, read_file, row_batches
from data.events.writing import COMPRESSION, entries_metadata, last_entries
from recsys.events.schemas import CLICKS, DELETIONS, IMPRESSIONS, REJECTED, SCHEMAS
from recsys.fileio import replace_file, unwritable

SETTLE_SECONDS = 120  # after its end, an hour is complete
READING_SECONDS = 3600  # for so long a replaced file stays
ROWS = 131_072  # of a row group
ERASED_KINDS = (CLICKS, IMPRESSIONS, REJECTED)


@dataclass(frozen=True, slots=True)
class Compacted:
    """Numbers of one compaction."""

    erased_rows: int = 0  # of deleted users
    merged_files: int = 0
    removed_hours: int = 0


def compact(folder: EventsFolder, now: float, keep_days: float | None = None) -> Compacted:
    """Compact a folder; only its writer may.

    Args:
        folder: the events folder.
        now: seconds since 1970.
        keep_days: events of older hours are removed; None keeps all.

    Raises:
        BadInput: a file cannot be read, written or removed.
    """
    _remove_unfinished(folder)
    removed = 0 if keep_days is None else _remove_before(folder, now - keep_days * DAY_SECONDS)
    erased = _erase(folder)
    merged = 0
    for kind in SCHEMAS:
        for hour in folder.hours(kind):
            _remove_replaced(folder.files_of_hour(kind, hour), now - READING_SECONDS)
            if (hour + 1) * HOUR_SECONDS + SETTLE_SECONDS <= now:
                merged += _merge(kind, current(folder.files_of_hour(kind, hour)))
    return Compacted(erased, merged, removed)


def _remove_unfinished(folder: EventsFolder) -> None:
    for path in folder.path.glob("*/date=*/hour=*/.*.writing"):
        _remove(path)


def _remove_before(folder: EventsFolder, oldest: float) -> int:
    """Remove the hours that end before this time, and return their number."""
    hours = [
        folder.hour_folder(kind, hour)
        for kind in SCHEMAS
        for hour in folder.hours(kind)
        if (hour + 1) * HOUR_SECONDS <= oldest
    ]
    for hour in hours:
        for path in hour.iterdir():
            if not path.is_dir():
                _remove(path)
        with suppress(OSError):  # a folder in it that is not ours, or other hours of the day, stay
            hour.rmdir()
            hour.parent.rmdir()
    return sum(not hour.exists() for hour in hours)


def _erase(folder: EventsFolder) -> int:
    """Remove the rows of deleted users from all files, and return their number."""
    carried_out = [
        file for hour in folder.hours(DELETIONS) for file in folder.files_of_hour(DELETIONS, hour)
    ]
    deletions = Deletions.of(folder)
    erased = 0
    for kind in ERASED_KINDS:
        for hour in folder.hours(kind):
            for file in folder.files_of_hour(kind, hour):
                if deletions.concern(file):
                    erased += _erase_in(file, kind, deletions)
    for file in carried_out:
        _remove(file.path)
    return erased


def _erase_in(file: EventFile, kind: str, deletions: Deletions) -> int:
    users = read_file(file, ["user_id"])["user_id"]
    if not pc.any(pc.is_in(users, pa.array(deletions.positions, pa.string()))).as_py():
        return 0
    return _rewrite(file.path, kind, [file], deletions)


def _merge(kind: str, files: Sequence[EventFile]) -> int:
    """Merge the files of an hour into one, and return their number."""
    if len(files) < 2:
        return 0
    name = file_name(files[0].first, files[-1].last)
    _rewrite(files[0].path.with_name(name), kind, files, Deletions())
    return len(files)


def _rewrite(path: Path, kind: str, files: Sequence[EventFile], deletions: Deletions) -> int:
    """Write the rows of the files to one file, and return the number of rows that were erased."""
    newest: dict[str, tuple[int, int]] = {}
    for file in files:
        with open_file(file) as opened:
            for shard, position in last_entries(opened.schema_arrow).items():
                newest[shard] = max(newest.get(shard, position), position)
    schema = SCHEMAS[kind].with_metadata(entries_metadata(newest))
    erased = 0

    def write(beside: Path) -> None:
        nonlocal erased
        with pq.ParquetWriter(beside, schema, compression=COMPRESSION) as writer:
            group: list[pa.RecordBatch] = []
            for file in files:
                for batch in row_batches(file, ROWS):
                    kept = batch.filter(deletions.kept(batch))
                    erased += batch.num_rows - kept.num_rows
                    group.append(kept)
                    if sum(each.num_rows for each in group) >= ROWS:
                        writer.write_table(pa.Table.from_batches(group).cast(schema))
                        group.clear()
            if group:
                writer.write_table(pa.Table.from_batches(group).cast(schema))

    replace_file(path, write)
    return erased


def _remove_replaced(files: Sequence[EventFile], written_before: float) -> None:
    """Remove the files that another one has replaced for long enough."""
    kept = current(files)
    for file in set(files).difference(kept):
        by = next(other for other in kept if other.last >= file.last)
        if by.path.stat().st_mtime <= written_before:
            _remove(file.path)


def _remove(path: Path) -> None:
    """Remove a file; raise `BadInput`."""
    try:
        path.unlink(missing_ok=True)
    except OSError as failed:
        raise unwritable(path, failed) from failed
