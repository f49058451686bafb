"""Schema of the content: which attributes and vectors an item may have, and how they are read.

A categorical attribute is a text, a number or true/false; a multi-valued one a list of these. A
number is standardised; one that is missing, as any other attribute, changes nothing but the
indicator of its absence. A vector has a fixed length. A time is the moment at which the item
appears; it has no part in the item's vector. Values of several categorical attributes that occur
together have rows of their own, too: a brand in one category is another thing than in the next.
"""

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recsys.errors import WrongContent

Kind = Literal["categorical", "multi", "numeric", "time", "vector"]
KINDS: tuple[str, ...] = get_args(Kind)
LARGEST = 5.0  # of a standardised number, so that no typing error moves an item far
INTERCEPT = 1  # columns before those of the fields: a constant 1
MOST_CROSSED = 6  # categorical attributes; with more, the first ones
SEPARATOR = "\x1f"  # between the values of a cross

Attributes = Mapping[str, object]
Vectors = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class ContentField:
    """One attribute or vector.

    Raises:
        ValueError: a part does not fit the kind.
    """

    name: str
    kind: Kind
    values: tuple[str, ...] = ()  # of a categorical or multi-valued field, with rows of their own
    length: int = 0  # of a vector

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}.")
        if (self.length > 0) != (self.kind == "vector"):
            raise ValueError(f"{self.kind} field {self.name!r} cannot have length {self.length}.")
        if self.values and not self.has_values:
            raise ValueError(f"{self.kind} field {self.name!r} cannot have values.")

    def describe(self) -> str:
        """Return name and kind, with the number of values or the length."""
        if self.has_values:
            return f"{self.name} ({self.kind}, {len(self.values):,} values)"
        if self.length:
            return f"{self.name} (vector of {self.length:,} numbers)"
        return f"{self.name} ({self.kind})"

    @property
    def has_values(self) -> bool:
        return self.kind in ("categorical", "multi")

    @property
    def columns(self) -> int:
        """Return its dense columns: its numbers, and the indicator of their absence."""
        numbers = {"numeric": 1, "vector": self.length}.get(self.kind, 0)
        return numbers + 1 if numbers else 0


@dataclass(frozen=True, slots=True)
class Cross:
    """Values of several categorical attributes that occur together.

    Source: crossed features of Cheng et al., DLRS 2016 (arXiv:1606.07792), section 3.1.

    Raises:
        ValueError: a part is not a text, or the attributes are not several.
    """

    names: tuple[str, ...]
    values: tuple[str, ...] = ()  # with rows of their own, as `together` joins them

    def __post_init__(self) -> None:
        if not all(type(text) is str for text in (*self.names, *self.values)):
            raise ValueError(f"a cross has texts alone, got {self.names!r}.")
        if len(set(self.names)) != len(self.names) or len(self.names) < 2:
            raise ValueError(f"a cross has two attributes at least, got {self.names!r}.")

    @property
    def name(self) -> str:
        return together(self.names)


def together(texts: Sequence[str]) -> str:
    """Return one text for several."""
    return SEPARATOR.join(texts)


