"""Routes for operators: reload and roll back. Each call needs an admin key."""

import asyncio

from fastapi import APIRouter, Request

from recsys.bundle.registry import bundle_path, is_registry, read_current
from recsys_client.schemas import Reloaded, ReloadRequest
from service.api.dependencies import RunningService, ServiceDep
from service.api.request_checks import StrictRoute
from service.middleware.audit import note
from service.model_manager import Replaced

router = APIRouter(prefix="/v1/admin", tags=["admin"], route_class=StrictRoute)


@router.post("/reload")
async def reload(body: ReloadRequest, request: Request, service: ServiceDep) -> Reloaded:
    """Serve another bundle. If it is refused, nothing changes and the answer gives the reason.

    A bundle that is named answers all users: an experiment ends here until the registry's current
    version is written again. Without a name, the experiment of the registry runs.
    """
    if body.bundle is not None:
        folder, experiment = bundle_path(service.registry, body.bundle), None
    elif is_registry(service.bundle):
        published = read_current(service.bundle)
        folder, experiment = bundle_path(service.bundle, published.main), published.experiment
    else:
        folder, experiment = service.bundle, None
    note(request.scope, bundle=folder.name)
    return await _announced(request, service, await service.models.replace(folder, experiment))


@router.post("/rollback")
async def roll_back(request: Request, service: ServiceDep) -> Reloaded:
    """Serve the previous bundle again, to all users."""
    return await _announced(request, service, await service.models.roll_back())


async def _announced(request: Request, service: RunningService, replaced: Replaced) -> Reloaded:
    """Tell the other workers, and the audit log, what is served now."""
    note(
        request.scope,
        model_id=replaced.model_id,
        previous_model_id=replaced.previous_model_id,
    )
    if service.note is not None:
        models = service.models
        await asyncio.to_thread(service.note.write, models.current.folder, models.experiment)
    return Reloaded(model_id=replaced.model_id, previous_model_id=replaced.previous_model_id)
