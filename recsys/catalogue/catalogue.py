"""The catalogue: item ids outside (strings), item indices inside (0…N-1), counts, attributes.

Knows what is popular and which items a filter allows. Knows nothing of vectors or scores. No item
is a Python object: a million of them take about 100 MB, with their names and categories.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.catalogue.attributes import CategoricalAttribute, StringArray, numbers
from recsys.catalogue.id_map import IdMap
from recsys.errors import BundleRefused, UnknownAttribute, UnknownItem

ID_COLUMN = "item_id"
COUNT_COLUMN = "count"
RECENT_IDS = 1 << 15  # looked up lately, 10 MB at most: a session's clicks are found at each click
SHOWN_VALUES = 100  # of an attribute, where they are listed
MASK_BYTES = 1 << 24  # of the filters asked for lately, whose items are remembered
REMEMBERED = 1000  # filters at most, and only short ones: anybody may send any text
REMEMBERED_VALUES, REMEMBERED_LETTERS = 20, 1000

Filter = Mapping[str, Sequence[str]]  # {attribute: [values]}: OR within, AND across


class Catalogue:
    """All items a model knows, in the order of their indices."""

    def __init__(
        self,
        item_ids: Iterable[str],
        counts: NDArray[np.int64],
        attributes: Mapping[str, Iterable[str | None]] | None = None,
    ) -> None:
        """item_ids: N distinct strings; counts: (N,) int64 clicks in training; attributes: name →
        N texts, None where an item has no value.
        """
        self.item_ids = StringArray.of(item_ids)
        self.counts = counts
        self.attributes = {
            name: CategoricalAttribute.of(texts) for name, texts in (attributes or {}).items()
        }
        if not self.item_ids:
            raise BundleRefused("The catalogue has no items. Train on a click log that has some.")
        lookup = IdMap(self.item_ids)
        if lookup.doubled is not None:
            raise BundleRefused(
                f"The catalogue names the item id {lookup.doubled!r} twice. Train the bundle anew."
            )
        columns: dict[str, Sized] = {COUNT_COLUMN: self.counts, **self.attributes}
        for name, values in columns.items():
            if len(values) != len(self):
                raise BundleRefused(
                    f"The catalogue has {len(self):,} items but {len(values):,} values "
                    f"of {name!r}. Train the bundle anew."
                )
        # item id → index, None where the catalogue does not have it
        self.find: Callable[[str], int | None] = lru_cache(maxsize=RECENT_IDS)(lookup.find)
        masks = min(max(MASK_BYTES // len(self), 1), REMEMBERED)
        self._allowed = lru_cache(maxsize=masks)(partial(_mask, self.attributes, len(self)))

    def __len__(self) -> int:
        return len(self.item_ids)

    def index(self, item_id: str) -> int:
        """The item's index; raises `UnknownItem`."""
        found = self.find(item_id)
        if found is None:
            raise UnknownItem(item_id, known=len(self))
        return found

    def find_all(self, item_ids: Iterable[str]) -> NDArray[np.int64]:
        """The index of every one of these, -1 where the catalogue does not have it."""
        found = pc.index_in(StringArray.of(item_ids).array, value_set=self.item_ids.array)
        places: NDArray[np.int64] = found.fill_null(-1).to_numpy().astype(np.int64)
        return places

    @cached_property
    def by_popularity(self) -> NDArray[np.int32]:
        """(N,) item indices, the most clicked first."""
        return np.argsort(-self.counts, kind="stable").astype(np.int32)

    @cached_property
    def popularity(self) -> NDArray[np.float32]:
        """(N,) float32 in (0, 1]: most clicked first, no two items equal.

        Equal counts stand in the order of the item index, so the popular list never wobbles.
        """
        scores = np.empty(len(self), dtype=np.float32)
        scores[self.by_popularity] = np.arange(len(self), 0, -1, dtype=np.float64) / len(self)
        return scores

    @cached_property
    def frequent_values(self) -> dict[str, tuple[int, list[tuple[str, int]]]]:
        """Attribute → how many distinct values it has, and the most frequent with their items.

        Tenths of a second for a million items, once.
        """
        return {
            name: labels.most_frequent(SHOWN_VALUES) for name, labels in self.attributes.items()
        }

    def allowed(self, wanted: Filter) -> NDArray[np.bool_]:
        """(N,) bool: items whose attributes have one of the wanted values, for each attribute.

        Several requests get the same array, which nobody may change.
        """
        for attribute in wanted:
            if attribute not in self.attributes:
                raise UnknownAttribute(attribute, sorted(self.attributes))
        key = frozenset((name, frozenset(texts)) for name, texts in wanted.items())
        values = sum(len(texts) for _, texts in key)
        letters = sum(len(text) for _, texts in key for text in texts)
        short = values <= REMEMBERED_VALUES and letters <= REMEMBERED_LETTERS
        return (self._allowed if short else self._allowed.__wrapped__)(key)

    def write(self, path: Path) -> None:
        columns: dict[str, pa.Array] = {
            ID_COLUMN: self.item_ids.array,
            COUNT_COLUMN: pa.array(self.counts, pa.int64()),
        }
        columns |= {name: labels.array for name, labels in self.attributes.items()}
        pq.write_table(pa.table(columns), path)


