"""Item catalogue: item ids (strings), item indices (0 … N-1), click counts and attributes.

It ranks items by popularity and selects items by a filter. It has no vectors and no scores. Items
are not Python objects: a million take about 100 MB, with names and categories.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from functools import cached_property, lru_cache, partial, reduce
from operator import and_
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.allowed_items import AllowedItems
from recsys.catalogue.attributes import CategoricalAttribute, Range
from recsys.catalogue.filter_cache import FilterCache, FilterKey
from recsys.catalogue.id_map import IdMap, StringArray, buffer_values
from recsys.errors import BundleRefused, TextAttribute, UnknownAttribute, UnknownItem

ID_COLUMN = "item_id"
COUNT_COLUMN = "count"
CACHED_IDS = 1 << 15  # 10 MB at most; each request looks up the clicks of its session again
LISTED_VALUES = 100  # most frequent values of an attribute
CACHED_FILTER_VALUES, CACHED_FILTER_CHARACTERS = 20, 1000  # longer filters are not cached

# {attribute: [values] or range}: one of the values, or a number in the range; AND across attributes
Filter = Mapping[str, Sequence[str] | Range]


class Catalogue:
    """Items that a model knows, in the order of their indices."""

    def __init__(
        self,
        item_ids: Iterable[str],
        counts: NDArray[np.int64],
        attributes: Mapping[str, Iterable[str | None]] | None = None,
    ) -> None:
        """Build a catalogue.

        item_ids: N distinct strings; counts: (N,) int64 clicks in training; attributes: name →
        N strings, None where an item has no value.
        """
        self.item_ids = StringArray.of(item_ids)
        self.available: AllowedItems | None = None  # None where every item is available
        self.counts = counts
        self.attributes = {
            name: CategoricalAttribute.of(texts) for name, texts in (attributes or {}).items()
        }
        if not self.item_ids:
            raise BundleRefused("The catalogue has no items. Train on a click log that has some.")
        id_map = IdMap(self.item_ids)
        if id_map.duplicate is not None:
            raise BundleRefused(
                f"The catalogue has the item id {id_map.duplicate!r} twice. Train the bundle anew."
            )
        columns: dict[str, Sized] = {COUNT_COLUMN: self.counts, **self.attributes}
        for name, values in columns.items():
            if len(values) != len(self):
                raise BundleRefused(
                    f"The catalogue has {len(self):,} items but {len(values):,} values "
                    f"of {name!r}. Train the bundle anew."
                )
        # item id → index, None where the catalogue lacks the id
        self.find: Callable[[str], int | None] = lru_cache(maxsize=CACHED_IDS)(id_map.find)
        self._allowed = FilterCache(partial(_allowed, self.attributes, len(self)), len(self))

    def __len__(self) -> int:
        return len(self.item_ids)

    def index(self, item_id: str) -> int:
        """Return the index of an item; raise `UnknownItem`."""
        index = self.find(item_id)
        if index is None:
            raise UnknownItem(item_id, known=len(self))
        return index

    def known(self, item_ids: Iterable[str]) -> list[int]:
        """Return the indices of these items, without those that the catalogue lacks."""
        return [item for item_id in item_ids if (item := self.find(item_id)) is not None]

    def find_all(self, item_ids: Iterable[str]) -> NDArray[np.int64]:
        """Return the (n,) int64 indices of these items, -1 where the catalogue lacks one."""
        matches = pc.index_in(StringArray.of(item_ids).array, value_set=self.item_ids.array)
        indices: NDArray[np.int64] = matches.fill_null(-1).to_numpy().astype(np.int64)
        return indices

    @cached_property
    def by_popularity(self) -> NDArray[np.int32]:
        """(N,) item indices, the most clicked first."""
        return np.argsort(-self.counts, kind="stable").astype(np.int32)

    @cached_property
    def popularity(self) -> NDArray[np.float32]:
        """(N,) float32 in (0, 1]: most clicked first, no two items equal.

        Equal counts are ordered by item index, so the list of popular items is stable.
        """
        return shares_by_place(self.by_popularity)

    @cached_property
    def frequent_values(self) -> dict[str, tuple[int, list[tuple[str, int]]]]:
        """Attribute → number of distinct values, and the most frequent with their item counts.

        Takes tenths of a second for a million items, once.
        """
        return {
            name: values.most_frequent(LISTED_VALUES) for name, values in self.attributes.items()
        }

    def order_by_attributes(self) -> NDArray[np.int32]:
        """Return all items, (N,) int32, those with equal attributes as neighbours.

        An attribute with few values counts before one with many; see
        `CategoricalAttribute.sort_key`.
        """
        keys = [key for each in self.attributes.values() if (key := each.sort_key()) is not None]
        keys.sort(key=lambda key: int(key.max()), reverse=True)  # lexsort's last key counts first
        return np.lexsort([np.arange(len(self)), *keys]).astype(np.int32)

    def allowed(self, wanted: Filter) -> AllowedItems:
        """Return the items of which every wanted attribute has one of its wanted values.

        Requests with equal filters share the object. Raises as `check_filter` does.
        """
        self.check_filter(wanted)
        key: FilterKey = frozenset(
            (name, values if isinstance(values, Range) else frozenset(values))
            for name, values in wanted.items()
        )
        listed = [values for _, values in key if not isinstance(values, Range)]
        values = sum(map(len, listed))
        characters = sum(len(text) for texts in listed for text in texts)
        short = values <= CACHED_FILTER_VALUES and characters <= CACHED_FILTER_CHARACTERS
        return (self._allowed if short else self._allowed.make)(key)

    def check_filter(self, wanted: Filter, field: str = "filter") -> None:
        """Check that the items have these attributes, and a number where there is a range.

        Raises:
            UnknownAttribute: the items lack an attribute.
            TextAttribute: a range is of an attribute whose values are not all numbers.
        """
        self.check_attributes(wanted, field)
        for attribute, values in wanted.items():
            if isinstance(values, Range) and self.attributes[attribute].numbers is None:
                raise TextAttribute(attribute, f"{field}.{attribute}")

    def check_attributes(self, names: Iterable[str], field: str) -> None:
        """Raise `UnknownAttribute` if the items lack one of these attributes."""
        for name in names:
            if name not in self.attributes:
                raise UnknownAttribute(name, sorted(self.attributes), field)

    def attributes_of(self, item: int, names: Iterable[str]) -> dict[str, str]:
        """Return the attributes of an item; those without a value are left out."""
        texts = {name: self.attributes[name][item] for name in names}
        return {name: text for name, text in texts.items() if text is not None}

    def write(self, path: Path) -> None:
        """Write the Parquet file of a bundle."""
        columns: dict[str, pa.Array] = {
            ID_COLUMN: self.item_ids.array,
            COUNT_COLUMN: pa.array(self.counts, pa.int64()),
        }
        columns |= {name: attribute.array for name, attribute in self.attributes.items()}
        pq.write_table(pa.table(columns), path)


def shares_by_place(order: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return a score of each item that falls with its place, (N,) float32 in (0, 1].

    Args:
        order: (N,) int32, all items, that with the highest score first.
    """
    scores = np.empty(len(order), dtype=np.float32)
    scores[order] = np.arange(len(order), 0, -1, dtype=np.float64) / len(order)
    return scores


