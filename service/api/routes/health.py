"""Routes for operations: liveness, readiness and metrics."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from service.api.dependencies import ServiceDep
from service.problems import problem

router = APIRouter(tags=["operations"])


@router.get("/health/live")
async def live() -> dict[str, str]:
    """Return 200 while the process answers. Redis is not checked."""
    return {"status": "alive"}


@router.get("/health/ready", response_model=None)
async def ready(service: ServiceDep) -> dict[str, str] | Response:
    """Return 200 while the model is loaded and warm, with the state of Redis.

    The service stays ready without Redis, and answers are degraded then. Redis is pinged at most
    once a second, however often this route is called.
    """
    if not service.batcher.running:
        return problem(503, "The service is stopping.")
    redis = "ok" if await service.redis.ping() else "unavailable"
    reasons = service.unstored.recent_reasons()
    return {
        "status": "ready",
        "model_id": service.manifest.model_id,
        "redis": redis,
        "clicks": f"not stored ({', '.join(reasons)})" if reasons else "ok",
        "catalogue": service.live.state,
    }


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: ServiceDep) -> Response:
    """Return the metrics in the Prometheus text format."""
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
