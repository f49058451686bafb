"""POST /v1/recommendations, alone and in batches."""

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from recsys.client.schemas import (
    ManyRecommendations,
    ManyRequests,
    RecommendationRequest,
    Recommendations,
    ScoredItem,
)
from service.api.dependencies import RunningDep, running
from service.api.fast_path import documented, read_body, written
from service.api.request_checks import StrictRoute
from service.recommender import RecommendationQuery, RecommendationResult
from service.store.session_store import Click

router = APIRouter(prefix="/v1", tags=["recommendations"], route_class=StrictRoute)


@router.post(
    "/recommendations",
    response_model=Recommendations,
    openapi_extra=documented(RecommendationRequest),
)
async def recommend(request: Request) -> Response:
    """Record this click, if there is one, and say what is likely next."""
    return Response(await recommended(request), media_type="application/json")


async def recommended(request: Request) -> bytes:
    """The answer as it goes over the wire."""
    service = running(request)
    service.batcher.check()  # what is refused anyway need not be read
    asked = await read_body(request, RecommendationRequest)
    service.recommender.check_filter(asked.filter)
    return written(await service.batcher.submit(as_question(asked)))


@router.post("/recommendations:batch")
async def recommend_many(asked: ManyRequests, service: RunningDep) -> ManyRecommendations:
    """Up to 100 of these requests, handled in order."""
    for place, request in enumerate(asked.requests):
        service.recommender.check_filter(request.filter, f"requests.{place}.filter")
    waiting = service.batcher.submit_all([as_question(request) for request in asked.requests])
    answers = await asyncio.gather(*waiting)
    return ManyRecommendations(responses=[as_recommendations(answer) for answer in answers])


def as_question(asked: RecommendationRequest) -> RecommendationQuery:
    """Without consent the user is not looked at: the request's own item is the session."""
    click = None if asked.item_id is None else Click(asked.item_id, asked.event_id)
    items = list(asked.items or ())
    user_id = asked.user_id
    if not asked.consent and user_id is not None:
        user_id, click, items = None, None, [] if click is None else [click.item_id]
    return RecommendationQuery(
        user_id=user_id,
        click=click,
        items=items,
        k=asked.k,
        exclude_seen=asked.exclude_seen,
        exclude_items=asked.exclude_items,
        filter=asked.filter,
    )


def as_recommendations(answer: RecommendationResult) -> Recommendations:
    return Recommendations(
        model_id=answer.model_id,
        source=answer.source,
        degraded=answer.degraded,
        stored=answer.stored,
        unknown_items=answer.unknown_items,
        items=[ScoredItem(item_id=item_id, score=score) for item_id, score in answer.items],
    )
