"""The catalogue: item ids outside (strings), item indices inside (0…N-1), counts, attributes.

Knows what is popular and which items a filter allows. Knows nothing of vectors or scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.errors import BundleRefused, UnknownAttribute, UnknownItem

ID_COLUMN = "item_id"
COUNT_COLUMN = "count"

Filter = Mapping[str, Sequence[str]]  # {attribute: [values]}: OR within, AND across


@dataclass(frozen=True)
class Catalogue:
    """All items a model knows, in the order of their indices.

    item_ids: N distinct strings; counts: (N,) int64 clicks in training; attributes: name → N
    texts, None where an item has no value.
    """

    item_ids: tuple[str, ...]
    counts: NDArray[np.int64]
    attributes: Mapping[str, Sequence[str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.item_ids:
            raise BundleRefused("The catalogue has no items. Train on a click log that has some.")
        if len(self._index) != len(self.item_ids):
            raise BundleRefused("The catalogue names an item id twice. Train the bundle anew.")
        columns = {COUNT_COLUMN: self.counts, **self.attributes}
        for name, values in columns.items():
            if len(values) != len(self.item_ids):
                raise BundleRefused(
                    f"The catalogue has {len(self.item_ids):,} items but {len(values):,} values "
                    f"of {name!r}. Train the bundle anew."
                )

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {item_id: index for index, item_id in enumerate(self.item_ids)}

    def find(self, item_id: str) -> int | None:
        """The item's index, or None where the catalogue does not have it."""
        return self._index.get(item_id)

    def index(self, item_id: str) -> int:
        """The item's index; raises `UnknownItem`."""
        found = self.find(item_id)
        if found is None:
            raise UnknownItem(item_id, known=len(self))
        return found

    @cached_property
    def by_popularity(self) -> NDArray[np.int64]:
        """(N,) item indices, the most clicked first."""
        return np.lexsort((np.arange(len(self)), -self.counts))

    @cached_property
    def popularity(self) -> NDArray[np.float32]:
        """(N,) float32 in (0, 1]: most clicked first, no two items equal.

        Equal counts stand in the order of the item index, so the popular list never wobbles.
        """
        scores = np.empty(len(self), dtype=np.float32)
        scores[self.by_popularity] = np.arange(len(self), 0, -1, dtype=np.float64) / len(self)
        return scores

    def allowed(self, wanted: Filter) -> NDArray[np.bool_]:
        """(N,) bool: items whose attributes have one of the wanted values, for each attribute."""
        mask = np.ones(len(self), dtype=bool)
        for attribute, values in wanted.items():
            if attribute not in self.attributes:
                raise UnknownAttribute(attribute, sorted(self.attributes))
            texts, codes = self._coded[attribute]
            wanted_codes = [texts[value] for value in values if value in texts]
            mask &= np.isin(codes, wanted_codes)
        return mask

    @cached_property
    def _coded(self) -> dict[str, tuple[dict[str, int], NDArray[np.int32]]]:
        """Each attribute as small integers: a filter compares N numbers, not N texts."""
        coded = {}
        for name, values in self.attributes.items():
            texts = {
                text: code for code, text in enumerate(dict.fromkeys(values)) if text is not None
            }
            codes = np.array([-1 if v is None else texts[v] for v in values], dtype=np.int32)
            coded[name] = (texts, codes)
        return coded

    def write(self, path: Path) -> None:
        columns: dict[str, pa.Array] = {
            ID_COLUMN: pa.array(self.item_ids, pa.string()),
            COUNT_COLUMN: pa.array(self.counts, pa.int64()),
        }
        for name, values in self.attributes.items():
            columns[name] = pa.array(list(values), pa.string())
        pq.write_table(pa.table(columns), path)


def read_catalogue(path: Path) -> Catalogue:
    """The catalogue of a bundle; raises `BundleRefused` where the file cannot be one."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as broken:
        raise BundleRefused(f"{path} is not a readable Parquet file ({broken}).") from broken
    names = table.column_names
    if names[:1] != [ID_COLUMN] or COUNT_COLUMN not in names:
        raise BundleRefused(
            f"{path} must begin with the columns {ID_COLUMN!r} and {COUNT_COLUMN!r}, got {names}."
        )
    texts = {name: table[name].to_pylist() for name in names if name != COUNT_COLUMN}
    return Catalogue(
        item_ids=tuple(texts.pop(ID_COLUMN)),
        counts=table[COUNT_COLUMN].to_numpy().astype(np.int64),
        attributes=texts,
    )
