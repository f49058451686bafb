"""Routes for operators: reload and roll back. Each call needs an admin key."""

import asyncio

from fastapi import APIRouter

from recsys.bundle.registry import bundle_path, resolve_bundle
from recsys.client.schemas import Reloaded, ReloadRequest
from service.api.dependencies import RunningService, ServiceDep
from service.api.request_checks import StrictRoute
from service.model_manager import Replaced

router = APIRouter(prefix="/v1/admin", tags=["admin"], route_class=StrictRoute)


@router.post("/reload")
async def reload(body: ReloadRequest, service: ServiceDep) -> Reloaded:
    """Serve another bundle. If it is refused, nothing changes and the answer gives the reason."""
    if body.bundle is None:
        folder = resolve_bundle(service.bundle)
    else:
        folder = bundle_path(service.registry, body.bundle)
    return await _announced(service, await service.models.replace(folder))


@router.post("/rollback")
async def roll_back(service: ServiceDep) -> Reloaded:
    """Serve the previous bundle again."""
    return await _announced(service, await service.models.roll_back())


async def _announced(service: RunningService, replaced: Replaced) -> Reloaded:
    """Tell the other workers which bundle is served now."""
    if service.note is not None:
        await asyncio.to_thread(service.note.write, service.models.current.folder)
    return Reloaded(model_id=replaced.model_id, previous_model_id=replaced.previous_model_id)
