"""First stage: click files become parts, Parquet files of bounded size, with checked rows.

A task reads one file, or one range of a large file. A file with bad rows is read again by one task,
from its beginning to its end, so that rows and lines are counted, and bad rows are named or left
out, as in the in-memory path. Items and events are numbered within a part; the numbers of the whole
log, by first appearance, come from the distinct texts of all parts in their order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.bad_rows import NO_SKIPPED, BadClick, SkippedRows, list_skipped
from data.click_options import ClickOptions
from data.clicks import MOST_PROBLEMS, CheckedBatch, ClickFiles, Findings, checked_batches
from data.distributed.ranges import BlockSizes, FileRange, ranges_of
from data.distributed.runner import Runner
from data.files import ClickFile, Progress
from data.prepared.arrays import write_array
from data.prepared.folder import write_catalogue
from recsys.errors import BadInput

ROWS_OF_A_FILE = 40  # bits: a row of the log is the number of its file, then its place in the file
CODED = ("item", "event")  # columns whose texts are numbered


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of one file or range; `name` begins the names of its files."""

    name: str
    first_row: int
    rows: int


@dataclass(frozen=True)
class FileResult:
    """Parts of one file or range, with the arguments of `Findings.add` for each batch.

    number: of the file, and of the range in it; refusal: what cannot be read beyond the findings.
    """

    number: tuple[int, int]
    parts: Sequence[Part]
    findings: Sequence[tuple[Sequence[BadClick], frozenset[str], int]]
    refusal: BadInput | None

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def has_bad_rows(self) -> bool:
        return self.refusal is not None or any(bad for bad, _, _ in self.findings)


@dataclass(frozen=True)
class ReadLog:
    """Parts of all files in the order of the log; codes count the distinct texts of each column."""

    folder: Path
    parts: Sequence[Part]
    items: int  # different ones
    rows: int
    has_split: bool
    has_event: bool
    event_ids: Sequence[str] = ()  # the distinct texts of the event column
    skipped: SkippedRows = NO_SKIPPED

    def values(self) -> Mapping[str, Any]:
        """Return the result as values of JSON."""
        return {**asdict(replace(self, folder=Path())), "folder": None}

    @classmethod
    def of(cls, values: Mapping[str, Any], folder: Path) -> "ReadLog":
        """Return the result whose values were recorded."""
        parts = [Part(**part) for part in values["parts"]]
        skipped = SkippedRows(**values["skipped"])
        return cls(**{**values, "folder": folder, "parts": parts, "skipped": skipped})


def read_parts(
    files: ClickFiles,
    folder: Path,
    catalogue: Path,
    rows_per_part: int,
    sizes: BlockSizes,
    runner: Runner,
    progress: Progress,
) -> ReadLog:
    """Read all files, and write the catalogue of all items into a folder of its own.

    Raises:
        BadInput: The clicks have problems, those that the in-memory path names.
    """
    sources = {
        (number, at): source
        for number, file in enumerate(files.files)
        for at, source in enumerate(ranges_of(file, sizes))
    }
    results = _read(sources, files.options, folder, rows_per_part, runner, progress)
    unclear = {
        number: files.files[number]
        for (number, at), result in results.items()
        if result.has_bad_rows and isinstance(sources[number, at], FileRange)
    }
    if unclear:
        whole = {(number, 0): file for number, file in unclear.items()}
        again = _read(whole, files.options, folder, rows_per_part, runner, progress)
        results = {key: one for key, one in results.items() if key[0] not in unclear} | again
    return _merged([results[key] for key in sorted(results)], files, folder, catalogue)


def _read(
    sources: Mapping[tuple[int, int], ClickFile],
    options: ClickOptions,
    folder: Path,
    rows_per_part: int,
    runner: Runner,
    progress: Progress,
) -> dict[tuple[int, int], FileResult]:
    calls = [(file, number, options, folder, rows_per_part) for number, file in sources.items()]
    return {result.number: result for result in runner.map(read_file, calls, progress)}


def _merged(
    results: Sequence[FileResult], files: ClickFiles, folder: Path, catalogue: Path
) -> ReadLog:
    """Return the log of these results, which are in order; raise `BadInput` with all problems."""
    findings = Findings(files.options.skip_bad_rows)
    for result in results:
        for bad, events_seen, clicks in result.findings:
            findings.add(bad, events_seen, clicks)
        if result.refusal is not None:
            raise result.refusal
    findings.check()
    findings.check_some(files.options)
    parts = _placed(results)
    has_event = files.options.required_event_column is not None
    event_ids = number_texts(folder, parts, "event").to_pylist() if has_event else []
    item_ids = number_texts(folder, parts, "item")
    catalogue.mkdir(exist_ok=True)
    write_catalogue(catalogue, item_ids)
    return ReadLog(
        folder=folder,
        parts=parts,
        items=len(item_ids),
        rows=findings.clicks,
        has_split=files.options.split_column is not None,
        has_event=has_event,
        event_ids=event_ids,
        skipped=list_skipped(findings.bad, files.options.skipped_rows),
    )


def _placed(results: Sequence[FileResult]) -> list[Part]:
    """Return all parts in order, with the rows that they have in the log."""
    parts: list[Part] = []
    file, rows = -1, 0
    for result in results:
        if result.number[0] != file:
            file, rows = result.number[0], 0
        before = (file << ROWS_OF_A_FILE) + rows
        parts += [replace(part, first_row=before + part.first_row) for part in result.parts]
        rows += result.rows
    return parts


