"""Content in training: what is known about the items of a catalogue, and its learned numbers.

The formula is in `recsys/content/model.py`. The items with clicks come first in the catalogue; they
alone have a vector and a bias of their own, are sampled, and decide which values have a row and how
numbers are standardised. The items without a click follow, with the content part alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data.content import ContentColumn, ItemContent
from recsys.content.encoder import ContentEncoder, ContentTables
from recsys.content.model import ContentSum
from recsys.content.new_items import NewItemTerm
from recsys.content.schema import (
    INTERCEPT,
    SEPARATOR,
    ContentField,
    ContentSchema,
    Cross,
    crossed_names,
    standardised,
)
from recsys.content.similar_items import MOST_ITEMS, ClickedContents, evenly
from recsys.model.cells import glorot
from recsys.model.gru4rec import unit
from recsys.ragged import offsets_of, spread

CONTENT_VERSION = 2  # raise it where the same content gives other weights or places than before
LEAST_ITEMS = 3  # clicked items that share a value with a row of its own
MOST_VALUES = 1 << 15  # of a field or cross with rows of their own, the most frequent ones
NO_TERM = NewItemTerm()
ITEMS_AT_ONCE = 1 << 14  # whose content parts are computed together at export


@dataclass(frozen=True)
class ContentRows:
    """Content of some items, as `ContentSum` reads it."""

    codes: Tensor  # (entries,) int64
    offsets: Tensor  # (items + 1,) int64
    weights: Tensor  # (entries,) float32
    dense: Tensor  # (items, columns) float32

    def sum(self, values: Tensor, projection: Tensor) -> Tensor:
        """Return `ContentSum` of these items, (items, width) float32."""
        formula = ContentSum()
        content: Tensor = formula(
            values, projection, self.codes, self.offsets, self.weights, self.dense
        )
        return content


@dataclass(frozen=True)
class ContentFeatures:
    """Content of all items of a catalogue, which training only reads."""

    schema: ContentSchema
    rows: ContentRows  # of N items
    center: Tensor  # (columns,) float32
    factor: Tensor  # (columns,) float32

    def __deepcopy__(self, memo: Any) -> "ContentFeatures":
        """Return itself: copies of weights share it."""
        return self

    @classmethod
    def of(
        cls,
        content: ItemContent,
        item_ids: Sequence[str],
        clicked: int,
        base: ContentEncoder | None = None,
    ) -> "ContentFeatures":
        """Arrange the content for a catalogue.

        Args:
            content: Content of the items file.
            item_ids: N items, those with clicks first.
            clicked: Number of items with clicks.
            base: Encoder with the same fields whose numbers are learned on. Its values keep their
                rows, the others that are shared follow, and numbers are standardised as before.
        """
        rows = content.rows_of(item_ids)
        known = {} if base is None else {one.name: one.values for one in base.schema.fields}
        coded = [
            _Coded.of(column, rows, clicked, known.get(column.name, ()))
            for column in content.columns
        ]
        crosses = _crosses(content.columns) if base is None else base.schema.crosses
        joined = [
            _Coded.of(_joined(content.columns, cross), rows, clicked, cross.values)
            for cross in crosses
        ]
        schema = ContentSchema(
            tuple(one.field for one in coded),
            tuple(
                replace(cross, values=one.field.values)
                for cross, one in zip(crosses, joined, strict=True)
            ),
        )
        dense = np.full((len(item_ids), schema.columns), np.nan, dtype=np.float32)
        dense[:, 0] = 1.0
        center = np.zeros(schema.columns, dtype=np.float32)
        factor = np.ones(schema.columns, dtype=np.float32)
        if base is not None:
            center, factor = base.tables.center.numpy(), base.tables.factor.numpy()
        items, codes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        weights = [np.zeros(0, np.float32)]
        valued = [one for one in coded if one.field.has_values] + joined
        for one, part in zip(valued, schema.value_rows, strict=True):
            items.append(one.item)
            codes.append(one.code + part.first)
            weights.append(one.weight)
        for one, (field, column) in zip(coded, schema.columns_of(), strict=True):
            if field.columns:
                end = column + field.columns - 1
                dense[:, column:end] = one.numbers
                dense[:, end] = np.isnan(one.numbers).any(axis=1)
                if base is None:
                    center[column:end], factor[column:end] = _scale(one.numbers[:clicked])
        item = np.concatenate(items)
        order = np.argsort(item, kind="stable")
        lengths = np.bincount(item, minlength=len(item_ids))
        arranged = ContentRows(
            torch.from_numpy(np.concatenate(codes)[order]),
            torch.from_numpy(offsets_of(lengths)),
            torch.from_numpy(np.concatenate(weights)[order]),
            torch.from_numpy(standardised(dense, center, factor)),
        )
        return cls(schema, arranged, torch.from_numpy(center), torch.from_numpy(factor))

    def __len__(self) -> int:
        return len(self.rows.dense)

    def of_items(self, items: Tensor) -> ContentRows:
        """Return the content of some items; items: (items,) int64 item indices."""
        starts = self.rows.offsets[items]
        lengths = self.rows.offsets[items + 1] - starts
        offsets = torch.zeros(len(items) + 1, dtype=torch.int64, device=items.device)
        torch.cumsum(lengths, 0, out=offsets[1:])
        at = torch.repeat_interleave(starts - offsets[:-1], lengths)
        at += torch.arange(len(at), device=items.device)
        return ContentRows(
            self.rows.codes[at], offsets, self.rows.weights[at], self.rows.dense[items]
        )

    def to(self, device: torch.device) -> "ContentFeatures":
        """Return the features on this device."""
        rows = self.rows
        parts = (rows.codes, rows.offsets, rows.weights, rows.dense)
        moved = ContentRows(*(part.to(device) for part in parts))
        scale = self.center.to(device), self.factor.to(device)
        return ContentFeatures(self.schema, moved, *scale)


@dataclass
class ContentWeights:
    """Learned numbers of the content, beside what is known about the items."""

    features: ContentFeatures
    values: Tensor  # (rows, H + 1) float32; a step updates the rows that it touches
    projection: nn.Parameter  # (columns, H + 1) float32
    new_items: NewItemTerm = NO_TERM  # chosen after training

    @classmethod
    def fresh(
        cls, features: ContentFeatures, hidden: int, generator: torch.Generator
    ) -> "ContentWeights":
        """Return random weights (Glorot uniform); of biases, numbers and absences they are 0.

        Hence numbers do not count in a comparison of contents until training moves them.
        """
        schema = features.schema
        values = glorot(torch.Size((max(schema.rows, 1), hidden + 1)), generator)
        projection = glorot(torch.Size((schema.columns, hidden + 1)), generator)
        values[:, -1] = projection[:, -1] = 0.0
        projection[INTERCEPT:] = 0.0
        return cls(features, values, nn.Parameter(projection))

    @classmethod
    def continued(cls, features: ContentFeatures, base: ContentEncoder) -> "ContentWeights":
        """Return the numbers of an encoder; a new value begins as one without a row of its own.

        So every item has the vector that the encoder gives it. features: arranged with `base`.
        """
        old = base.tables
        values = old.values.new_zeros(max(features.schema.rows, 1), old.values.size(1))
        parts = zip(features.schema.value_rows, base.schema.value_rows, strict=True)
        for now, before in parts:
            rows = old.values[before.first : before.first + len(before)]
            values[now.first : now.first + len(now)] = rows[0]
            values[now.first : now.first + len(before)] = rows
        return cls(features, values, nn.Parameter(old.projection.clone()))

    def tensors(self) -> dict[str, Tensor]:
        """Return the learned numbers by their names in checkpoints, without gradients."""
        return {"content.values": self.values, "content.projection": self.projection.detach()}

    def to(self, device: torch.device) -> "ContentWeights":
        """Return the weights on this device."""
        projection = nn.Parameter(self.projection.detach().to(device))
        values = self.values.to(device)
        return ContentWeights(self.features.to(device), values, projection, self.new_items)

    def parts(self, first: int) -> Tensor:
        """Return what the content gives to the items from `first` on, (items, H + 1) float32."""
        return self._parts_of(torch.arange(first, len(self.features), device=self.values.device))

    @torch.no_grad()
    def _parts_of(self, items: Tensor) -> Tensor:
        return torch.cat(
            [
                self.features.of_items(block).sum(self.values, self.projection)
                for block in torch.split(items, ITEMS_AT_ONCE)
            ]
        )

    def encoder(
        self, matrix: Tensor, bias: Tensor, *, normalizes: bool, others: Sequence[str] = ()
    ) -> ContentEncoder:
        """Return the encoder of new items.

        Args:
            matrix: (clicked, H) float32, vectors of the items with clicks.
            bias: (clicked,) float32.
            normalizes: As for `ContentEncoder`; the vectors are scaled here.
            others: As for `ContentEncoder`.
        """
        compared = torch.from_numpy(evenly(len(bias), MOST_ITEMS)).to(bias.device)
        vectors = unit(matrix[compared]) if normalizes else matrix[compared]
        own = torch.cat([vectors, bias[compared].unsqueeze(1)], dim=1)
        similar = ClickedContents.of(self._parts_of(compared), own)
        features, projection = self.features, self.projection.detach()
        return ContentEncoder(
            features.schema,
            ContentTables(self.values, projection, features.center, features.factor),
            ContentSum(),
            new_items=self.new_items,
            similar=similar,
            normalizes=normalizes,
            others=others,
        )


@dataclass(frozen=True)
class _Coded:
    """One field with the values and numbers of N items."""

    field: ContentField
    item: NDArray[np.int64]  # (entries,)
    code: NDArray[np.int64]  # (entries,) from 0, the value without a row of its own
    weight: NDArray[np.float32]  # (entries,)
    numbers: NDArray[np.float32]  # (N, numbers) NaN where missing

    @classmethod
    def of(
        cls,
        column: ContentColumn,
        rows: NDArray[np.int64],
        clicked: int,
        known: Sequence[str] = (),
    ) -> "_Coded":
        """Code a column.

        Args:
            column: The column.
            rows: (N,) int64, the row of each item in the column, -1 where it has none.
            clicked: Number of items with clicks.
            known: Values that have the first rows.
        """
        if column.texts is not None:
            return cls._of_texts(column, rows, clicked, known)
        nothing = np.zeros(0, dtype=np.int64)
        numbers = np.zeros((len(rows), 0), dtype=np.float32)
        if column.numbers is not None:
            numbers = np.append(column.numbers, np.nan)[rows].astype(np.float32)[:, None]
        length = 0
        if column.matrix is not None and column.rows is not None:
            length = column.matrix.shape[1]
            at = np.append(column.rows, -1)[rows]
            numbers = np.full((len(rows), length), np.nan, dtype=np.float32)
            numbers[at >= 0] = column.matrix[at[at >= 0]]
        field = ContentField(column.name, column.kind, length=length)
        return cls(field, nothing, nothing, nothing.astype(np.float32), numbers)

    @classmethod
    def _of_texts(
        cls, column: ContentColumn, rows: NDArray[np.int64], clicked: int, known: Sequence[str]
    ) -> "_Coded":
        assert column.texts is not None, "a categorical column has texts"
        encoded = column.texts.flatten().dictionary_encode()
        distinct = max(len(encoded.dictionary), 1)
        codes = encoded.indices.to_numpy().astype(np.int64)
        offsets = np.append(column.texts.offsets.to_numpy(), 0)
        present = np.flatnonzero(rows >= 0)
        starts = offsets[rows[present]]
        lengths = offsets[rows[present] + 1] - starts
        pairs = np.repeat(present, lengths) * distinct + codes[spread(starts, lengths)]
        item, code = np.divmod(np.unique(pairs), distinct)
        items = np.bincount(code[item < clicked], minlength=distinct)
        most = np.argsort(-items, kind="stable")[:MOST_VALUES]
        shared = np.sort(most[items[most] >= LEAST_ITEMS])
        own = encoded.dictionary.take(shared).to_pylist()
        values = tuple(dict.fromkeys([*known, *own]))
        found = pc.index_in(encoded.dictionary, value_set=pa.array(values, pa.string()))
        place: NDArray[np.int64] = found.fill_null(-1).to_numpy().astype(np.int64) + 1
        weight = (1 / np.bincount(item, minlength=len(rows))[item]).astype(np.float32)
        field = ContentField(column.name, column.kind, values)
        return cls(field, item, place[code], weight, np.zeros((len(rows), 0), np.float32))


def _crosses(columns: Sequence[ContentColumn]) -> list[Cross]:
    """Return the crosses of these columns, without values."""
    names = [column.name for column in columns if column.kind == "categorical"]
    return [Cross(together) for together in crossed_names(names)]


def _joined(columns: Sequence[ContentColumn], cross: Cross) -> ContentColumn:
    """Return the values of a cross as a categorical column; a missing part leaves it empty."""
    texts_of = {column.name: column.texts for column in columns}
    texts = [_first(texts_of[name]) for name in cross.names]
    joined = pc.binary_join_element_wise(*texts, pa.scalar(SEPARATOR, pa.large_string()))
    has_value = joined.is_valid().to_numpy(zero_copy_only=False)
    lists = pa.LargeListArray.from_arrays(offsets_of(has_value), joined.drop_null())
    return ContentColumn(cross.name, "categorical", texts=lists)


def _first(lists: pa.LargeListArray | None) -> pa.Array:
    """Return the text of each list of a categorical column, null where it is empty."""
    assert lists is not None, "a categorical column has texts"
    offsets = lists.offsets.to_numpy()
    is_empty = np.diff(offsets) == 0
    return lists.flatten().cast(pa.large_string()).take(pa.array(offsets[:-1], mask=is_empty))


def _scale(numbers: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return center and factor: numbers get deviation 1, vectors mean square length 1.

    numbers: (clicked, columns), NaN where missing.
    """
    present = numbers[~np.isnan(numbers).any(axis=1)].astype(np.float64)
    if not len(present):
        return np.zeros(numbers.shape[1], np.float32), np.ones(numbers.shape[1], np.float32)
    center = present.mean(axis=0)
    square = float(((present - center) ** 2).sum(axis=1).mean())
    factor = 1 / np.sqrt(square) if square > 0 else 1.0
    return center.astype(np.float32), np.full(len(center), factor, dtype=np.float32)
