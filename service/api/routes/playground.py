"""What only the playground asks for, and what is there only where the playground is on."""

from functools import partial

from fastapi import APIRouter

from recsys.client.schemas import HiddenState, Session
from service.api.dependencies import RunningDep
from service.api.request_checks import StrictRoute

router = APIRouter(prefix="/v1/playground", tags=["playground"], route_class=StrictRoute)


@router.post("/state")
async def state(asked: Session, service: RunningDep) -> HiddenState:
    """The hidden state after these clicks; nothing is stored."""
    recommender = service.recommender
    return HiddenState(
        model_id=recommender.predictor.model_id,
        unknown_items=recommender.unknown(asked.items),
        layers=await service.aside.run(partial(recommender.state_after, asked.items)),
    )
