"""Reading of an events folder, without the events of deleted users.

A deletion is an entry of its own. Every entry of the user that is older is passed over here, and
removed from the files by the next compaction (`data/events/compaction.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.events.folder import HOUR_SECONDS, EventFile, EventsFolder, position_of
from recsys.errors import BadInput
from recsys.events.schemas import CLICKS, DELETIONS, IMPRESSIONS, SCHEMAS

if TYPE_CHECKING:
    import pandas as pd  # a collector has none

ATTEMPTS = 5  # a file that was listed may be removed before it is read
ERASING_COLUMNS = ("entry", "user_id")


@dataclass(frozen=True, slots=True)
class Deletions:
    """Deleted users, each with the position of the last deletion."""

    positions: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, folder: EventsFolder) -> "Deletions":
        """Read the deletions that no compaction has carried out; raise `BadInput`."""
        positions: dict[str, tuple[int, int]] = {}
        for file in folder.files(DELETIONS):
            table = read_file(file, ERASING_COLUMNS)
            for entry, user in zip(*(table[n].to_pylist() for n in ERASING_COLUMNS), strict=True):
                positions[user] = max(positions.get(user, (0, 0)), position_of(entry))
        return cls(positions)

    def concern(self, file: EventFile) -> bool:
        """Return whether the file may hold entries from before a deletion."""
        begin_ms = file.hour * HOUR_SECONDS * 1000
        return any(milliseconds >= begin_ms for milliseconds, _ in self.positions.values())

    def kept(self, rows: pa.Table | pa.RecordBatch) -> pa.BooleanArray:
        """Return whether each row stays; the rows have the columns `ERASING_COLUMNS`."""
        keep = np.ones(rows.num_rows, dtype=bool)
        users = rows["user_id"]
        named = pc.fill_null(pc.is_in(users, pa.array(self.positions, pa.string())), False)
        for at in np.flatnonzero(np.asarray(named)).tolist():
            deleted = self.positions[users[at].as_py()]
            keep[at] = position_of(rows["entry"][at].as_py()) > deleted
        return pa.array(keep)


def read_clicks(
    path: Path, since: float | None = None, until: float | None = None
) -> "pd.DataFrame":
    """Return the clicks of an events folder in the order of time; what is null is missing.

    Args:
        path: the events folder.
        since: seconds since 1970 of the first clicks.
        until: seconds since 1970 that all clicks precede.

    Raises:
        BadInput: the folder or a file of it cannot be read.
    """
    return _in_order(read_events(path, CLICKS, since, until))


def read_impressions(
    path: Path, since: float | None = None, until: float | None = None
) -> "pd.DataFrame":
    """Return the impressions of an events folder in the order of time, as `read_clicks` does."""
    return _in_order(read_events(path, IMPRESSIONS, since, until))


def read_events(
    path: Path,
    kind: str,
    since: float | None = None,
    until: float | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Return the events of a kind, in the order of hours and files; raise `BadInput`.

    columns: None for all of `SCHEMAS`.
    """
    names = list(columns or SCHEMAS[kind].names)
    schema = pa.schema([SCHEMAS[kind].field(name) for name in names])
    for attempt in range(1, ATTEMPTS + 1):
        folder = EventsFolder.open(path)
        try:
            deletions = Deletions.of(folder)
            tables = [
                _wanted_rows(file, names, deletions, since, until)
                for file in folder.files(kind, since, until)
            ]
            return pa.concat_tables([schema.empty_table(), *tables])
        except FileNotFoundError:  # a compaction is at work
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def read_file(file: EventFile, columns: Sequence[str]) -> pa.Table:
    """Return columns of a file; raise `BadInput` where it is not one of ours."""
    with open_file(file) as opened:
        return opened.read(columns=list(columns), use_threads=False)


@contextmanager
def open_file(file: EventFile) -> Iterator[pq.ParquetFile]:
    """Open a file; raise `BadInput` where it has other columns, or cannot be read within."""
    kind = file.path.parts[-4]
    try:
        with pq.ParquetFile(file.path) as opened:
            if not opened.schema_arrow.equals(SCHEMAS[kind]):
                raise BadInput(
                    f"{file.path} has other columns than {kind}",
                    ["Another program wrote it. Move it out of the folder."],
                )
            yield opened
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pa.ArrowException) as broken:
        reason = " ".join(str(broken).split()).rstrip(".")
        raise BadInput(
            f"{file.path} is no readable Parquet file",
            [f"{reason}. Restore it from a backup, or move it out of the folder."],
        ) from broken


def row_batches(file: EventFile, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield all rows of a file in batches; raise `BadInput`."""
    with open_file(file) as opened:
        yield from opened.iter_batches(batch_size=rows, use_threads=False)


def _wanted_rows(
    file: EventFile,
    names: list[str],
    deletions: Deletions,
    since: float | None,
    until: float | None,
) -> pa.Table:
    needed = dict.fromkeys([*names, *ERASING_COLUMNS, "timestamp"])
    table = read_file(file, list(needed))
    if deletions.concern(file):
        table = table.filter(deletions.kept(table))
    if since is not None:
        table = table.filter(pc.greater_equal(table["timestamp"], since))
    if until is not None:
        table = table.filter(pc.less(table["timestamp"], until))
    return table.select(names)


def _in_order(table: pa.Table) -> "pd.DataFrame":
    rows: pd.DataFrame = table.to_pandas()
    return rows.sort_values("timestamp", kind="stable", ignore_index=True)