def crossed_names(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return which categorical attributes are crossed: every pair, and all together."""
    names = names[:MOST_CROSSED]
    everything = [tuple(names)] if len(names) > 2 else []
    return [*combinations(names, 2), *everything]


@dataclass(frozen=True, slots=True)
class ValueRows:
    """Rows of one field or cross: one for all values without a row of their own, one for each."""

    name: str
    values: tuple[str, ...]
    first: int

    def __len__(self) -> int:
        return 1 + len(self.values)


@dataclass(frozen=True)
class ContentSchema:
    """Fields of the content, each with its rows and its dense columns; the crosses' rows follow."""

    fields: tuple[ContentField, ...]
    crosses: tuple[Cross, ...] = ()

    @property
    def rows(self) -> int:
        return sum(len(rows) for rows in self.value_rows)

    @property
    def columns(self) -> int:
        return INTERCEPT + sum(field.columns for field in self.fields)

    @cached_property
    def value_rows(self) -> list[ValueRows]:
        """Return the rows of each field with values, then those of each cross."""
        parts: list[ValueRows] = []
        valued: list[ContentField | Cross] = [one for one in self.fields if one.has_values]
        for one in [*valued, *self.crosses]:
            first = parts[-1].first + len(parts[-1]) if parts else 0
            parts.append(ValueRows(one.name, one.values, first))
        return parts

    def columns_of(self) -> list[tuple[ContentField, int]]:
        """Return each field with its first dense column."""
        column, starts = INTERCEPT, []
        for field in self.fields:
            starts.append((field, column))
            column += field.columns
        return starts

    @property
    def time(self) -> str | None:
        """Return the name of the attribute with the time at which an item appears, if any."""
        return next((field.name for field in self.fields if field.kind == "time"), None)

    @cached_property
    def _row_of(self) -> dict[str, dict[str, int]]:
        return {
            rows.name: {value: rows.first + 1 + at for at, value in enumerate(rows.values)}
            for rows in self.value_rows
        }

    def check(self, attributes: Attributes, vectors: Vectors, others: Collection[str] = ()) -> None:
        """Check the content of one item.

        Args:
            attributes: name → value; None is missing.
            vectors: name → numbers.
            others: further names of attributes, of which any value is right.

        Raises:
            WrongContent: the first problem; `field` names its attribute or vector.
        """
        kinds = {field.name: field for field in self.fields}
        named = [name for name, field in kinds.items() if field.kind != "vector"]
        images = [name for name, field in kinds.items() if field.kind == "vector"]
        for name, value in attributes.items():
            if name in named:
                _check_value(kinds[name], value)
            elif name not in others:
                raise _unknown("attribute", name, sorted({*named, *others}))
        for name, vector in vectors.items():
            if name not in images:
                raise _unknown("vector", name, images)
            _check_vector(kinds[name], vector)

    def entries(self, attributes: Attributes) -> tuple[list[int], list[float]]:
        """Return the rows of one item's values, and their weights; the attributes are checked."""
        texts = {
            field.name: _texts(attributes.get(field.name))
            for field in self.fields
            if field.has_values
        }
        for cross in self.crosses:
            parts = [text for name in cross.names for text in texts[name]]
            texts[cross.name] = [together(parts)] if len(parts) == len(cross.names) else []
        rows: list[int] = []
        weights: list[float] = []
        for part in self.value_rows:
            own = self._row_of[part.name]
            rows += [own.get(text, part.first) for text in texts[part.name]]
            weights += [1 / max(len(texts[part.name]), 1)] * len(texts[part.name])
        return rows, weights

    def dense(self, attributes: Attributes, vectors: Vectors) -> NDArray[np.float32]:
        """Return one item's dense numbers before they are standardised; NaN where one is missing.

        Returns:
            (columns,) float32; the constant and the indicators are final.
        """
        row = np.full(self.columns, np.nan, dtype=np.float32)
        row[0] = 1.0
        for field, column in self.columns_of():
            if not field.columns:
                continue
            source: Mapping[str, object] = vectors if field.kind == "vector" else attributes
            numbers = source.get(field.name)
            end = column + field.columns - 1
            row[end] = numbers is None
            if numbers is not None:
                row[column:end] = np.asarray(numbers, dtype=np.float32)
        return row


def standardised(
    dense: NDArray[np.float32], center: NDArray[np.float32], factor: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return (dense − center) · factor within ±`LARGEST`, 0 where a number is missing."""
    scaled: NDArray[np.float32] = np.clip((dense - center) * factor, -LARGEST, LARGEST)
    scaled[np.isnan(scaled)] = 0.0
    return scaled


def _texts(value: object) -> list[str]:
    """Return the distinct texts of an attribute with values; None is missing."""
    if value is None:
        return []
    given = value if isinstance(value, list | tuple) else [value]
    return list(dict.fromkeys(text for one in given if (text := as_text(one))))


def as_text(value: object) -> str:
    """Return a value of a categorical attribute as the items file's columns become text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _is_time(value: object) -> bool:
    """Return whether a value is a number since 1970, or ISO 8601, as an items file may have."""
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value.replace(" UTC", "Z"))
        except ValueError:
            return False
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_value(field: ContentField, value: object) -> None:
    name = f"attributes.{field.name}"
    if value is None:
        return
    if field.kind == "numeric":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise WrongContent(name, f"must be a number, got {value!r}.")
        if not math.isfinite(value):
            raise WrongContent(name, f"must be a finite number, got {value!r}.")
    elif field.kind == "time":
        if not _is_time(value):
            raise WrongContent(
                name, f"must be epoch seconds, milliseconds or ISO 8601, got {value!r}."
            )
    elif field.kind == "multi" and isinstance(value, list | tuple):
        for one in value:
            _check_categorical(name, one)
    else:
        _check_categorical(name, value)


def _check_categorical(name: str, value: object) -> None:
    if not isinstance(value, str | int | float) or (value != value):
        raise WrongContent(name, f"must be a text, a number or true or false, got {value!r}.")


def _check_vector(field: ContentField, vector: Sequence[float]) -> None:
    name = f"vectors.{field.name}"
    try:
        numbers = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError):
        numbers = np.zeros((1, 1), dtype=np.float32)
    if numbers.ndim != 1:
        raise WrongContent(name, f"must be a list of {field.length} numbers, got {vector!r:.60}.")
    if len(numbers) != field.length:
        raise WrongContent(name, f"must have {field.length} numbers, got {len(numbers)}.")
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise WrongContent(name, f"number {wrong[0]} must be finite, got {vector[wrong[0]]!r}.")


def _unknown(what: str, name: str, known: Sequence[str]) -> WrongContent:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    have = ", ".join(known) or "none"
    return WrongContent(
        f"{what}s.{name}", f"is not among the {what}s of the items.{hint} They have: {have}."
    )
