"""Content of items: typed columns of the items file, and vectors from files of their own.

`--content price` names a column of the items file, `--content year:categorical` says how it counts:

    categorical  one of several values: texts, whole numbers, true and false
    multi        several values: a column of lists
    numeric      a number, which is standardised; it may be missing
    time         the moment at which an item appears: epoch seconds, milliseconds or ISO 8601

Without a kind, the type of the column decides: lists are multi, numbers numeric, timestamps a time,
all others categorical. A text file has no types: a column of numbers alone is numeric.
`--vectors image=FILE` names a Parquet file with the item ids and one column of lists of numbers.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.items import ItemsTable, as_attribute, read_items
from data.schema import missing_column, parse_times
from recsys.content.schema import KINDS, Kind
from recsys.errors import BadInput

CANNOT = "The content cannot be used"
DECIMAL_COMMA = r"^\s*-?\d+,\d+\s*$"
COLUMN_KINDS = tuple(kind for kind in KINDS if kind != "vector")
NO_TIME = np.iinfo(np.int64).min
SHOWN = 3  # bad values of one column


@dataclass(frozen=True, slots=True)
class ContentOptions:
    """Columns and vectors that count as content, as the options name them."""

    columns: tuple[str, ...] = ()  # NAME or NAME:KIND
    vectors: tuple[str, ...] = ()  # NAME=FILE

    def __bool__(self) -> bool:
        return bool(self.columns or self.vectors)

    @property
    def kinds(self) -> dict[str, str]:
        """Return name → kind, "" where the values of the column decide."""
        named: dict[str, str] = {}
        for text in self.columns:
            name, colon, kind = text.rpartition(":")
            named |= {name: kind} if colon and kind in COLUMN_KINDS else {text: ""}
        return named | dict.fromkeys(self.files, "vector")

    @property
    def files(self) -> dict[str, Path]:
        """Return name → file of the vectors."""
        parts = [text.partition("=") for text in self.vectors]
        return {name: Path(file).expanduser() for name, _, file in parts if file}


NO_CONTENT = ContentOptions()


def content_options(
    columns: Sequence[str], vectors: Sequence[str], *, given: bool
) -> ContentOptions:
    """Return the options.

    Args:
        columns: NAME or NAME:KIND.
        vectors: NAME=FILE.
        given: There is an items file.

    Raises:
        BadInput: There is content without an items file.
    """
    options = ContentOptions(tuple(columns), tuple(vectors))
    if options and not given:
        raise BadInput(
            CANNOT,
            ["--content and --vectors are of the items of --items. Give the items file, too."],
        )
    return options


@dataclass(frozen=True)
class ContentColumn:
    """One attribute or vector of all items of the items file, N of them."""

    name: str
    kind: Kind
    texts: pa.ListArray | None = None  # (N,) lists of texts: categorical, multi
    numbers: NDArray[np.float64] | None = None  # (N,) NaN where missing: numeric
    times_ms: NDArray[np.int64] | None = None  # (N,) NO_TIME where missing: time
    matrix: NDArray[np.float32] | None = None  # (vectors, length): vector
    rows: NDArray[np.int64] | None = None  # (N,) rows of the matrix, -1 where missing

    @property
    def length(self) -> int:
        """Return the length of the vectors, 0 for another kind."""
        return 0 if self.matrix is None else self.matrix.shape[1]

    def describe(self) -> str:
        """Return the kind, and what is missing."""
        if self.rows is not None:
            missing = int((self.rows < 0).sum())
            what = f"{self.kind} of {self.length:,} numbers"
        else:
            missing, what = self._missing(), self.kind
        return f"{what}, {missing:,} missing" if missing else what

    def _missing(self) -> int:
        if self.texts is not None:
            return int((np.diff(self.texts.offsets.to_numpy()) == 0).sum())
        if self.numbers is not None:
            return int(np.isnan(self.numbers).sum())
        assert self.times_ms is not None, "a column has values"
        return int((self.times_ms == NO_TIME).sum())

    def digest(self) -> str:
        """Return a digest of name, kind and values."""
        content = hashlib.sha256(f"{self.name}:{self.kind}".encode())
        if self.texts is not None:
            content.update(repr(self.texts.to_pylist()).encode())
        for array in (self.numbers, self.times_ms, self.matrix, self.rows):
            if array is not None:
                content.update(np.ascontiguousarray(array).data)
        return content.hexdigest()


@dataclass(frozen=True)
class ItemContent:
    """Content of all items of the items file."""

    ids: pa.StringArray  # (N,)
    columns: tuple[ContentColumn, ...]

    @cached_property
    def digest(self) -> str:
        """Return a digest of everything; it distinguishes checkpoints."""
        content = hashlib.sha256("\n".join(self.ids.to_pylist()).encode())
        for column in self.columns:
            content.update(column.digest().encode())
        return content.hexdigest()

    @property
    def time(self) -> ContentColumn | None:
        """Return the column with the times at which items appear, if there is one."""
        return next((column for column in self.columns if column.kind == "time"), None)

    @property
    def lists(self) -> tuple[str, ...]:
        """Return the names of columns with lists, which cannot be attributes of the catalogue."""
        return tuple(column.name for column in self.columns if column.kind == "multi")

    def describe(self, lacking: int) -> str:
        """Return a sentence for the terminal; lacking: clicked items that the file lacks."""
        parts = ", ".join(f"{column.name} ({column.describe()})" for column in self.columns)
        without = f"; {lacking:,} clicked items have none" if lacking else ""
        return f"Content of {len(self.ids):,} items: {parts}{without}."

    def rows_of(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each item, (n,) int64, -1 where the items file lacks it."""
        found = pc.index_in(pa.array(item_ids, pa.string()), value_set=self.ids)
        rows: NDArray[np.int64] = found.fill_null(-1).to_numpy().astype(np.int64)
        return rows


