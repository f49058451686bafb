"""What is stored about a user: clicks in, recommendations and the whole record out, forgotten."""

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
from service.api.dependencies import Running, RunningDep
from service.api.request_checks import StrictRoute
from service.api.routes.recommendations import as_recommendations
from service.recommender import RecommendationQuery
from service.store.session_store import Click, StoredSession, Visit


def no_slash(request: Request) -> None:
    """Refuses a "/" written as %2F: it would be taken for one that parts the path.

    `ada%2Frecommendations` would else name the recommendations of ada.
    """
    written: bytes = request.scope.get("raw_path", b"")
    if b"%2f" in written.lower():
        loc, said = ("path", "user_id"), "must not contain '/', not even as %2F"
        error: dict[str, Any] = {"type": "value_error", "loc": loc, "msg": said}
        raise RequestValidationError([error])


router = APIRouter(
    prefix="/v1/users/{user_id}",
    tags=["users"],
    dependencies=[Depends(no_slash)],
    route_class=StrictRoute,
)


@router.post("/clicks")
async def record(user_id: UserId, sent: NewClicks, service: RunningDep) -> ClicksTaken:
    """Record clicks, oldest first; all of them or, with 503, perhaps none."""
    unknown = service.recommender.unknown([click.item_id for click in sent.clicks])
    if not sent.consent:
        return ClicksTaken(accepted=0, duplicates=0, unknown_items=unknown)
    clicks = [Click(c.item_id, c.event_id, c.timestamp) for c in sent.clicks]
    stored = await _visit(service, Visit(user_id, clicks))
    if stored.refused:
        raise StoreUnavailable(
            f"Redis refuses writes now ({stored.refused}). Send the clicks again later."
        )
    return ClicksTaken(
        accepted=stored.accepted, duplicates=stored.duplicates, unknown_items=unknown
    )


@router.get("/recommendations")
async def recommend(user_id: UserId, service: RunningDep, k: ListLength = 20) -> Recommendations:
    """What is likely next for this user; the popular list for a stranger."""
    return as_recommendations(
        await service.batcher.submit(RecommendationQuery(user_id=user_id, k=k))
    )


@router.get("")
async def read(user_id: UserId, service: RunningDep) -> StoredUser:
    """All that is stored about this user; an empty list for a stranger."""
    stored = await _visit(service, Visit(user_id))
    return StoredUser(
        user_id=user_id,
        clicks=[
            StoredClick(item_id=c.item_id, timestamp=c.timestamp, event_id=c.event_id)
            for c in stored.clicks
        ],
        model_id=service.manifest.model_id,
        expires_in_seconds=None if stored.expires_ms is None else stored.expires_ms / 1000,
    )


@router.delete("", status_code=204)
async def forget(user_id: UserId, service: RunningDep) -> Response:
    """Forget this user now."""
    await service.store.forget(user_id)
    return Response(status_code=204)


async def _visit(service: Running, visit: Visit) -> StoredSession:
    (stored,) = await service.store.visit([visit])
    if isinstance(stored, StoreUnavailable):
        raise stored
    return stored
