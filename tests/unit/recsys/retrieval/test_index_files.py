"""A damaged or foreign index file is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recsys.bundle.load import read_index_file
from recsys.errors import BundleRefused
from recsys.retrieval.candidates import KINDS, IndexSettings
from recsys.retrieval.int8 import Int8Index
from recsys.retrieval.item_lists import ItemLists
from tests.support.bundles.small_indexes import HIDDEN, ITEMS, item_vectors


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_holds_no_index_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "retrieval.index"
    path.write_bytes(b"something else")

    with pytest.raises(BundleRefused, match="not a readable index"):
        read_index_file(path, IndexSettings(kind, 1.0, probes=1), ITEMS, HIDDEN)


@pytest.mark.parametrize(("items", "hidden"), [(ITEMS + 1, HIDDEN), (ITEMS, HIDDEN + 16)])
def test_an_index_of_another_size_is_refused(items: int, hidden: int, tmp_path: Path) -> None:
    path = tmp_path / "retrieval.index"
    index = Int8Index.of(*item_vectors(0.0), 1.0)
    index.write(path)

    with pytest.raises(BundleRefused, match="this bundle needs"):
        read_index_file(path, index.settings, items, hidden)


@pytest.mark.parametrize(
    ("lists", "common", "vectors", "message"),
    [
        (torch.zeros(ITEMS - 1, 2), torch.zeros(4), torch.zeros(4, 16), "not hold lists of 300"),
        (torch.zeros(ITEMS, 2), torch.zeros(4), torch.zeros(4, 32), "not hold lists of 300"),
        (torch.zeros(ITEMS), torch.zeros(4), torch.zeros(4, 16), "not hold lists of 300"),
        (torch.full((ITEMS, 2), ITEMS), torch.zeros(4), torch.zeros(4, 16), "outside the cat"),
        (torch.zeros(ITEMS, 2), torch.full((4,), -1), torch.zeros(4, 16), "outside the cat"),
    ],
)
def test_lists_of_unknown_items_are_refused(
    lists: Tensor, common: Tensor, vectors: Tensor, message: str, tmp_path: Path
) -> None:
    settings = IndexSettings("lists", 1.0, probes=1)
    path = tmp_path / "retrieval.index"
    ItemLists(lists.int(), common.int(), vectors, settings).write(path)

    with pytest.raises(BundleRefused, match=message):
        read_index_file(path, settings, ITEMS, HIDDEN)


@pytest.mark.parametrize(
    "wrong", [{"kind": "pq"}, {"bias_unit": 0.0}, {"bias_unit": 1}, {"probes": 0}, {"probes": 1.5}]
)
def test_settings_of_an_index_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|one of"):
        IndexSettings(**{"kind": "lists", "bias_unit": 1.0, "probes": 4, **wrong})