def _allowed(
    attributes: Mapping[str, CategoricalAttribute],
    items: int,
    wanted: FilterKey,
) -> AllowedItems:
    parts = [
        attributes[name].items_within(values)
        if isinstance(values, Range)
        else attributes[name].items_in(tuple(values))
        for name, values in wanted
    ]
    parts.sort(key=lambda part: part.count)
    return reduce(and_, parts) if parts else AllowedItems.of_mask(np.ones(items, dtype=bool))


def read_filter(texts: Iterable[str], attributes: Iterable[str]) -> dict[str, list[str]]:
    """Parse texts `attribute:value`; raise `UnknownAttribute`."""
    known = sorted(attributes, key=len, reverse=True)  # of "a" and "a:b", the longer matches
    wanted: dict[str, list[str]] = {}
    for text in texts:
        name = next((name for name in known if text.startswith(f"{name}:")), None)
        if name is None:
            raise UnknownAttribute(text.partition(":")[0], sorted(known))
        wanted.setdefault(name, []).append(text[len(name) + 1 :])
    return wanted


def read_catalogue(path: Path) -> Catalogue:
    """Read the catalogue of a bundle; raise `BundleRefused` where the file is not one."""
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if names[:1] != [ID_COLUMN] or COUNT_COLUMN not in names:
                raise BundleRefused(
                    f"{path} must begin with the columns {ID_COLUMN!r} and {COUNT_COLUMN!r}, "
                    f"got {names}."
                )
            attributes = [name for name in names if name not in (ID_COLUMN, COUNT_COLUMN)]
            catalogue = Catalogue(
                StringArray(_column(file, ID_COLUMN, pa.string())),
                buffer_values(_column(file, COUNT_COLUMN, pa.int64()), np.int64),
                {
                    name: CategoricalAttribute.of(_column(file, name, pa.string()))
                    for name in attributes
                },
            )
    except (OSError, pa.ArrowException) as broken:
        raise BundleRefused(f"{path} is not a readable Parquet file ({broken}).") from broken
    pa.default_memory_pool().release_unused()
    return catalogue


def _column(file: pq.ParquetFile, name: str, kind: pa.DataType) -> pa.Array:
    """Read one column, because reading takes several times its memory; refuse nulls in ids."""
    # one thread: memory that several threads allocate is not given back
    column = file.read([name], use_threads=False)[name].cast(kind).combine_chunks()
    column.validate(full=True)  # otherwise the first request would meet invalid UTF-8
    if column.null_count and name in (ID_COLUMN, COUNT_COLUMN):
        raise BundleRefused(f"{name!r} is missing in some rows of the catalogue. Train it anew.")
    return column
