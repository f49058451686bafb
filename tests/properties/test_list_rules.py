"""Every list follows the rules of its request, as a plain loop over all items does."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recsys.catalogue.attributes import Range
from recsys.catalogue.catalogue import Catalogue, Filter
from recsys.model.ranking import top_k
from recsys.predictor import Predictor
from recsys.retrieval.int8 import Int8Index
from recsys.retrieval.item_scan import ItemScan
from recsys.retrieval.rerank import Reranked
from service.metrics import ServiceMetrics
from service.recommendation.list_rules import ListQuery
from service.recommendation.queries import ItemList, RecommendationQuery
from service.recommendation.recommender import Recommender
from service.store.click import Click
from tests.support.redis.stores import redis_client_for, store_on

ITEMS, HIDDEN = 24, 3
IDS = [f"i{number}" for number in range(ITEMS)]
BRANDS = ["Ada", "Bob", None, "Ada", "Cy", "Ada"]
PRICES = ["10", "10.0", "5", None, "-2.5", "1e3", "49.99"]
COLOURS = [None, "red", "blue", "red"]
UNKNOWN = "not in the catalogue"
ATTRIBUTES: Mapping[str, list[str | None]] = {
    "brand": [BRANDS[i % len(BRANDS)] for i in range(ITEMS)],
    "price": [PRICES[i % len(PRICES)] for i in range(ITEMS)],
    "colour": [COLOURS[i % len(COLOURS)] for i in range(ITEMS)],
}
Scores = Mapping[str, float]  # of every item that may be in a list


class SumOfVectors:
    """Model whose state is the sum of the clicked vectors, so that whole numbers stay exact."""

    def step(self, inputs: Tensor, clicked: Tensor, state: Tensor) -> Tensor:
        return state + inputs[clicked].unsqueeze(0)

    def replay(self, inputs: Tensor, clicks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        along = inputs[clicks].cumsum(1)
        return along, along[torch.arange(len(clicks)), lengths - 1].unsqueeze(0)

    def scores(self, matrix: Tensor, bias: Tensor, hidden: Tensor) -> Tensor:
        return hidden @ matrix.T + bias

    def top_k(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return top_k(scores, k)


def small_predictor() -> Predictor:
    """Return a predictor with many equal scores."""
    generator = torch.Generator().manual_seed(5)
    matrix = torch.randint(-2, 3, (ITEMS, HIDDEN), generator=generator).float()
    bias = torch.randint(-1, 2, (ITEMS,), generator=generator).float()
    catalogue = Catalogue(IDS, np.arange(ITEMS) % 7, ATTRIBUTES)
    return Predictor(
        SumOfVectors(), matrix, bias, catalogue, layers=1, state_width=HIDDEN, window=5
    )


def indexed_predictor() -> Predictor:
    """Return the predictor with an index, which considers every item."""
    predictor = small_predictor()
    exact = predictor.exact_retrieval
    index = Int8Index.of(exact.matrix, exact.bias, 1.0)
    scan = ItemScan(exact.matrix, exact.bias, predictor.catalogue.order_by_attributes)
    return predictor.with_retrieval(Reranked(index, exact, 0.0, scan, few_allowed=3))


def passes(item: int, wanted: Filter) -> bool:
    for name, values in wanted.items():
        text = ATTRIBUTES[name][item]
        if text is None:
            return False
        if isinstance(values, Range):
            number = float(text)
            if values.lt is not None and not number < values.lt:
                return False
            if values.lte is not None and not number <= values.lte:
                return False
            if values.gt is not None and not number > values.gt:
                return False
            if values.gte is not None and not number >= values.gte:
                return False
        elif text not in values:
            return False
    return True


def plain_list(scores: Scores, query: ListQuery, excluded: set[str]) -> list[tuple[str, float]]:
    """Return the list by a loop over all items."""
    boosted = {}
    for item, item_id in enumerate(IDS):
        if item_id in excluded or not passes(item, query.filter):
            continue
        added = 0.0
        for name, weight_of in query.boost.items():
            text = ATTRIBUTES[name][item]
            added += 0.0 if text is None else weight_of.get(text, 0.0)
        boosted[item_id] = scores[item_id] + added
    listed = [item_id for item_id in dict.fromkeys(query.pin) if item_id in boosted][: query.k]
    for item_id in sorted(boosted, key=lambda each: (-boosted[each], IDS.index(each))):
        fits = all(within(name, most, item_id, listed) for name, most in query.max_per.items())
        if len(listed) < query.k and item_id not in listed and fits:
            listed.append(item_id)
    return [(item_id, boosted[item_id]) for item_id in listed]


def within(name: str, most: int, item_id: str, listed: Sequence[str]) -> bool:
    texts = ATTRIBUTES[name]
    own = texts[IDS.index(item_id)]
    return own is None or [texts[IDS.index(each)] for each in listed].count(own) < most


def expected(
    base: Scores, source: str, popular: Scores, query: ListQuery, excluded: set[str]
) -> tuple[str, list[tuple[str, float]]]:
    found = plain_list(base, query, excluded)
    if query.backfill and not found:
        return "popular", plain_list(popular, replace(query, filter={}), excluded)
    return source, found


def check(
    answer: ItemList, base: Scores, source: str, query: ListQuery, excluded: set[str]
) -> None:
    popular = dict(zip(IDS, small_predictor().catalogue.popularity.tolist(), strict=True))
    assert (answer.source, answer.items) == expected(base, source, popular, query, excluded)
    assert set(query.pin) - set(IDS) <= set(answer.unknown_items)
    described = [
        {name: text for name in query.fields if (text := ATTRIBUTES[name][IDS.index(item_id)])}
        for item_id, _ in answer.items
    ]
    assert answer.attributes == (described if query.fields else None)


def model_scores(clicks: Sequence[str]) -> Scores:
    """Return the scores of the model in plain arithmetic, or of popularity without a click."""
    predictor = small_predictor()
    known = [IDS.index(item_id) for item_id in clicks if item_id in IDS]
    if not known:
        return dict(zip(IDS, predictor.catalogue.popularity.tolist(), strict=True))
    vectors, bias = predictor.exact_retrieval.matrix.tolist(), predictor.exact_retrieval.bias
    state = [sum(vectors[item][at] for item in known) for at in range(HIDDEN)]
    return {
        item_id: float(sum(s * v for s, v in zip(state, vectors[item], strict=True)) + bias[item])
        for item, item_id in enumerate(IDS)
    }


bounds = st.sampled_from([None, -2.5, 5, 10.0, 49.99, 1000])
ranges = st.builds(Range, lt=bounds, lte=bounds, gt=bounds, gte=bounds).filter(
    lambda each: each != Range()
)
ids = st.sampled_from([*IDS, UNKNOWN])
names = st.sampled_from(sorted(ATTRIBUTES))
values = st.sampled_from([*{v for texts in ATTRIBUTES.values() for v in texts if v}, "other", ""])
weights = st.sampled_from([-3.0, -0.5, 0.1, 1.0, 2.5, 1e6])
wanted = st.fixed_dictionaries(
    {}, optional={"brand": st.lists(values), "price": ranges | st.lists(values)}
)
rules = st.fixed_dictionaries(
    {"k": st.integers(1, ITEMS + 2)},
    optional={
        "exclude_items": st.lists(ids, max_size=5),
        "filter": wanted,
        "backfill": st.booleans(),
        "boost": st.dictionaries(names, st.dictionaries(values, weights, max_size=4)),
        "max_per": st.dictionaries(names, st.integers(1, 3)),
        "pin": st.lists(ids, max_size=6),
        "fields": st.lists(names, max_size=2),
    },
)
sessions = st.lists(ids, max_size=4)
session_queries = st.builds(
    lambda rules, clicks, seen: RecommendationQuery(items=clicks, exclude_seen=seen, **rules),
    rules,
    sessions,
    st.booleans(),
)
click_queries = st.builds(
    lambda rules, item_id: RecommendationQuery(user_id="ada", click=Click(item_id), **rules),
    rules,
    ids,
)


async def answers_to(
    predictor: Predictor, queries: Sequence[RecommendationQuery]
) -> list[ItemList]:
    """Answer one batch; Redis does not answer."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        store = store_on(redis_client_for("redis://127.0.0.1:1"))
        recommender = Recommender(predictor, store, ServiceMetrics(), worker)
        results = await recommender.recommend(queries)
    assert all(isinstance(result, ItemList) for result in results), results
    return [result for result in results if isinstance(result, ItemList)]


