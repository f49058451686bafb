"""Click files of disks and stores, CSV, TSV, JSON lines or Parquet, as streams of column batches.

Text and JSON lines may be compressed. This module reads formats; `data/clicks.py` interprets the
values.
"""

import codecs
import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from data.bad_rows import BrokenRows
from data.click_options import TAB, is_delimiter, is_encoding
from data.events.reading import ERASING_COLUMNS
from data.json_lines import BLOCK_BYTES, LineForm, NotLines, read_good_lines, read_lines
from data.schema import missing_column
from data.sources.click_paths import CLICK_FILES, FoundFile, find_files
from data.sources.object_stores import StoreError, Url, check_unchanged, open_copy, open_object
from recsys.errors import BadInput

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "pipe"}
BATCH_ROWS = 262_144  # of a Parquet file

HEAD_BYTES = 64 << 10  # asked of a store for a header
UTF_8 = "utf-8"
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # a file of UTF-16 begins with one

Progress = Callable[[int, int], None]  # (done, total), in bytes; called after every batch


@dataclass(frozen=True, slots=True)
class TextFormat:
    """Form of text files and JSON lines; `prefix` begins the options that say so."""

    delimiter: str | None = None  # by default a comma, or a tab in .tsv files
    encoding: str = UTF_8
    prefix: str = "--"

    def __post_init__(self) -> None:
        rules = [
            ("delimiter must be one character, or tab", is_delimiter, self.delimiter),
            ("encoding must be one that Python knows", is_encoding, self.encoding),
        ]
        problems = [
            f"{self.prefix}{rule}, got {value!r}."
            for rule, holds, value in rules
            if not holds(value)
        ]
        if problems:
            raise BadInput("The options cannot be used", problems)

    def encoding_advice(self, content: bytes) -> str:
        """Return what to do with a file of another encoding, which has this content."""
        examples = "utf-16" if content.startswith(UTF_16_MARKS) else "latin-1 or cp1252, perhaps"
        return f"Save the file as UTF-8, or give {self.prefix}encoding ({examples})."

    @property
    def skip_advice(self) -> str:
        """Return what to do with broken lines; those of an items file must be mended."""
        return "" if self.prefix != "--" else " --skip-bad-rows N leaves broken lines out."


UTF_8_TEXT = TextFormat()