def read_file(
    file: ClickFile,
    number: tuple[int, int],
    options: ClickOptions,
    folder: Path,
    rows_per_part: int,
) -> FileResult:
    """Write the parts of one file or range; their rows are counted from its first one."""
    parts: list[Part] = []
    findings: list[tuple[Sequence[BadClick], frozenset[str], int]] = []
    refusal: BadInput | None = None
    batches: list[CheckedBatch] = []
    waiting = bad_rows = 0
    enough = 0 if isinstance(file, FileRange) else options.skip_bad_rows or MOST_PROBLEMS
    first_row = 0
    name = "-".join(f"{one:06}" for one in number)

    def write() -> None:
        nonlocal waiting, first_row
        part = Part(f"{name}-{len(parts):06}", first_row, waiting)
        _write_part(folder, part, batches)
        parts.append(part)
        batches.clear()
        first_row, waiting = first_row + waiting, 0

    try:
        for batch in checked_batches(file, options):
            findings.append((batch.bad, batch.events_seen, len(batch.time_ms)))
            bad_rows += len(batch.bad)
            if bad_rows > enough:  # the range or the log is refused
                break
            for start in range(0, len(batch.time_ms), rows_per_part):
                batches.append(_slice(batch, start, rows_per_part))
                waiting += len(batches[-1].time_ms)
                if waiting >= rows_per_part:
                    write()
        if waiting:
            write()
    except BadInput as refused:
        refusal = refused
    return FileResult(number, parts, findings, refusal)


def number_texts(folder: Path, parts: Sequence[Part], column: str) -> pa.Array:
    """Return the distinct texts of a column, ordered by first appearance.

    For each part, the number of each of its texts is written. Parts are merged whenever their texts
    are as many as those known, so that time is linear and memory is that of the distinct texts.
    """
    known = pa.array([], pa.string())
    waiting: list[tuple[Part, pa.Array]] = []

    def merge() -> None:
        nonlocal known
        chunks = [
            pa.DictionaryArray.from_arrays(pa.array(np.arange(len(texts), dtype=np.int32)), texts)
            for texts in (known, *(texts for _, texts in waiting))
        ]
        merged = pa.chunked_array(chunks).unify_dictionaries()
        for (part, _), chunk in zip(waiting, merged.chunks[1:], strict=True):
            write_array(_codes_file(folder, part, column), chunk.indices.to_numpy().astype("<i4"))
        known = merged.chunk(0).dictionary
        waiting.clear()

    for part in parts:
        waiting.append((part, pq.read_table(_texts_file(folder, part, column))[column]))
        waiting[-1] = (part, waiting[-1][1].combine_chunks())
        if sum(len(texts) for _, texts in waiting) > len(known):
            merge()
    if waiting:
        merge()
    return known


def read_part(part: Part, folder: Path) -> pd.DataFrame:
    """Return group (text), item, row, time_ms, and where the log has them event and split."""
    table = pq.read_table(folder / f"{part.name}.parquet", use_threads=False)
    codes = {
        column: np.fromfile(_codes_file(folder, part, column), dtype="<i4")
        for column in CODED
        if column in table.column_names
    }
    return frame_of(table, codes, part.first_row)


def frame_of(
    table: pa.Table, codes: Mapping[str, NDArray[np.int32]], first_row: int
) -> pd.DataFrame:
    """Return the frame of a part; of an empty table, its column types."""
    columns: dict[str, NDArray[Any]] = {
        name: table[name].to_numpy() for name in table.column_names if name != "group"
    }
    columns |= {name: code[columns[name]].astype(np.int32) for name, code in codes.items()}
    rows = first_row + np.arange(len(table), dtype=np.int64)
    group = pd.Series(table["group"].to_pandas(), dtype="str")
    return pd.DataFrame({"group": group, **columns, "row": rows})


def empty_frame(log: ReadLog) -> pd.DataFrame:
    """Return a frame of the log without rows, for its column types."""
    kinds = {"group": pa.string(), "item": pa.int32(), "time_ms": pa.int64()}
    kinds |= {"event": pa.int32()} if log.has_event else {}
    kinds |= {"split": pa.int8()} if log.has_split else {}
    return frame_of(pa.schema(kinds).empty_table(), {}, 0)


def _write_part(folder: Path, part: Part, batches: Sequence[CheckedBatch]) -> None:
    columns: dict[str, pa.Array] = {"group": pa.chunked_array([b.group for b in batches])}
    for column in CODED:
        texts = [getattr(batch, column) for batch in batches]
        if texts[0] is None:
            continue
        coded = pa.chunked_array(texts).combine_chunks().dictionary_encode()
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.chunk(0)
        columns[column] = coded.indices
        pq.write_table(pa.table({column: coded.dictionary}), _texts_file(folder, part, column))
    columns["time_ms"] = pa.array(np.concatenate([batch.time_ms for batch in batches]))
    labels = [batch.split for batch in batches if batch.split is not None]
    if labels:
        columns["split"] = pa.array(np.concatenate(labels))
    pq.write_table(pa.table(columns), folder / f"{part.name}.parquet")


def _slice(batch: CheckedBatch, start: int, rows: int) -> CheckedBatch:
    end = start + rows
    return replace(
        batch,
        group=batch.group[start:end],
        item=batch.item[start:end],
        time_ms=batch.time_ms[start:end],
        split=None if batch.split is None else batch.split[start:end],
        event=None if batch.event is None else batch.event[start:end],
    )


def _texts_file(folder: Path, part: Part, column: str) -> Path:
    return folder / f"{part.name}.{column}.parquet"


def _codes_file(folder: Path, part: Part, column: str) -> Path:
    return folder / f"{part.name}.{column}.i32"
