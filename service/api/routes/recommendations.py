"""Routes of `POST /v1/recommendations`, alone and in batches."""

import asyncio

from fastapi import APIRouter, Request, Response

from recsys_client.schemas import (
    ManyRecommendations,
    ManyRequests,
    RecommendationRequest,
    Recommendations,
)
from service.api import fast_path
from service.api.dependencies import ServiceDep
from service.api.fast_path import content_of, json_response, query_of
from service.api.request_checks import StrictRoute

router = APIRouter(prefix="/v1", tags=["recommendations"], route_class=StrictRoute)
# FastAPI documents the body of a route that reads it itself only if the schema is given here.
BODY = {"schema": {"$ref": f"#/components/schemas/{RecommendationRequest.__name__}"}}
DOCUMENTED_BODY = {"requestBody": {"required": True, "content": {"application/json": BODY}}}


@router.post("/recommendations", response_model=Recommendations, openapi_extra=DOCUMENTED_BODY)
async def recommend(request: Request) -> Response:
    """Record this click, if there is one, and return the items that are likely next."""
    return Response(await fast_path.recommend(request), media_type="application/json")


@router.post("/recommendations:batch", response_model=ManyRecommendations)
async def recommend_many(body: ManyRequests, service: ServiceDep) -> Response:
    """Handle up to 100 of these requests, in order."""
    queries = [query_of(request) for request in body.requests]
    for position, query in enumerate(queries):
        service.recommender.check(query, f"requests.{position}.")
    pending = service.batcher.submit_all(queries)
    results = await asyncio.gather(*pending)
    return json_response({"responses": [content_of(result) for result in results]})
