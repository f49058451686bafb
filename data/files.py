"""Click files on disk: CSV, TSV, Parquet, or a folder of them, as streams of column batches.

This module reads formats; `data/clicks.py` interprets the values.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from data.schema import missing_column
from recsys.errors import BadInput

ENDINGS = (".csv", ".tsv", ".parquet")
DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "pipe"}

Progress = Callable[[int, int], None]  # (done, total), in bytes; called after every batch


@dataclass(frozen=True, slots=True)
class ClickFile:
    """One file and its format."""

    path: Path
    delimiter: str | None  # None for Parquet

    def columns(self) -> list[str]:
        """Return the names of the columns; raise `BadInput` where the file has none."""
        if self.delimiter is None:
            return list(_parquet(self.path).schema_arrow.names)
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as lines:
                header = next(csv.reader(lines, delimiter=self.delimiter), None)
        except (OSError, UnicodeDecodeError, csv.Error) as broken:
            raise BadInput(f"{self.path} cannot be read as text", [f"{broken}."]) from broken
        if not header:
            raise BadInput(f"{self.path} is empty", ["give a file with a header and clicks."])
        return header

    def id_kind(self, name: str) -> tuple[str, str]:
        """Return the type of a column of ids: ("text" | "whole number" | "other", exact type)."""
        if self.delimiter is not None:
            return "text", "text"
        kind = _parquet(self.path).schema_arrow.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        if any(is_text(kind) for is_text in texts):
            return "text", str(kind)
        return ("whole number" if pa.types.is_integer(kind) else "other"), str(kind)

    def batches(self, names: list[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yield batches of the named columns, each with the bytes of the file read so far."""
        try:
            if self.delimiter is None:
                yield from self._parquet_batches(names)
            else:
                yield from self._text_batches(names, self.delimiter)
        except (OSError, pa.ArrowException) as broken:
            raise BadInput(f"{self.path} cannot be read", [_sentence(broken)]) from broken

    def check_columns(self, names: Mapping[str, str]) -> list[str]:
        """Return a problem for every column that is missing or occurs twice.

        Args:
            names: name of a column → the option that names it, or "".
        """
        present = self.columns()
        wrong = self._wrong_delimiter(present)
        if wrong:
            return [wrong]
        problems = [
            f"{self.path}: {missing_column(name, present, option)}"
            for name, option in names.items()
            if name not in present
        ]
        problems += [
            f"{self.path}: two columns are called {name!r}. Rename one of them."
            for name in names
            if present.count(name) > 1
        ]
        return problems

    def _wrong_delimiter(self, present: list[str]) -> str | None:
        if self.delimiter is None or len(present) > 1:
            return None
        for delimiter, name in DELIMITERS.items():
            if delimiter != self.delimiter and delimiter in present[0]:
                return (
                    f"{self.path}: the header {present[0][:80]!r} is separated by {name}, not by "
                    f"{DELIMITERS.get(self.delimiter, repr(self.delimiter))}. "
                    f"Give --delimiter {'tab' if delimiter == chr(9) else repr(delimiter)}."
                )
        return None

    def _parquet_batches(self, names: list[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
        file = _parquet(self.path)
        rows, done = max(file.metadata.num_rows, 1), 0
        size = self.path.stat().st_size
        for batch in file.iter_batches(batch_size=262_144, columns=names):
            done += batch.num_rows
            yield batch, size * done // rows

    def _text_batches(
        self, names: list[str], delimiter: str
    ) -> Iterator[tuple[pa.RecordBatch, int]]:
        problems: list[str] = []

        def refuse(row: pacsv.InvalidRow) -> str:
            if row.text.strip() == "":
                return "skip"
            where = f"line {row.number:,}" if row.number is not None else "a line"
            problems.append(
                f"{self.path}: {where} has {row.actual_columns} columns, not "
                f"{row.expected_columns}: {row.text[:60]!r}."
            )
            return "skip"

        # a file object of pyarrow: its reading thread must not wait for Python while Python exits
        with (
            pa.OSFile(str(self.path)) as raw,
            pacsv.open_csv(
                raw,
                read_options=pacsv.ReadOptions(block_size=8 << 20, use_threads=False),
                parse_options=pacsv.ParseOptions(
                    delimiter=delimiter, invalid_row_handler=refuse, newlines_in_values=True
                ),
                convert_options=pacsv.ConvertOptions(
                    include_columns=names,
                    column_types={name: pa.binary() for name in names},
                    strings_can_be_null=False,
                ),
            ) as reader,
        ):
            row = 1
            for batch in reader:  # to the end, to report all problems
                texts, bad = _decoded(batch, row)
                problems += [f"{self.path}: {problem}" for problem in bad]
                row += batch.num_rows
                if not problems:
                    yield texts, raw.tell()
        if problems:
            raise BadInput("The click file has broken lines", problems)


def _decoded(batch: pa.RecordBatch, first_row: int) -> tuple[pa.RecordBatch, list[str]]:
    """Return the batch as texts, and a problem for every value that is not UTF-8."""
    try:
        return pa.record_batch(
            [column.cast(pa.string()) for column in batch.columns], names=batch.schema.names
        ), []
    except pa.ArrowInvalid:
        problems = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            for at, value in enumerate(column.to_pylist()):
                try:
                    value.decode()
                except UnicodeDecodeError:
                    problems.append(f"row {first_row + at:,}, {name}: {value[:20]!r} is not UTF-8.")
        return batch, problems


def click_files(path: Path, delimiter: str | None) -> list[ClickFile]:
    """Return the files to read, sorted by name; raise `BadInput` where there is none."""
    if not path.exists():
        raise BadInput("The click file cannot be used", [f"{path} does not exist."])
    if not path.is_file() and not path.is_dir():
        raise BadInput("The click file cannot be used", [f"{path} is neither file nor folder."])
    paths = [path] if path.is_file() else sorted(p for p in path.iterdir() if _is_click_file(p))
    if not paths:
        raise BadInput(
            "The click folder cannot be used",
            [f"{path} holds no file that ends in {', '.join(ENDINGS)}."],
        )
    if path.is_file() and not _is_click_file(path):
        raise BadInput(
            "The click file cannot be used",
            [f"{path} ends in {path.suffix!r}. Give a file that ends in {', '.join(ENDINGS)}."],
        )
    files = []
    for file in paths:
        if file.stat().st_size == 0:
            raise BadInput(
                "The click file cannot be used",
                [f"{file} is empty (0 bytes). Give a file with a header and clicks."],
            )
        files.append(ClickFile(file, _delimiter_of(file, delimiter)))
    return files


def mixed_types(files: Sequence[ClickFile], column: str) -> list[str]:
    """Return a problem where ids are neither text nor whole numbers, or are mixed."""
    problems = []
    kinds: dict[str, Path] = {}
    for file in files:
        kind, exact = file.id_kind(column)
        if kind == "other":
            problems.append(
                f"{file.path}: {column} is {exact}; ids must be texts or whole numbers, because "
                "1 and 1.0 would be two ids. Cast the column."
            )
        kinds.setdefault(kind, file.path)
    if {"text", "whole number"} <= kinds.keys():
        problems.append(
            f"{column} has mixed types: texts in {kinds['text']}, whole numbers in "
            f"{kinds['whole number']}. Cast one of them, so that 7 and '007' stay apart."
        )
    return problems


def _is_click_file(path: Path) -> bool:
    return path.is_file() and path.suffix in ENDINGS and not path.name.startswith(".")


def _delimiter_of(file: Path, chosen: str | None) -> str | None:
    if file.suffix == ".parquet":
        return None
    if chosen is not None:
        return "\t" if chosen in ("tab", "\\t") else chosen
    return "\t" if file.suffix == ".tsv" else ","


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as broken:
        raise BadInput(
            f"{path} is not a readable Parquet file", [f"{_sentence(broken)} Write it anew."]
        ) from broken


def _sentence(problem: Exception) -> str:
    return str(problem).strip().rstrip(".").replace("\n", " ") + "."
