"""Routes of one user: record clicks, recommend, read and forget what is stored."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError

from recsys.client.schemas import (
    ClicksTaken,
    ListLength,
    NewClicks,
    Recommendations,
    StoredClick,
    StoredUser,
    UserId,
)
from recsys.errors import StoreUnavailable
from service.api.dependencies import RunningService, ServiceDep
from service.api.fast_path import content_of, json_response
from service.api.request_checks import StrictRoute
from service.recommendation.queries import RecommendationQuery
from service.store.click import Click
from service.store.session_store import StoredSession, Visit


def no_slash(request: Request) -> None:
    """Refuse a user id with a "/" written as %2F, which would act as a separator of the path.

    `ada%2Frecommendations` would otherwise name the recommendations of ada.
    """
    raw_path: bytes = request.scope.get("raw_path", b"")
    if b"%2f" in raw_path.lower():
        loc, message = ("path", "user_id"), "must not contain '/', not even as %2F"
        error: dict[str, Any] = {"type": "value_error", "loc": loc, "msg": message}
        raise RequestValidationError([error])


router = APIRouter(
    prefix="/v1/users/{user_id}",
    tags=["users"],
    dependencies=[Depends(no_slash)],
    route_class=StrictRoute,
)


@router.post("/clicks", response_model_exclude_none=True)
async def record(user_id: UserId, body: NewClicks, service: ServiceDep) -> ClicksTaken:
    """Record clicks, oldest first. After a 503, perhaps none of them is recorded."""
    recommender = await service.models.recommender_of(user_id if body.consent else None)
    unknown = recommender.unknown([click.item_id for click in body.clicks])
    types = recommender.unknown_event_types([click.event_type for click in body.clicks])
    if not body.consent:
        return _taken(0, 0, unknown, types)
    clicks = [
        Click(c.item_id, c.event_id, c.timestamp, c.event_type, c.list_id) for c in body.clicks
    ]
    saved = await _visit(
        service, Visit(user_id, clicks, recommender.predictor.model_id, recommender.variant)
    )
    if saved.refused:
        raise StoreUnavailable(
            f"No click is stored now ({saved.refused}). Send the clicks again later."
        )
    return _taken(saved.accepted, saved.duplicates, unknown, types)


@router.get("/recommendations", response_model=Recommendations)
async def recommend(user_id: UserId, service: ServiceDep, k: ListLength = 20) -> Response:
    """Return the items that are likely next for this user; for an unknown user, popular items."""
    result = await service.batcher.submit(RecommendationQuery(user_id=user_id, k=k))
    return json_response(content_of(result))


@router.get("")
async def read(user_id: UserId, service: ServiceDep) -> StoredUser:
    """Return everything that is stored about this user; for an unknown user, an empty list."""
    stored = await _visit(service, Visit(user_id))
    return StoredUser(
        user_id=user_id,
        clicks=[
            StoredClick(
                item_id=c.item_id,
                timestamp=c.timestamp,
                event_id=c.event_id,
                event_type=c.event_type,
            )
            for c in stored.clicks
        ],
        model_id=(await service.models.recommender_of(user_id)).predictor.model_id,
        expires_in_seconds=None if stored.expires_ms is None else stored.expires_ms / 1000,
    )


@router.delete("", status_code=204)
async def forget(user_id: UserId, service: ServiceDep) -> Response:
    """Delete everything that is stored about this user."""
    await service.store.forget(user_id)
    return Response(status_code=204)


def _taken(accepted: int, duplicates: int, items: list[str], types: list[str]) -> ClicksTaken:
    return ClicksTaken(
        accepted=accepted,
        duplicates=duplicates,
        unknown_items=items,
        unknown_event_types=types or None,
    )


async def _visit(service: RunningService, visit: Visit) -> StoredSession:
    (stored,) = await service.store.visit([visit])
    if isinstance(stored, StoreUnavailable):
        raise stored
    return stored
