"""Routes that only the playground calls. They exist only if the playground is on."""

from functools import partial

from fastapi import APIRouter

from recsys_client.schemas import HiddenState, Session
from service.api.dependencies import ServiceDep
from service.api.fast_path import types_of
from service.api.request_checks import StrictRoute

router = APIRouter(prefix="/v1/playground", tags=["playground"], route_class=StrictRoute)


@router.post("/state")
async def state(body: Session, service: ServiceDep) -> HiddenState:
    """Return the hidden state after these clicks. Nothing is stored."""
    recommender = service.recommender
    types = types_of(body.items, body.event_types)
    return HiddenState(
        model_id=recommender.predictor.model_id,
        unknown_items=recommender.unknown(body.items),
        layers=await service.search_thread.run(partial(recommender.state_after, body.items, types)),
    )
