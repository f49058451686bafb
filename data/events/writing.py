"""Writing of batches into an events folder: each entry once, however often it is given.

A batch becomes one file for each kind and hour. Files are renamed into place after they are on the
disk. Where a batch is cut off between two files, it is given again: entries that a file holds are
passed over. An entry can only be in a file of its own hour. Most batches need no look into a file,
because their entries follow the last one of their shard, which every file states in its metadata.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.events.folder import HOUR_SECONDS, UNUSABLE, EventsFolder, file_name, position_of
from data.events.reading import open_file, read_file
from recsys.errors import BadInput
from recsys.events.schemas import SCHEMAS, Columns
from recsys.fileio import locked_folder, make_folders, replace_file

LAST_ENTRIES = b"recsys.last_entries"  # metadata of a file: JSON of shard → [ms, sequence]
COMPRESSION = "zstd"
Position = tuple[int, int]  # ms and sequence of an entry


@dataclass(frozen=True, slots=True)
class Written:
    """Numbers of one batch."""

    rows: Mapping[str, int]  # of each kind
    files: int
    repeated: int  # entries that a file held already


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lock on an events folder; raise `FolderInUse` where another process has it."""
    with locked_folder(path, FolderInUse(path)):
        yield


class FolderInUse(BadInput):
    """Events folder that another process writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            UNUSABLE, [f"another process collects into {path}. Stop it, or wait for it."]
        )


class EventsWriter:
    """Writer of an events folder; one process at a time has one (`only_writer`).

    Raises:
        BadInput: a file of the folder cannot be read.
    """

    def __init__(self, folder: EventsFolder) -> None:
        self._folder = folder
        self._last: dict[str, Position] = {}  # shard → newest entry of all files
        self._next_batch = 1
        for kind in SCHEMAS:
            for file in folder.files(kind):
                self._next_batch = max(self._next_batch, file.last + 1)
                with open_file(file) as opened:
                    _add(self._last, last_entries(opened.schema_arrow))

    def write(self, batch: Mapping[str, Columns]) -> Written:
        """Write a batch; afterwards all of its entries are on the disk.

        Args:
            batch: kind → columns of `SCHEMAS`, in the order of the entries of each shard.

        Raises:
            BadInput: a file cannot be written or read, or the folder was moved. The batch may be on
                the disk in part, and can be given again.
        """
        if EventsFolder.open(self._folder.path) != self._folder:
            raise BadInput(
                UNUSABLE, [f"{self._folder.path} is another folder now. Start the collector anew."]
            )
        rows, files, repeated = {}, 0, 0
        number, self._next_batch = self._next_batch, self._next_batch + 1
        newest: dict[str, Position] = {}
        try:
            for kind, columns in batch.items():
                table = pa.table(dict(columns), schema=SCHEMAS[kind])
                rows[kind] = 0
                for hour, part in _by_hour(table):
                    _add(newest, newest_entries(part["entry"].to_pylist()))
                    new = self._new_rows(kind, hour, part)
                    repeated += len(part) - len(new)
                    if len(new):
                        self._write_file(kind, hour, number, new)
                        rows[kind] += len(new)
                        files += 1
        finally:
            _add(self._last, newest)  # after a failure, too: some files may be in place
        return Written(rows, files, repeated)

    def _write_file(self, kind: str, hour: int, number: int, table: pa.Table) -> None:
        folder = self._folder.hour_folder(kind, hour)
        make_folders(folder)
        newest = newest_entries(table["entry"].to_pylist())
        marked = table.replace_schema_metadata(entries_metadata(newest))
        replace_file(
            folder / file_name(number, number),
            lambda beside: pq.write_table(marked, beside, compression=COMPRESSION),
        )

    def _new_rows(self, kind: str, hour: int, table: pa.Table) -> pa.Table:
        """Return the rows whose entries no file of the hour holds."""
        entries = table["entry"].to_pylist()
        oldest = {shard_of(entry): entry for entry in reversed(entries)}
        if all(position_of(e) > self._last.get(shard, (-1, 0)) for shard, e in oldest.items()):
            return table
        held: set[str] = set()
        for file in self._folder.files_of_hour(kind, hour):
            present = read_file(file, ["entry"])["entry"]
            held.update(present.filter(pc.is_in(present, table["entry"])).to_pylist())
        return table.filter(pa.array([entry not in held for entry in entries]))


def shard_of(entry: str) -> str:
    """Return the shard of an entry, as a text of two digits."""
    return entry[:2]


def last_entries(schema: pa.Schema) -> dict[str, Position]:
    """Return the newest entry of each shard that the metadata of a file states."""
    values = json.loads((schema.metadata or {}).get(LAST_ENTRIES, b"{}"))
    return {shard: (milliseconds, sequence) for shard, (milliseconds, sequence) in values.items()}


def entries_metadata(newest: Mapping[str, Position]) -> dict[bytes, bytes]:
    """Return the metadata that states the newest entry of each shard."""
    return {LAST_ENTRIES: json.dumps(newest, sort_keys=True).encode()}


def newest_entries(entries: Sequence[str]) -> dict[str, Position]:
    """Return the newest entry of each shard; the entries of a shard are in their order."""
    return {shard: position_of(e) for shard, e in {shard_of(e): e for e in entries}.items()}


def _add(newest: dict[str, Position], others: Mapping[str, Position]) -> None:
    for shard, position in others.items():
        newest[shard] = max(newest.get(shard, position), position)


def _by_hour(table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    hours = pc.cast(pc.floor(pc.divide(table["timestamp"], HOUR_SECONDS)), pa.int64())
    different = pc.unique(hours).to_pylist()
    for hour in sorted(different):
        yield hour, table if len(different) == 1 else table.filter(pc.equal(hours, hour))
