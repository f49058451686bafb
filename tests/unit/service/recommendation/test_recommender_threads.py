"""Rankings that may take long run in the worker thread, so that the event loop goes on."""

import copy
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from torch import Tensor

from recsys.catalogue.catalogue import CACHED_FILTER_VALUES
from recsys.predictor import Predictor
from recsys.retrieval.candidates import Windows
from recsys.retrieval.exact import ExactScan, RankingQuery, TopK
from service.metrics import ServiceMetrics
from service.recommendation.queries import RecommendationQuery, RecommendationResult
from service.recommendation.recommender import Recommender
from tests.support.redis.stores import redis_client_for, store_on

TENT = "aurora-tent"
MAX_K = 40


class RecordingRetrieval:
    """Retrieval with a quick path for at most 40 items, which records the thread of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def top_k(self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]) -> list[TopK]:
        self.calls.append(("top_k", threading.current_thread().name.partition("_")[0]))
        return [TopK([7] * query.k, [0.5] * query.k) for query in queries]

    def quick_top_k(
        self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]
    ) -> list[TopK | None]:
        self.calls.append(("quick_top_k", threading.current_thread().name.partition("_")[0]))
        found = [TopK([3] * query.k, [0.5] * query.k) for query in queries]
        return [best if q.k <= MAX_K else None for best, q in zip(found, queries, strict=True)]

    def with_new_items(self, _: object) -> "RecordingRetrieval":
        return self

    def over(self, exact: ExactScan) -> ExactScan:
        return exact


@pytest.fixture
def retrieval() -> RecordingRetrieval:
    return RecordingRetrieval()


@pytest.fixture
async def recommender(
    predictor: Predictor, retrieval: RecordingRetrieval
) -> AsyncIterator[Recommender]:
    recording = copy.copy(predictor)
    recording._retrieval = retrieval
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="torch") as worker:
        no_redis = store_on(redis_client_for("redis://127.0.0.1:1"))  # no query names a user
        recommender = Recommender(recording, no_redis, ServiceMetrics(), worker, clock=lambda: 0.0)
        for _ in range(30):  # until the measured time is short
            await recommender.recommend([RecommendationQuery(items=[TENT])])
        retrieval.calls.clear()
        yield recommender


def items_of(result: RecommendationResult | Exception) -> list[str]:
    assert isinstance(result, RecommendationResult), result
    return [item_id for item_id, _ in result.items]


async def test_a_list_that_the_index_can_give_is_ranked_in_the_event_loop(
    recommender: Recommender, retrieval: RecordingRetrieval
) -> None:
    await recommender.recommend([RecommendationQuery(items=[TENT])] * 3)

    assert retrieval.calls == [("quick_top_k", "MainThread")]


async def test_only_a_longer_list_is_ranked_in_the_worker_thread(
    recommender: Recommender, retrieval: RecordingRetrieval
) -> None:
    queries = [RecommendationQuery(items=[TENT], k=k) for k in (5, 100, 20, 50)]

    results = await recommender.recommend(queries)

    assert retrieval.calls == [("quick_top_k", "MainThread"), ("top_k", "torch")]
    ids = recommender.predictor.catalogue.item_ids
    assert [items_of(result)[0] for result in results] == [ids[3], ids[7], ids[3], ids[7]]
    assert [len(items_of(result)) for result in results] == [5, 100, 20, 50]


async def test_the_first_filter_by_an_attribute_is_ranked_in_the_worker_thread(
    recommender: Recommender, retrieval: RecordingRetrieval
) -> None:
    for brand in ("Aurora", "Borealis"):
        await recommender.recommend([RecommendationQuery(items=[TENT], filter={"brand": [brand]})])

    assert retrieval.calls == [("top_k", "torch"), ("quick_top_k", "MainThread")]


@pytest.mark.parametrize(
    "rules",
    [
        {"pin": [TENT]},
        {"max_per": {"brand": 1}},
        {"boost": {"brand": {"Aurora": 1.0}}},
        {"filter": {"brand": [f"brand {number}" for number in range(CACHED_FILTER_VALUES + 1)]}},
    ],
)
async def test_rules_and_long_filters_are_ranked_in_the_worker_thread(
    recommender: Recommender, retrieval: RecordingRetrieval, rules: dict[str, Any]
) -> None:
    for _ in range(2):
        await recommender.recommend([RecommendationQuery(items=[TENT], **rules)])

    assert retrieval.calls == [("top_k", "torch")] * 2
