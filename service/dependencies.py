"""What a route may ask for; all of it is made in `service/app.py` and lives as long as the app."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from recsys.bundle import Manifest
from service.batcher import Batcher
from service.metrics import Metrics
from service.recommender import Answer, Question, Recommender
from service.redis_link import RedisLink
from service.store import Store


@dataclass(frozen=True, slots=True)
class Running:
    """The parts of a running service."""

    manifest: Manifest
    recommender: Recommender
    batcher: Batcher[Question, Answer]
    store: Store
    link: RedisLink
    metrics: Metrics


def running(request: Request) -> Running:
    found: Running = request.app.state.running
    return found


RunningDep = Annotated[Running, Depends(running)]
