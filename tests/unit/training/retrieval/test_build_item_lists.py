"""Item lists of a large catalogue come from shortlists of similar clicks."""

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys.catalogue.catalogue import Catalogue
from recsys.predictor import Predictor
from recsys.retrieval.item_lists import ItemLists
from recsys.retrieval.rerank import query_vectors
from training.model.weights import Weights, eager_predictor
from training.recipe import Recipe
from training.retrieval import build_item_lists as building
from training.retrieval.build_item_lists import LIST_LENGTH, build_item_lists

ITEMS = 1500
RECIPE = Recipe(hidden=8)
UNIT = RECIPE.scale


def model_of(items: int, *, equal: bool = False) -> Predictor:
    """Return a model with random weights, or with the same vector for every item."""
    weights = Weights.fresh(RECIPE.size(items), torch.Generator().manual_seed(1))
    if equal:
        weights.matrix[:] = weights.matrix[0].clone()
    catalogue = Catalogue([f"i{at:05d}" for at in range(items)], np.arange(items) % 7 + 1)
    return eager_predictor(weights, catalogue, RECIPE)


@pytest.fixture(scope="module")
def model() -> Predictor:
    return model_of(ITEMS)


def built(model: Predictor, shortlist: int | None) -> ItemLists:
    return build_item_lists(model, RECIPE.scale, UNIT, shortlist=shortlist)


def lists_of(index: ItemLists) -> Tensor:
    return index.tensors()[0].long()


def scores_of(model: Predictor, lists: Tensor) -> Tensor:
    """Return the scores of the items of each item's list, (N, length) float32."""
    queries = query_vectors(model.hidden_after(torch.arange(len(lists))), RECIPE.scale)
    exact = model.exact_retrieval
    return (
        torch.einsum("nch,nh->nc", exact.matrix[lists], torch.from_numpy(queries))
        + (exact.bias[lists])
    )


def shared(lists: Tensor, others: Tensor) -> float:
    """Return the share of the other lists' items that these lists hold."""
    pairs = zip(lists.numpy(), others.numpy(), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) for a, b in pairs])) / others.shape[1]


def test_shortlists_of_all_items_give_the_lists_of_all_pairs(model: Predictor) -> None:
    lists, all_pairs = lists_of(built(model, ITEMS)), lists_of(built(model, None))

    torch.testing.assert_close(scores_of(model, lists), scores_of(model, all_pairs))
    assert shared(lists, all_pairs) > 0.999  # items of equal scores may change places


def test_longer_shortlists_find_more_of_the_lists_of_all_pairs(model: Predictor) -> None:
    all_pairs = lists_of(built(model, None))

    found = [shared(lists_of(built(model, size)), all_pairs) for size in (64, 150, 400, 1350)]

    assert found == sorted(found)
    assert found[0] < 0.9, "so short a shortlist overlooks items"
    assert found[-1] > 0.999


def test_a_catalogue_of_more_items_than_all_pairs_allow_gets_shortlists(
    model: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "SHORTLIST", 100)
    paired = lists_of(built(model, None))
    monkeypatch.setattr(building, "MAX_PAIRED_ITEMS", ITEMS)
    at_the_limit = lists_of(built(model, None))
    monkeypatch.setattr(building, "MAX_PAIRED_ITEMS", ITEMS - 1)

    above = lists_of(built(model, None))

    assert torch.equal(at_the_limit, paired)
    assert torch.equal(above, lists_of(built(model, 100)))
    assert not torch.equal(above, paired)


def assert_valid(index: ItemLists, items: int, length: int) -> None:
    lists, common, _ = index.tensors()
    assert lists.shape == (items, length)
    for row in lists.numpy():
        assert len(set(row.tolist())) == length
        assert not set(row.tolist()).intersection(common.tolist())


@pytest.mark.parametrize("items", [2, 9, 30, 80])
def test_a_catalogue_of_fewer_items_than_a_list_is_listed_whole(items: int) -> None:
    index = built(model_of(items), shortlist=5)

    assert_valid(index, items, min(LIST_LENGTH, items - items // 10))


def test_items_with_equal_vectors_are_listed_once() -> None:
    """K-means then has one cluster with members, and empty ones."""
    assert_valid(built(model_of(200, equal=True), shortlist=70), 200, LIST_LENGTH)


@pytest.mark.parametrize("shortlist", [None, 100])
def test_progress_rises_to_the_whole_and_a_stop_ends_the_work(
    model: Predictor, shortlist: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "PRODUCTS_AT_ONCE", 0)  # one cluster at a time
    shares: list[float] = []

    build_item_lists(model, RECIPE.scale, UNIT, shares.append, shortlist)

    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 3

    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_item_lists(model, RECIPE.scale, UNIT, stop, shortlist)