@pytest.mark.parametrize("predictor", [small_predictor(), indexed_predictor()])
@given(queries=st.lists(session_queries | click_queries, min_size=1, max_size=4))
def test_lists_of_a_batch(predictor: Predictor, queries: list[RecommendationQuery]) -> None:
    """Lists of the model, popular and degraded ones, in batches of one and of several."""
    for query, answer in zip(queries, asyncio.run(answers_to(predictor, queries)), strict=True):
        known = set(IDS).intersection(query.own_items)
        excluded = {*query.exclude_items, *(query.own_items if query.exclude_seen else ())}
        base = model_scores(query.own_items)
        check(answer, base, "model" if known else "popular", query, excluded)


@given(rules=rules, item=st.sampled_from(IDS))
def test_lists_of_similar_items(rules: dict[str, object], item: str) -> None:
    query = ListQuery(**rules)  # type: ignore[arg-type]
    with ThreadPoolExecutor(max_workers=1) as worker:
        store = store_on(redis_client_for("redis://127.0.0.1:1"))
        recommender = Recommender(small_predictor(), store, ServiceMetrics(), worker)
        similar = partial(recommender.similar, item)
        cosines = dict(similar(ListQuery(k=ITEMS)).items)

        check(similar(query), cosines, "model", query, {*query.exclude_items, item})
