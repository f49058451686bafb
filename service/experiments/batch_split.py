"""Answer one batch with several recommenders, each for the users of its variant."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from service.metrics import ServiceMetrics
from service.recommendation.queries import RecommendationQuery, RecommendationResult
from service.recommendation.recommender import Recommender

Result = RecommendationResult | Exception


async def recommend_by(
    recommenders: Sequence[Recommender],
    queries: Sequence[RecommendationQuery],
    metrics: ServiceMetrics,
) -> list[Result]:
    """Return the result of each query from the recommender beside it.

    Queries of one recommender stay together and in order. If one recommender fails, the queries of
    the others are answered.
    """
    places: dict[Recommender, list[int]] = {}
    for place, recommender in enumerate(recommenders):
        places.setdefault(recommender, []).append(place)
    parts = await asyncio.gather(
        *(
            _recommend(recommender, [queries[place] for place in of_it], metrics)
            for recommender, of_it in places.items()
        )
    )
    results: list[Result] = [RuntimeError("no answer")] * len(queries)
    for of_it, part in zip(places.values(), parts, strict=True):
        for place, result in zip(of_it, part, strict=True):
            results[place] = result
    return results


async def _recommend(
    recommender: Recommender, queries: Sequence[RecommendationQuery], metrics: ServiceMetrics
) -> Sequence[Result]:
    """Answer the queries of one variant, and count them."""
    began = time.perf_counter()
    try:
        results: Sequence[Result] = await recommender.recommend(queries)
    except Exception as error:  # as the batcher does for a whole batch
        results = [error] * len(queries)
    outcomes = Counter(
        "failed" if isinstance(result, Exception) else result.source for result in results
    )
    metrics.count_variant(recommender.variant or "", outcomes, time.perf_counter() - began)
    return results
