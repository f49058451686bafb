"""Values of click files: ids, times and split labels, with a message for each bad value.

Ids are texts: `00123` stays `00123`. Times become whole milliseconds since 1970 (UTC), so that
clicks of one second keep their order.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MISSING_TEXTS = ("", "nan", "NaN", "null", "NULL", "None", "<NA>")  # they stand for a missing id
MAX_ID_LENGTH = 128  # characters, as in the HTTP API
# units of a time since 1970, each with the numbers from which it is the next one (as seconds the
# year 5138, as milliseconds 1973), and its milliseconds
UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")
UNIT_ENDS = np.array([1e11, 1e14, 1e17, 1e20])
UNIT_MS = np.array([1e3, 1.0, 1e-3, 1e-6, np.nan])
LAST_MS = 1e14  # the year 5138
YEAR_ONE_MS = -62_135_596_800_000  # the earliest time that calendars represent
DATE_NUMBERS = (19_900_101, 21_001_231)  # dates like 20140901; as seconds, days of August 1970
ADVICE = (
    "Use epoch seconds, milliseconds or ISO 8601 (2014-09-01T10:00:00Z), or give --time-format, "
    "such as '%d.%m.%Y %H:%M:%S'."
)
SPLITS = ("train", "valid", "test")


def similar_names(name: str, present: Sequence[str]) -> list[str]:
    """Return the column whose name is most like this one, or nothing where none is like it."""
    return difflib.get_close_matches(name, present, n=1, cutoff=0.5)


def missing_column(name: str, present: Sequence[str], option: str = "") -> str:
    """Return the message for a missing column, with the most similar name and the option to set."""
    near = similar_names(name, present)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    above = name.partition(".")[0]
    if above != name and above in present:
        hint = f" {above!r} holds a list, or fields of Parquet: write a row for each of its items."
    remedy = f" Set {option} to one of them." if option and present else ""
    return f"no column {name!r}.{hint} It has: {', '.join(map(repr, present)) or 'none'}.{remedy}"


@dataclass(frozen=True, slots=True)
class BadRow:
    """Unusable value; `row` counts data rows from 1, without the header."""

    row: int
    column: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"row {self.row:,}, {self.problem}"

    @property
    def problem(self) -> str:
        """Return the sentence without the row."""
        return f"{self.column}: {self.value} {self.reason}"


def bad_ids(column: str, texts: pa.Array, first_row: int) -> list[BadRow]:
    """Return the ids that are empty, NaN or longer than the API accepts."""
    empty = pc.or_kleene(
        pc.fill_null(pc.is_in(pc.utf8_trim_whitespace(texts), pa.array(MISSING_TEXTS)), True),
        pc.is_null(texts),
    )
    long = pc.fill_null(pc.greater(pc.utf8_length(texts), MAX_ID_LENGTH), False)
    problems = [
        BadRow(first_row + at, column, repr(texts[at].as_py() or ""), "is not an id.")
        for at in _positions(empty)
    ]
    problems += [
        BadRow(
            first_row + at,
            column,
            repr(texts[at].as_py()[:20] + "…"),
            f"has {len(texts[at].as_py())} characters; ids have at most {MAX_ID_LENGTH}.",
        )
        for at in _positions(long)
    ]
    return problems


def bad_splits(column: str, texts: pa.Array, first_row: int) -> list[BadRow]:
    """Return the split labels other than train, valid and test."""
    wrong = pc.invert(pc.fill_null(pc.is_in(texts, pa.array(SPLITS)), False))
    return [
        BadRow(first_row + at, column, repr(texts[at].as_py()), f"is none of {', '.join(SPLITS)}.")
        for at in _positions(wrong)
    ]


def parse_times(
    column: str, values: pa.Array, first_row: int, time_format: str | None = None
) -> tuple[NDArray[np.int64], list[BadRow]]:
    """Parse numbers since 1970 of any of `UNITS`, or ISO 8601 (UTC without an offset).

    time_format: as of `strptime`, how texts and numbers are written instead.

    Returns:
        (rows,) int64 milliseconds since 1970, 0 where a value is bad; and the bad values.
    """
    units = np.full(len(values), -1, dtype=np.int64)
    if pa.types.is_timestamp(values.type):
        stamps = values.cast(pa.timestamp("ms", tz=values.type.tz), safe=False)
        numbers = stamps.cast(pa.int64()).to_numpy(zero_copy_only=False).astype(np.float64)
    elif pa.types.is_boolean(values.type):
        numbers = np.full(len(values), np.nan)
    elif time_format is not None:
        texts = pd.Series(values.to_pandas()).astype(str)
        numbers = _since_1970(pd.to_datetime(texts, format=time_format, utc=True, errors="coerce"))
    else:
        numbers, units = _as_milliseconds(values)
    bad = ~np.isfinite(numbers) | (numbers >= LAST_MS) | (numbers < YEAR_ONE_MS)
    problems = [
        BadRow(
            first_row + at,
            column,
            repr(values[at].as_py()),
            f"is not a time. {ADVICE}"
            if time_format is None
            else f"is not a time of the form {time_format!r}, which --time-format says.",
        )
        for at in np.flatnonzero(bad).tolist()
    ]
    dates = np.flatnonzero((units == 0) & _are_dates(numbers / UNIT_MS[0])).tolist()
    problems += [
        BadRow(
            first_row + at,
            column,
            repr(values[at].as_py()),
            "is a date and not seconds since 1970. Give --time-format %Y%m%d, or the time.",
        )
        for at in dates
    ]
    usual = units[~bad & (units >= 0)].min(initial=len(UNITS) - 1)
    problems += [
        BadRow(
            first_row + at,
            column,
            repr(values[at].as_py()),
            f"is in {UNITS[units[at]]}, others are in {UNITS[usual]}. Give all times in one unit.",
        )
        for at in np.flatnonzero(~bad & (units > usual)).tolist()
    ]
    return np.where(bad, 0, np.round(numbers)).astype(np.int64), problems


def _as_milliseconds(values: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return milliseconds, NaN where a value is neither a number nor ISO 8601.

    BigQuery's `2014-09-01 10:00:00 UTC` is read as ISO 8601, too. The second array has the number
    of the unit in `UNITS`, -1 where a value is no number.
    """
    texts = pd.Series(values.to_pandas())
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    unread = np.isnan(numbers)
    units = np.searchsorted(UNIT_ENDS, np.abs(numbers), side="right")
    numbers = numbers * UNIT_MS[units]
    units[unread] = -1
    if unread.any():
        stamps = pd.to_datetime(
            texts[unread].astype(str).str.replace(" UTC", "Z"),
            format="ISO8601",
            utc=True,
            errors="coerce",
        )
        numbers[unread] = _since_1970(stamps)
    return numbers, units


def _since_1970(stamps: "pd.Series[pd.Timestamp]") -> NDArray[np.float64]:
    """Return milliseconds, NaN where there is no time."""
    since = stamps.dt.as_unit("ms").astype("int64").to_numpy(dtype=np.float64)
    return np.where(stamps.isna(), np.nan, since)


def _are_dates(seconds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark whole numbers that are dates written as 20140901, (rows,) bool."""
    first, last = DATE_NUMBERS
    in_range = (seconds >= first) & (seconds <= last)
    if not in_range.any():
        return in_range
    whole = np.where(in_range, seconds, 0).astype(np.int64)
    month, day = whole // 100 % 100, whole % 100
    calendar = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    found: NDArray[np.bool_] = in_range & (whole == seconds) & calendar
    return found


def as_texts(values: pa.Array) -> pa.Array:
    """Return ids as texts; whole numbers keep their digits."""
    return values if pa.types.is_string(values.type) else values.cast(pa.string())


def _positions(mask: pa.Array) -> list[int]:
    return [int(at) for at in np.flatnonzero(mask.to_numpy(zero_copy_only=False))]
