"""Items by words: which items have all of these words in their id or their attributes.

A catalogue and a text come in, item indices go out, the most clicked first. Letters are compared
without case and anywhere in a word, which needs no index: a million items are looked through in
tenths of a second, so the caller does it where nobody waits. Knows nothing of vectors or HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.catalogue.attributes import numbers
from recsys.catalogue.catalogue import Catalogue, Filter

MOST_WORDS = 8  # each costs a look at every text; further ones are not looked for


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A page of what was found, and how much there is of it."""

    total: int
    items: Sequence[int]


def search(
    catalogue: Catalogue, text: str, wanted: Filter, *, offset: int, limit: int
) -> SearchResult:
    """Items that have every word and pass the filter; the one whose id the text is comes first.

    Raises `UnknownAttribute`.
    """
    order = catalogue.by_popularity
    words = text.split()[:MOST_WORDS]
    if words or wanted:
        mask = np.array(catalogue.allowed(wanted))
        for word in words:
            mask &= _having(catalogue, word)
        order = order[mask[order]]
        named = catalogue.find(text.strip())
        if named is not None and mask[named]:
            order = np.concatenate([[named], order[order != named]])
    return SearchResult(len(order), order[offset : offset + limit].tolist())


def _having(catalogue: Catalogue, word: str) -> NDArray[np.bool_]:
    """(N,) bool: whose id or attribute has the word in it."""

    def test(texts: pa.StringArray) -> Any:
        return pc.match_substring(texts, word, ignore_case=True)

    mask = np.zeros(len(catalogue), dtype=bool)
    mask[numbers(pc.indices_nonzero(test(catalogue.item_ids.array)), np.uint64)] = True
    for labels in catalogue.attributes.values():
        mask |= labels.passing(test)
    return mask
