"""Routes of the live catalogue: change, read and delete items. Each call needs a catalogue key."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError

from recsys.errors import UnknownItem, WrongAttribute, WrongContent
from recsys.live.entry import check_change
from recsys.predictor import Predictor
from recsys_client.schemas import (
    Id,
    ItemChange,
    ItemChanges,
    ItemProblem,
    ItemsChanged,
    ItemsDeleted,
    ItemsToDelete,
    LiveItem,
)
from service.api.dependencies import RunningService, ServiceDep
from service.api.request_checks import StrictRoute
from service.middleware.audit import note
from service.problems import MAX_TEXT_LENGTH
from service.store.overlay_store import ItemUpdate, OverlayVersion

router = APIRouter(prefix="/v1", tags=["live catalogue"], route_class=StrictRoute)


@router.put("/items", name="change_items")
async def put(body: ItemChanges, request: Request, service: ServiceDep) -> ItemsChanged:
    """Change items or add new ones, up to 1,000. The same call again changes nothing.

    An item that is wrong is listed in `errors`, and the others are applied. Every process shows the
    changes within two seconds.
    """
    predictor = service.models.current.predictor
    updates: list[ItemUpdate] = []
    errors: list[ItemProblem] = []
    for position, given in enumerate(body.items):
        checked = _checked(predictor, position, given)
        if isinstance(checked, ItemUpdate):
            updates.append(checked)
        else:
            errors += checked
    version, changed = await _put(request, service, updates, len(body.items))
    return ItemsChanged(
        applied=len(updates),
        changed=sum(changed),
        not_placed=await _not_placed(service, version, updates),
        errors=errors,
        epoch=version.epoch,
    )


@router.get("/items:one", name="changes_of")
async def read(item_id: Annotated[Id, Query()], request: Request, service: ServiceDep) -> LiveItem:
    """Return what was changed of one item."""
    note(request.scope, item_ids=[item_id])
    stored = await service.live.store.item(item_id)
    catalogue = service.recommender.predictor.catalogue
    placed = catalogue.find(item_id) is not None
    if stored is None:
        if not placed:
            raise UnknownItem(item_id, known=len(catalogue))
        return LiveItem(
            item_id=item_id, placed=True, available=True, attributes={}, vectors={}, changed=None
        )
    entry = stored.entry
    return LiveItem(
        item_id=item_id,
        placed=placed,
        available=entry.available,
        attributes=dict(entry.attributes),
        vectors={name: len(vector) for name, vector in entry.vectors.items()},
        changed=stored.changed,
    )


@router.post("/items:delete", name="delete_items")
async def delete(body: ItemsToDelete, request: Request, service: ServiceDep) -> ItemsDeleted:
    """Delete items: no list holds them, and what was changed of them is forgotten.

    `"available": true` brings an item of the bundle back as it was in training.
    """
    updates = [ItemUpdate(item_id, deletes=True) for item_id in body.item_ids]
    _, changed = await _put(request, service, updates, len(updates))
    return ItemsDeleted(deleted=sum(changed))


async def _put(
    request: Request, service: RunningService, updates: Sequence[ItemUpdate], given: int
) -> tuple[OverlayVersion, list[bool]]:
    """Store the updates, count them, and note them for the audit log."""
    note(request.scope, items=given, item_ids=[update.item_id for update in updates])
    version, changed = await service.live.store.put(updates)
    service.live.read_soon()
    refused = given - len(updates)
    service.metrics.count_changes(sum(changed), len(updates) - sum(changed), refused)
    note(
        request.scope,
        changed=sum(changed),
        unchanged=len(updates) - sum(changed),
        refused=refused,
    )
    return version, changed


async def _not_placed(
    service: RunningService, version: OverlayVersion, updates: Sequence[ItemUpdate]
) -> list[str]:
    """Return the items that the model does not know after this process has read the change."""
    known = service.recommender.predictor.catalogue.find
    if all(known(update.item_id) is not None for update in updates):
        return []
    await service.live.reached(version)
    return service.recommender.unknown([update.item_id for update in updates])


def _checked(predictor: Predictor, position: int, given: object) -> ItemUpdate | list[ItemProblem]:
    """Return the update of one item, or its problems."""
    try:
        change = ItemChange.model_validate(given)
    except ValidationError as invalid:
        raw = invalid.errors(include_url=False, include_input=False)
        wrong_id = any(each["loc"] in ((), ("item_id",)) for each in raw)
        item_id = None if wrong_id or not isinstance(given, dict) else given["item_id"]
        return [
            ItemProblem(
                position=position,
                item_id=item_id,
                field=".".join(map(str, error["loc"])) or "item",
                message=error["msg"].removeprefix("Value error, ")[:MAX_TEXT_LENGTH],
            )
            for error in raw
        ]
    try:
        check_change(predictor.catalogue, predictor.content, change.attributes, change.vectors)
    except (WrongAttribute, WrongContent) as wrong:
        message = str(wrong)[:MAX_TEXT_LENGTH]
        return [
            ItemProblem(
                position=position, item_id=change.item_id, field=wrong.field, message=message
            )
        ]
    return ItemUpdate(change.item_id, change.available, change.attributes, change.vectors)
