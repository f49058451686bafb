"""What may take a look at every item is done in the worker thread: the event loop goes on."""

import copy
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch import Tensor

from recsys.predictor import Predictor
from recsys.retrieval.candidates import Windows
from recsys.retrieval.exact import RankingQuery, TopK
from service.metrics import ServiceMetrics
from service.recommender import RecommendationQuery, RecommendationResult, Recommender
from tests.support.redis.stores import redis_client_for, store_on

TENT = "aurora-tent"
REACH = 40


class RecordingRetrieval:
    """Finds lists of at most 40 items quickly, and notes the thread of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def best(self, read: Tensor, clicks: Windows, wishes: Sequence[RankingQuery]) -> list[TopK]:
        self.calls.append(("best", threading.current_thread().name.partition("_")[0]))
        return [TopK([7] * wish.k, [0.5] * wish.k) for wish in wishes]

    def quick_best(
        self, read: Tensor, clicks: Windows, wishes: Sequence[RankingQuery]
    ) -> list[TopK | None]:
        self.calls.append(("quick_best", threading.current_thread().name.partition("_")[0]))
        found = [TopK([3] * wish.k, [0.5] * wish.k) for wish in wishes]
        return [best if wish.k <= REACH else None for best, wish in zip(found, wishes, strict=True)]


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
        no_redis = store_on(redis_client_for("redis://127.0.0.1:1"))  # no question names a user
        recommender = Recommender(recording, no_redis, ServiceMetrics(), worker, clock=lambda: 0.0)
        for _ in range(30):  # until it knows that it is quick
            await recommender.recommend([RecommendationQuery(items=[TENT])])
        retrieval.calls.clear()
        yield recommender


def found(answer: RecommendationResult | Exception) -> list[str]:
    assert isinstance(answer, RecommendationResult), answer
    return [item_id for item_id, _ in answer.items]


async def test_a_list_that_the_index_gives_is_found_at_once(
    recommender: Recommender, retrieval: RecordingRetrieval
) -> None:
    await recommender.recommend([RecommendationQuery(items=[TENT])] * 3)

    assert retrieval.calls == [("quick_best", "MainThread")]


async def test_a_longer_list_is_found_in_the_worker_thread_and_alone(
    recommender: Recommender, retrieval: RecordingRetrieval
) -> None:
    asked = [RecommendationQuery(items=[TENT], k=k) for k in (5, 100, 20, 50)]

    answers = await recommender.recommend(asked)

    assert retrieval.calls == [("quick_best", "MainThread"), ("best", "torch")]
    ids = recommender.predictor.catalogue.item_ids
    assert [found(answer)[0] for answer in answers] == [ids[3], ids[7], ids[3], ids[7]]
    assert [len(found(answer)) for answer in answers] == [5, 100, 20, 50]


async def test_a_filter_is_for_the_worker_thread(
    recommender: Recommender, retrieval: RecordingRetrieval
) -> None:
    await recommender.recommend([RecommendationQuery(items=[TENT], filter={"brand": ["Aurora"]})])

    assert retrieval.calls == [("best", "torch")]
