"""Item search: find items that have all words of a query in their id or their attributes.

Words match without case and anywhere in a text, which needs no index. The picture in a `data:` URI
has no words. A search through a million items takes tenths of a second, so the service runs it in a
thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.catalogue.catalogue import Catalogue, Filter
from recsys.catalogue.id_map import buffer_values

MAX_WORDS = 8  # each is compared with every text; further words are ignored


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page of the matching items, and the total number of matches."""

    total: int
    items: Sequence[int]


def search(
    catalogue: Catalogue, text: str, wanted: Filter, *, offset: int, limit: int
) -> SearchResult:
    """Return items that have every word and pass the filter, the most clicked first.

    An item whose id is the text comes before all others. Raises `UnknownAttribute`.
    """
    order = catalogue.by_popularity
    words = text.split()[:MAX_WORDS]
    if words or wanted:
        mask = np.array(catalogue.allowed(wanted).mask)
        for word in words:
            mask &= _contains(catalogue, word)
        order = order[mask[order]]
        exact = catalogue.find(text.strip())
        if exact is not None and mask[exact]:
            order = np.concatenate([[exact], order[order != exact]])
    return SearchResult(len(order), order[offset : offset + limit].tolist())


def _contains(catalogue: Catalogue, word: str) -> NDArray[np.bool_]:
    """Return (N,) bool, true where the id or an attribute contains the word."""

    def has_word(texts: pa.StringArray) -> Any:
        return pc.match_substring(texts, word, ignore_case=True)

    def has_word_outside_data(texts: pa.StringArray) -> Any:
        return pc.and_not(has_word(texts), pc.starts_with(texts, "data:"))

    mask = np.zeros(len(catalogue), dtype=bool)
    mask[buffer_values(pc.indices_nonzero(has_word(catalogue.item_ids.array)), np.uint64)] = True
    for attribute in catalogue.attributes.values():
        mask |= attribute.matches(has_word_outside_data)
    return mask