def _mask(
    attributes: Mapping[str, CategoricalAttribute],
    items: int,
    wanted: frozenset[tuple[str, frozenset[str]]],
) -> NDArray[np.bool_]:
    mask = np.ones(items, dtype=bool)
    for attribute, values in wanted:
        mask &= attributes[attribute].one_of(tuple(values))
    mask.flags.writeable = False
    return mask


def read_filter(texts: Iterable[str], attributes: Iterable[str]) -> Filter:
    """`attribute:value` as a `Filter`; raises `UnknownAttribute`."""
    known = sorted(attributes, key=len, reverse=True)  # of "a" and "a:b", the longer is meant
    wanted: dict[str, list[str]] = {}
    for text in texts:
        name = next((name for name in known if text.startswith(f"{name}:")), None)
        if name is None:
            raise UnknownAttribute(text.partition(":")[0], sorted(known))
        wanted.setdefault(name, []).append(text[len(name) + 1 :])
    return wanted


def read_catalogue(path: Path) -> Catalogue:
    """The catalogue of a bundle; raises `BundleRefused` where the file cannot be one."""
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if names[:1] != [ID_COLUMN] or COUNT_COLUMN not in names:
                raise BundleRefused(
                    f"{path} must begin with the columns {ID_COLUMN!r} and {COUNT_COLUMN!r}, "
                    f"got {names}."
                )
            attributes = [name for name in names if name not in (ID_COLUMN, COUNT_COLUMN)]
            found = Catalogue(
                StringArray(_column(file, ID_COLUMN, pa.string())),
                numbers(_column(file, COUNT_COLUMN, pa.int64()), np.int64),
                {
                    name: CategoricalAttribute.of(_column(file, name, pa.string()))
                    for name in attributes
                },
            )
    except (OSError, pa.ArrowException) as broken:
        raise BundleRefused(f"{path} is not a readable Parquet file ({broken}).") from broken
    pa.default_memory_pool().release_unused()
    return found


def _column(file: pq.ParquetFile, name: str, kind: pa.DataType) -> pa.Array:
    """One at a time, because reading takes several times a column; nulls only in attributes."""
    # one thread: what each of several has allocated is not given back
    column = file.read([name], use_threads=False)[name].cast(kind).combine_chunks()
    column.validate(full=True)  # bytes that are no UTF-8 would be found out by a request
    if column.null_count and name in (ID_COLUMN, COUNT_COLUMN):
        raise BundleRefused(f"{name!r} is missing in some rows of the catalogue. Train it anew.")
    return column
