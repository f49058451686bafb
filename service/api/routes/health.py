"""Is the process alive, may it get traffic, and what has it done."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from service.api.dependencies import RunningDep
from service.problems import problem

router = APIRouter(tags=["operations"])


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers; says nothing of Redis."""
    return {"status": "alive"}


@router.get("/health/ready", response_model=None)
async def ready(service: RunningDep) -> dict[str, str] | Response:
    """The model is loaded and warm. Stays ready without Redis: answers are then degraded.

    Redis is pinged at most once a second, however often this is called.
    """
    if not service.batcher.running:
        return problem(503, "The service is stopping.")
    redis = "ok" if await service.link.ping() else "unavailable"
    refused = service.unstored.recent_reasons()
    return {
        "status": "ready",
        "model_id": service.manifest.model_id,
        "redis": redis,
        "clicks": f"not stored ({', '.join(refused)})" if refused else "ok",
    }


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: RunningDep) -> Response:
    """Prometheus text format."""
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
