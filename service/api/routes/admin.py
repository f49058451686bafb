"""What whoever runs the service may do while it runs; each call needs an admin key."""

import asyncio

from fastapi import APIRouter

from recsys.bundle.registry import bundle_path, resolve_bundle
from recsys.client.schemas import Reloaded, ReloadRequest
from service.api.dependencies import Running, RunningDep
from service.api.request_checks import StrictRoute
from service.model_manager import Replaced

router = APIRouter(prefix="/v1/admin", tags=["admin"], route_class=StrictRoute)


@router.post("/reload")
async def reload(asked: ReloadRequest, service: RunningDep) -> Reloaded:
    """Serve another bundle; one that is refused changes nothing, and the answer says why."""
    if asked.bundle is None:
        folder = resolve_bundle(service.bundle)
    else:
        folder = bundle_path(service.shelf, asked.bundle)
    return await _told(service, await service.models.replace(folder))


@router.post("/rollback")
async def roll_back(service: RunningDep) -> Reloaded:
    """Serve the bundle that was served before this one."""
    return await _told(service, await service.models.roll_back())


async def _told(service: Running, replaced: Replaced) -> Reloaded:
    """The other workers hear of it, too."""
    if service.note is not None:
        await asyncio.to_thread(service.note.write, service.models.current.folder)
    return Reloaded(model_id=replaced.model_id, previous_model_id=replaced.previous_model_id)
