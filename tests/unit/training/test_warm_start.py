"""Warm start: old items keep order and rows, new rows are means."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.batches.selection import Selection
from data.sessions import Sessions, known_items
from recsys.bundle.manifest import Manifest
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import BadInput
from recsys.model.gru4rec import ModelSize
from tests.support.training.builders import words
from training.model.weights import Weights
from training.recipe import Recipe
from training.trainer import FromScratch, Initialiser
from training.warm_start import BaseModel, WarmStart, continued_items, merged_attributes

TINY = Recipe(hidden=4)
IDS = st.lists(st.sampled_from("abcdefghij"), min_size=1, unique=True)


def base_model_of(item_ids: str, **training: object) -> BaseModel:
    """Return a base model of these items with random weights, none of them zero."""
    size = ModelSize(len(item_ids), TINY.hidden, TINY.layers)
    weights = Weights.fresh(size, torch.Generator().manual_seed(3))
    weights.bias.copy_(torch.arange(1.0, 1.0 + len(item_ids)))
    empty: dict[str, str] = {}
    manifest = Manifest(1, "parent", "", size, 50, {}, {}, training, empty, empty)
    catalogue = Catalogue(tuple(item_ids), np.arange(1, 1 + len(item_ids)))
    return BaseModel(manifest, catalogue, weights, TINY)


def begin(start: WarmStart, clicks: Sessions) -> tuple[Catalogue, Weights]:
    catalogue = start.catalogue(clicks)
    indexed = Selection(clicks).indexed(catalogue.item_ids)
    return catalogue, start.weights(catalogue, indexed, TINY, torch.Generator().manual_seed(1))


@given(old=IDS, clicked=IDS)
def test_the_old_order_holds_and_new_items_follow_in_theirs(
    old: list[str], clicked: list[str]
) -> None:
    kept = continued_items(old, clicked, drop_vanished=False)
    dropped = continued_items(old, clicked, drop_vanished=True)

    assert list(kept[: len(old)]) == old
    assert list(kept[len(old) :]) == [item for item in clicked if item not in old]
    assert list(dropped) == [item for item in kept if item in clicked]


@given(old=IDS, clicked=IDS, drop=st.booleans())
def test_every_old_item_keeps_its_row(old: list[str], clicked: list[str], drop: bool) -> None:
    clicks, base_model = words("".join([*clicked, old[0]])), base_model_of("".join(old))
    catalogue, weights = begin(WarmStart(base_model, drop), clicks)

    assert set(catalogue.item_ids) >= set(known_items(clicks))
    for at, item_id in enumerate(catalogue.item_ids):
        before = base_model.catalogue.find(item_id)
        if before is not None:
            assert torch.equal(weights.matrix[at], base_model.weights.matrix[before])
            assert weights.bias[at] == base_model.weights.bias[before]
    for name, tensor in base_model.weights.model.named_parameters():
        assert torch.equal(tensor, dict(weights.model.named_parameters())[name])


def test_a_new_row_is_the_mean_of_the_old_rows_clicked_beside_it() -> None:
    base_model = base_model_of("abc")
    _, weights = begin(WarmStart(base_model), words("axb", "ax", "cb"))

    a, b, _ = base_model.weights.matrix
    torch.testing.assert_close(weights.matrix[3], (2 * a + b) / 3)
    assert weights.bias[3].item() == pytest.approx((2 * 1 + 2) / 3)


def test_the_last_click_of_a_session_is_not_beside_the_first_of_the_next() -> None:
    base_model = base_model_of("abc")
    _, weights = begin(WarmStart(base_model), words("ab", "xc"))

    torch.testing.assert_close(weights.matrix[3], base_model.weights.matrix[2])


def test_a_new_row_without_old_neighbours_is_the_mean_of_all_old_rows() -> None:
    base_model = base_model_of("abc")
    _, weights = begin(WarmStart(base_model), words("xy", "ab"))

    torch.testing.assert_close(weights.matrix[3], base_model.weights.matrix.mean(0))


def test_dropped_rows_do_not_shape_new_ones() -> None:
    base_model = base_model_of("abc")
    catalogue, weights = begin(WarmStart(base_model, drop_vanished=True), words("xy", "cb"))

    assert list(catalogue.item_ids) == ["b", "c", "x", "y"]
    torch.testing.assert_close(weights.matrix[2], base_model.weights.matrix[1:].mean(0))


def test_a_warm_start_does_not_change_the_base_model() -> None:
    base_model = base_model_of("ab")
    before = {name: tensor.clone() for name, tensor in base_model.weights.tensors().items()}
    _, weights = begin(WarmStart(base_model), words("ab"))
    for tensor in weights.tensors().values():
        tensor.fill_(7.0)

    for name, tensor in base_model.weights.tensors().items():
        assert torch.equal(tensor, before[name]), name


def test_clicks_on_none_of_the_old_items_are_refused() -> None:
    with pytest.raises(BadInput, match="none of their 2 items is among its 3"):
        WarmStart(base_model_of("abc")).catalogue(words("xy"))


def test_counts_are_those_of_the_new_clicks_and_at_least_one() -> None:
    catalogue = WarmStart(base_model_of("abc")).catalogue(words("axa"))

    assert dict(zip(catalogue.item_ids, catalogue.counts.tolist(), strict=True)) == {
        "a": 2, "b": 1, "c": 1, "x": 1
    }  # fmt: skip


def test_the_record_has_the_whole_lineage() -> None:
    about = WarmStart(base_model_of("abc", lineage=["first", "second"])).record(words("axy"))

    assert about == {
        "parent": "parent",
        "lineage": ["first", "second", "parent"],
        "new_items": 2,
        "vanished_items": 2,
        "drop_vanished": False,
    }


def test_initialisers_have_different_fingerprints() -> None:
    base_model = base_model_of("ab")
    other = dataclasses.replace(
        base_model, manifest=dataclasses.replace(base_model.manifest, model_id="other")
    )
    starts: list[Initialiser] = [
        WarmStart(base_model),
        WarmStart(base_model, drop_vanished=True),
        WarmStart(other),
        FromScratch(),
    ]

    assert len({start.fingerprint for start in starts}) == len(starts)


@pytest.mark.parametrize("name", ["from scratch", "warm start"])
def test_an_initialiser_gives_the_catalogue_its_attributes(name: str) -> None:
    attributes = {"brand": {"b": "Aurora", "x": "Novel"}}
    initialiser: Initialiser = (
        FromScratch(attributes)
        if name == "from scratch"
        else WarmStart(base_model_of("ab"), attributes=attributes)
    )

    catalogue = initialiser.catalogue(words("abx"))

    assert list(catalogue.item_ids) == ["a", "b", "x"]
    assert list(catalogue.attributes["brand"]) == [None, "Aurora", "Novel"]


def test_attributes_that_were_read_win_and_the_old_ones_stay() -> None:
    old = Catalogue(("a", "b"), np.array([1, 1]), {"brand": ["x", "y"], "colour": ["red", None]})

    merged = merged_attributes(old, {"brand": {"a": "z", "b": None, "c": "w"}})

    assert merged == {"brand": {"a": "z", "b": "y", "c": "w"}, "colour": {"a": "red", "b": None}}
    assert merged_attributes(None, {}) == {}


def test_weights_learn_from_sessions_after_the_cut_off_and_all_clicks_are_counted() -> None:
    clicks = words("ab", "bc", "ca")  # begin at 0, 1 and 2 seconds
    start = WarmStart(base_model_of("abc", cut_off="1970-01-01T00:00:00+00:00"), only_newer=True)

    learned = start.learned_part(Selection(clicks))

    assert learned.sessions().starts_ms.tolist() == [1000, 2000]
    assert start.catalogue(clicks).counts.tolist() == [2, 2, 2]


def test_clicks_without_a_session_after_the_cut_off_are_refused() -> None:
    start = WarmStart(base_model_of("abc", cut_off="1970-01-01T00:00:02+00:00"), only_newer=True)

    with pytest.raises(BadInput, match="none of their 3 sessions begins after its cut-off 1970"):
        start.learned_part(Selection(words("ab", "bc", "ca")))