@dataclass(frozen=True, slots=True)
class ClickFile:
    """One file, its format and its own columns; text columns have the type of texts."""

    found: FoundFile
    schema: pa.Schema
    text: TextFormat = UTF_8_TEXT  # of a text file with its delimiter
    form: LineForm | None = None  # of JSON lines

    @classmethod
    def of(cls, found: FoundFile, text: TextFormat, *, skip_broken: bool = False) -> "ClickFile":
        """Read the names and types of the columns; raise `BadInput` where the file has none."""
        if found.format == "parquet":
            try:
                with parquet_of(found) as file:
                    return cls(found, file.schema_arrow)
            except OSError as broken:
                raise BadInput(f"{found.path} cannot be read", [_sentence(broken)]) from broken
        if found.format == "json":
            form = _form_of(found, text, skip_broken=skip_broken)
            return cls(found, pa.schema(form.columns.items()), text, form)
        text = replace(text, delimiter=_delimiter_of(found, text.delimiter))
        header = _header_of(found, text, skip_broken=skip_broken)
        return cls(found, pa.schema([(name, pa.string()) for name in header]), text)

    @property
    def path(self) -> Path | Url:
        return self.found.path

    def columns(self) -> list[str]:
        """Return the names of the columns, with those of Hive partitions."""
        own = list(self.schema.names)
        return own + [name for name, _ in self.found.partition if name not in own]

    def id_kind(self, name: str) -> tuple[str, str]:
        """Return the type of a column of ids: ("text" | "whole number" | "other", exact type)."""
        if self.found.format == "text" or name not in self.schema.names:
            return "text", "text"
        kind = self.schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        if any(is_text(kind) for is_text in texts):
            return "text", str(kind)
        return ("whole number" if pa.types.is_integer(kind) else "other"), str(kind)

    def batches(
        self, names: list[str], broken: BrokenRows | None = None
    ) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yield batches of the named columns, each with the bytes of the file read so far.

        broken: gets the rows that cannot be split into columns, which are left out then.

        Raises:
            BadInput: The file cannot be read, or it is one of a store and has changed.
        """
        own = self.schema.names
        constant = [(name, value) for name, value in self.found.partition if name not in own]
        deletions = self.found.deletions
        needed = names if deletions is None else dict.fromkeys([*names, *ERASING_COLUMNS])
        wanted = [name for name in needed if name in own]
        rows = 0
        try:
            for batch, done in self._own_batches(wanted, broken):
                rows += batch.num_rows
                if deletions is not None:
                    batch = batch.filter(deletions.kept(batch))
                for name, value in constant:
                    batch = batch.append_column(name, pa.repeat(value, batch.num_rows))
                yield batch.select(names), done
            if isinstance(self.path, Url):
                check_unchanged(self.path, self.found.state)
        except (OSError, pa.ArrowException) as broken:
            after = f"After row {rows:,}: " if self.found.format == "json" else ""
            advice = self.text.skip_advice if self.found.format == "json" else ""
            reason = f"{after}{_sentence(broken)}{advice}"
            raise BadInput(f"{self.path} cannot be read", [reason]) from broken

    def _own_batches(
        self, names: list[str], broken: BrokenRows | None
    ) -> Iterator[tuple[pa.RecordBatch, int]]:
        if self.found.format == "parquet":
            yield from self._parquet_batches(names)
            return
        with _streams(self.found, self.text.encoding) as (raw, stream):
            if self.form is None:
                batches = self._texts(stream, names, BLOCK_BYTES, broken=broken)
            elif broken is None:
                batches = read_lines(stream, self.form, names, BLOCK_BYTES)
            else:
                batches = read_good_lines(stream, self.form, names, BLOCK_BYTES, broken)
            for batch in batches:
                yield batch, raw.tell()

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
        used = self.text.delimiter
        if self.found.format != "text" or used is None or len(present) > 1:
            return None
        for delimiter, name in DELIMITERS.items():
            if delimiter != used and delimiter in present[0]:
                return (
                    f"{self.path}: the header {present[0][:80]!r} is separated by {name}, not by "
                    f"{DELIMITERS.get(used, repr(used))}. Give {self.text.prefix}delimiter "
                    f"{'tab' if delimiter == chr(9) else repr(delimiter)}."
                )
        return None

    def _parquet_batches(self, names: list[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
        with parquet_of(self.found) as file:
            rows, done = max(file.metadata.num_rows, 1), 0
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=names):
                done += batch.num_rows
                yield batch, self.found.state.bytes * done // rows

    def _texts(
        self,
        content: pa.NativeFile,
        names: list[str],
        block_bytes: int,
        header: list[str] | None = None,
        broken: BrokenRows | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield batches of texts, one for each block; `header` where the content has none."""
        problems: list[str] = []

        def refuse(row: pacsv.InvalidRow) -> str:
            if row.text.strip() == "":
                return "skip"
            counted = f"has {row.actual_columns} columns, not {row.expected_columns}"
            lines = len(row.text.strip().splitlines())
            if broken is not None and lines == 1:
                broken.add(row.number - 1, f"the line {counted}.", row.text)
                return "skip"
            where = f"line {row.number:,}" if row.number is not None else "a line"
            spans = f" It spans {lines:,} lines: close its quotation mark." if lines > 1 else ""
            problems.append(f"{self.path}: {where} {counted}: {row.text[:60]!r}.{spans}")
            return "skip"

        with pacsv.open_csv(
            content,
            read_options=pacsv.ReadOptions(
                block_size=block_bytes, use_threads=False, column_names=header
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=self.text.delimiter, invalid_row_handler=refuse, newlines_in_values=True
            ),
            convert_options=pacsv.ConvertOptions(
                include_columns=names,
                column_types={name: pa.binary() for name in names},
                strings_can_be_null=False,
            ),
        ) as reader:
            rows = 0
            for batch in reader:  # to the end, to report all problems
                texts, bad = self._decoded(batch)
                if bad and broken is not None:
                    numbers = broken.numbers(rows, batch.num_rows)
                    for at, reason in bad:
                        broken.add(int(numbers[at]), reason, repr(_bytes_of(batch, at)))
                else:
                    problems += [f"{self.path}: row {rows + 1 + at:,}, {why}" for at, why in bad]
                rows += batch.num_rows if broken is None else texts.num_rows
                if not problems:
                    yield texts
        if problems:
            advice = self.text.skip_advice.rstrip(".")
            raise BadInput(f"The file has broken lines{advice and ';'}{advice}", problems)

    def _decoded(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
        """Return the rows that are UTF-8 as texts, and the others with the value that is not."""
        try:
            return _as_texts(batch), []
        except pa.ArrowInvalid:
            bad: dict[int, str] = {}
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                for at, value in enumerate(column.to_pylist()):
                    try:
                        value.decode()
                    except UnicodeDecodeError:
                        bad.setdefault(
                            at,
                            f"{name}: {value[:20]!r} is not UTF-8. "
                            f"{self.text.encoding_advice(value)}",
                        )
            good = np.setdiff1d(np.arange(batch.num_rows), list(bad))
            return _as_texts(batch.take(pa.array(good))), sorted(bad.items())


def _as_texts(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [column.cast(pa.string()) for column in batch.columns]
    return pa.record_batch(columns, names=batch.schema.names)


def _bytes_of(batch: pa.RecordBatch, at: int) -> bytes:
    return b",".join(column[at].as_py() for column in batch.columns)


def click_files(
    path: Path | Url,
    text: TextFormat = UTF_8_TEXT,
    *,
    what: str = CLICK_FILES,
    skip_broken: bool = False,
) -> list[ClickFile]:
    """Return the files to read, in order; raise `BadInput` where there is none.

    what: name of the files in messages.
    """
    files = find_files(path, what)
    for found in files:
        if found.state.bytes == 0:
            raise BadInput(
                f"The {what} cannot be used",
                [f"{found.path} is empty (0 bytes). Give a file with a header and rows."],
            )
    text = replace(text, encoding=codecs.lookup(text.encoding).name)  # UTF8 is utf-8
    return [ClickFile.of(found, text, skip_broken=skip_broken) for found in files]


def mixed_types(files: Sequence[ClickFile], column: str) -> list[str]:
    """Return a problem where ids are neither text nor whole numbers, or are mixed."""
    problems = []
    kinds: dict[str, Path | Url] = {}
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


def _delimiter_of(file: FoundFile, chosen: str | None) -> str:
    if chosen is not None:
        return "\t" if chosen in TAB else chosen
    return "\t" if file.ending == ".tsv" else ","


def _header_of(found: FoundFile, text: TextFormat, *, skip_broken: bool) -> list[str]:
    heading = f"{found.path} cannot be read as text"
    assert text.delimiter is not None, "the delimiter is known"
    try:
        with _lines(found, text.encoding, skip_broken=skip_broken) as lines:
            header = next(csv.reader(lines, delimiter=text.delimiter), None)
    except UnicodeDecodeError as broken:
        raise BadInput(
            heading, [f"{_sentence(broken)} {text.encoding_advice(broken.object)}"]
        ) from broken
    except (OSError, pa.ArrowException, csv.Error) as broken:
        raise BadInput(heading, [_sentence(broken) + _of_its_name(found, broken)]) from broken
    if header and "\0" in header[0]:
        raise BadInput(
            heading, [f"Its header is not {text.encoding}. Give {text.prefix}encoding utf-16."]
        )
    if not header:
        raise BadInput(f"{found.path} is empty", ["give a file with a header and rows."])
    return header


def _form_of(found: FoundFile, text: TextFormat, *, skip_broken: bool) -> LineForm:
    try:
        with _lines(found, text.encoding, skip_broken=skip_broken) as lines:
            return LineForm.of(lines, skip_broken=skip_broken)
    except UnicodeDecodeError as broken:
        raise BadInput(
            f"{found.path} cannot be read as JSON lines",
            [f"{_sentence(broken)} {text.encoding_advice(broken.object)}"],
        ) from broken
    except (OSError, pa.ArrowException, ValueError) as broken:
        advice = "" if isinstance(broken, OSError | NotLines) else text.skip_advice
        raise BadInput(
            f"{found.path} cannot be read as JSON lines",
            [f"{_sentence(broken)}{advice}{_of_its_name(found, broken)}"],
        ) from broken


@contextmanager
def parquet_of(found: FoundFile) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; raise `BadInput` where it is none, and `StoreError`."""
    path, state = found.path, found.state
    with open_object(path, state) if isinstance(path, Url) else pa.OSFile(str(path)) as raw:
        try:
            file = pq.ParquetFile(raw)
        except StoreError:
            raise
        except (OSError, pa.ArrowException) as broken:
            raise BadInput(
                f"{path} is not a readable Parquet file", [f"{_sentence(broken)} Write it anew."]
            ) from broken
        with file:
            yield file


@contextmanager
def _lines(found: FoundFile, encoding: str, *, skip_broken: bool) -> Iterator[Iterable[str]]:
    """Open the beginning; skip_broken: rows that are not UTF-8 are found later."""
    errors = "replace" if skip_broken else "strict"
    with (
        _streams(found, encoding, head_only=True) as (_, content),
        io.TextIOWrapper(content, encoding="utf-8-sig", errors=errors, newline="") as lines,
    ):
        yield lines


@contextmanager
def _streams(
    found: FoundFile, encoding: str, *, head_only: bool = False
) -> Iterator[tuple[pa.NativeFile, pa.NativeFile]]:
    """Open the file as it is stored, and as its content in UTF-8.

    head_only: the beginning is read, by this thread.
    """
    path, state = found.path, found.state
    if not isinstance(path, Url):
        # a file object of pyarrow: its reading thread must not wait for Python while Python exits
        opened = pa.OSFile(str(path))
    else:
        opened = open_object(path, state, HEAD_BYTES) if head_only else open_copy(path, state)
    with opened as raw:
        content = raw
        if found.compression is not None:
            content = pa.CompressedInputStream(raw, found.compression)
        if encoding != UTF_8:
            content = pa.transcoding_input_stream(content, encoding, UTF_8)
        with content:
            yield raw, content


def _of_its_name(found: FoundFile, broken: Exception) -> str:
    """Return a hint where a file is not compressed as its name says."""
    if found.compression is None or not isinstance(broken, OSError):
        return ""
    return f" Its name says {found.compression}: rename it if it is not compressed."


def _sentence(problem: Exception) -> str:
    return str(problem).strip().rstrip(".").replace("\n", " ") + "."