def read_content(items: ItemsTable, item_column: str, options: ContentOptions) -> ItemContent:
    """Read the content of the items.

    Args:
        items: The items file.
        item_column: Column of the item ids in the files of vectors.
        options: What counts as content.

    Raises:
        BadInput: An option, a column or a file cannot be used. It lists every problem.
    """
    problems: list[str] = []
    columns: list[ContentColumn] = []
    for text in options.columns:
        name, colon, kind = text.rpartition(":") if ":" in text else (text, "", "")
        if name not in items.columns.column_names and text in items.columns.column_names:
            name, colon = text, ""
        if name not in items.columns.column_names:
            problems.append(f"{items.path}: {missing_column(name, items.columns.column_names)}")
        elif colon and kind not in COLUMN_KINDS:
            problems.append(
                f"--content {text}: {kind!r} is no kind of content. Kinds: "
                f"{', '.join(COLUMN_KINDS)}."
            )
        else:
            columns += _column(items, name, kind if colon else "", problems)
    for text in options.vectors:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            problems.append(f"--vectors {text!r} must be NAME=FILE, as image=vectors.parquet.")
        else:
            columns += _vectors(items.ids, name, Path(path).expanduser(), item_column, problems)
    names = [column.name for column in columns]
    problems += [
        f"{name!r} is given twice. Give each attribute and each vector once."
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if sum(column.kind == "time" for column in columns) > 1:
        problems.append("two columns are times. An item appears once: give one of them.")
    if problems:
        raise BadInput(CANNOT, problems)
    return ItemContent(items.ids, tuple(columns))


def _column(
    items: ItemsTable, name: str, asked: str, problems: list[str]
) -> Collection[ContentColumn]:
    """Return the column, or nothing after a problem was added."""
    column = items.columns[name].combine_chunks()
    kind = asked or _kind_of(column, items, name, problems)
    where = f"{items.path}: column {name!r}"
    if _is_list(column.type) != (kind == "multi") and kind:
        what = "has lists" if _is_list(column.type) else "has no lists"
        problems.append(f"{where} {what} and cannot be {kind}.")
    elif kind in ("categorical", "multi"):
        of_texts: Kind = "multi" if kind == "multi" else "categorical"
        return [ContentColumn(name, of_texts, texts=_as_lists(column))]
    elif kind == "numeric":
        numbers = _numbers(column, where, problems)
        return [] if numbers is None else [ContentColumn(name, "numeric", numbers=numbers)]
    elif kind == "time":
        times = _times(column, where, problems)
        return [] if times is None else [ContentColumn(name, "time", times_ms=times)]
    return []


def _kind_of(column: pa.Array, items: ItemsTable, name: str, problems: list[str]) -> str:
    """Return the kind that the type of a column says, "" after a problem was added."""
    if _is_list(column.type):
        return "multi"
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return "time"
    if _is_number(column.type):
        return "numeric"
    if not _is_text(column.type):
        return "categorical"
    filled = _filled(column)
    are_numbers = int(np.isfinite(_parsed(filled)).sum())
    if items.is_text and are_numbers == len(filled) > 0:
        return "numeric"
    with_commas = pc.sum(pc.match_substring_regex(filled, DECIMAL_COMMA)).as_py() or 0
    if 2 * with_commas > len(filled):
        problems.append(
            f"{items.path}: column {name!r} has decimal commas, as {filled[0].as_py()!r}. Write "
            f"points, or {name}:categorical."
        )
        return ""
    if 2 * are_numbers <= len(filled):
        return "categorical"
    problems.append(
        f"{items.path}: column {name!r} is text, and {are_numbers:,} of its {len(filled):,} values "
        f"are numbers. Write {name}:numeric or {name}:categorical."
    )
    return ""


def _as_lists(column: pa.Array) -> pa.ListArray:
    """Return (N,) lists of texts; a missing value is an empty list."""
    if _is_list(column.type):
        lists = column.cast(pa.large_list(column.type.value_type))
        texts = pa.array(as_attribute(pa.chunked_array([lists.flatten()])), pa.string())
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    else:
        texts = pa.array(as_attribute(pa.chunked_array([column])), pa.string())
        lengths = np.ones(len(texts), dtype=np.int64)
    valid = texts.is_valid().to_numpy(zero_copy_only=False)
    item = np.repeat(np.arange(len(column)), lengths)[valid]
    counts = np.bincount(item, minlength=len(column))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets), texts.drop_null())


