"""The file `retrieval.index` of a bundle: each kind of index reads its own."""

from pathlib import Path

from recsys.candidates import Candidates, IndexSettings
from recsys.item_lists import ItemLists
from recsys.quantised import QuantisedItems


def read_index_file(path: Path, settings: IndexSettings, items: int, width: int) -> Candidates:
    """An index of `items` vectors; raises `BundleRefused`.

    width: H, numbers of an item vector without its bias.
    """
    kind: type[ItemLists] | type[QuantisedItems] = QuantisedItems
    if settings.kind == "lists":
        kind = ItemLists
    return kind.read(path, settings, items, width)