def _numbers(column: pa.Array, where: str, problems: list[str]) -> NDArray[np.float64] | None:
    """Return (N,) float64, NaN where a number is missing; None after a problem was added."""
    if not (_is_number(column.type) or _is_text(column.type)):
        problems.append(f"{where} is {column.type} and cannot be numeric.")
        return None
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if _is_text(column.type):
        missing |= pc.equal(column.fill_null(""), "").to_numpy(zero_copy_only=False)
        numbers = _parsed(column)
        bad = ~np.isfinite(numbers) & ~missing
    else:
        numbers = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
        bad = np.isinf(numbers)
    problems += [
        f"{where}, row {at + 1:,}: {column[at].as_py()!r} is not a number. Correct it, leave it "
        "empty, or write :categorical."
        for at in np.flatnonzero(bad)[:SHOWN].tolist()
    ]
    if bad.any():
        return None
    return np.where(missing, np.nan, numbers)


def _times(column: pa.Array, where: str, problems: list[str]) -> NDArray[np.int64] | None:
    """Return (N,) int64 milliseconds, `NO_TIME` where missing; None after a problem was added."""
    given = column.is_valid()
    if _is_text(column.type):
        given = pc.and_(given, pc.not_equal(column.fill_null(""), ""))
    rows = pc.indices_nonzero(given).to_numpy()
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    milliseconds, bad = parse_times("", column.take(pa.array(rows)), 1)
    problems += [
        f"{where}, row {int(rows[wrong.row - 1]) + 1:,}: {wrong.value} {wrong.reason}"
        for wrong in bad[:SHOWN]
    ]
    times = np.full(len(column), NO_TIME, dtype=np.int64)
    times[rows] = milliseconds
    return None if bad else times


def _vectors(
    ids: pa.StringArray, name: str, path: Path, item_column: str, problems: list[str]
) -> Collection[ContentColumn]:
    """Return the vectors of a file, or nothing after a problem was added."""
    table = read_items(path, item_column)
    lists = [n for n in table.columns.column_names if _is_list(table.columns[n].type)]
    if len(lists) != 1:
        have = ", ".join(map(repr, table.columns.column_names)) or "none"
        problems.append(
            f"{path}: vectors are one column of lists of numbers beside the item ids; the other "
            f"columns are {have}. Write such a Parquet file."
        )
        return []
    column = table.columns[lists[0]].combine_chunks()
    value_type = column.type.value_type
    present = pc.indices_nonzero(column.is_valid()).to_numpy()
    vectors = column.take(pa.array(present)).cast(pa.large_list(value_type))
    lengths = pc.list_value_length(vectors).to_numpy()
    if not len(lengths) or not _is_number(value_type):
        problems.append(f"{path}: {lists[0]!r} must have lists of numbers, got {column.type}.")
        return []
    length = int(lengths[0])
    other = np.flatnonzero(lengths != length)
    if len(other) or length == 0:
        at = int(present[other[0]] if len(other) else present[0])
        problems.append(
            f"{path}: the vector of item {table.ids[at].as_py()!r} has "
            f"{int(lengths[other[0]]) if len(other) else 0} numbers, that of "
            f"{table.ids[int(present[0])].as_py()!r} {length}. All must have the same length."
        )
        return []
    flat = vectors.flatten().cast(pa.float32()).fill_null(np.nan).to_numpy()
    matrix = flat.reshape(-1, length)
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    problems += [
        f"{path}: the vector of item {table.ids[int(present[at])].as_py()!r} has NaN or infinite "
        "numbers. Leave the vector out where there is none."
        for at in bad[:SHOWN]
    ]
    row_of = np.append(np.full(len(table.ids), -1, dtype=np.int64), -1)  # the last: no row
    row_of[present] = np.arange(len(present))
    rows = row_of[pc.index_in(ids, value_set=table.ids).fill_null(-1).to_numpy()]
    if (rows < 0).all():
        problems.append(f"{path} has no vector of an item of the items file. Check the item ids.")
    return [ContentColumn(name, "vector", matrix=matrix, rows=rows)]


def _filled(column: pa.Array) -> pa.Array:
    """Return the texts without missing ones."""
    texts = column.drop_null()
    return texts.filter(pc.not_equal(texts, ""))


def _parsed(texts: pa.Array) -> NDArray[np.float64]:
    """Return texts as numbers, NaN where they are none."""
    pattern = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
    is_number = pc.match_substring_regex(texts.fill_null(""), pattern)
    trimmed = pc.utf8_trim_whitespace(pc.if_else(is_number, texts, pa.scalar(None, texts.type)))
    numbers: NDArray[np.float64] = trimmed.cast(pa.float64()).fill_null(np.nan).to_numpy()
    return numbers


def _is_list(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists)


def _is_number(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(is_kind(kind) for is_kind in kinds)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
