"""Routes of the items of the bundle: search, look-up and attribute values.

A search reads all items, so it runs in a thread of its own.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query

from recsys.catalogue.catalogue import Catalogue, read_filter
from recsys.catalogue.search import search
from recsys_client.schemas import (
    Attribute,
    Attributes,
    AttributeValue,
    FoundItems,
    Item,
    ItemIds,
    KnownItems,
    ListLength,
    Offset,
    Words,
)
from service.api.dependencies import ServiceDep
from service.api.request_checks import StrictRoute

router = APIRouter(prefix="/v1", tags=["catalogue"], route_class=StrictRoute)
LONGEST_LISTED = 128  # characters of a listed value; pictures and descriptions are longer
FilterWords = Annotated[
    list[str],
    Query(
        default_factory=list,
        max_length=20,
        description="`attribute:value`. Items need one of the values of every named attribute.",
    ),
]


@router.get("/items", name="search")
async def find(
    service: ServiceDep,
    filter: FilterWords,
    q: Words = "",
    limit: ListLength = 20,
    offset: Offset = 0,
) -> FoundItems:
    """Search and browse: return the items that have all the words and pass the filter."""
    await service.live.wait_if_late()
    model = service.recommender.predictor
    catalogue = model.catalogue
    values = read_filter(filter, catalogue.attributes)
    job = partial(search, catalogue, q, values, offset=offset, limit=limit)
    page = await service.search_thread.run(job)
    items = describe(catalogue, page.items)
    return FoundItems(model_id=model.model_id, total=page.total, items=items)


@router.post("/items:lookup")
async def look_up(body: ItemIds, service: ServiceDep) -> KnownItems:
    """Return clicks and attributes of these items."""
    model = service.recommender.predictor
    catalogue = model.catalogue
    indices = {item_id: catalogue.find(item_id) for item_id in body.item_ids}
    return KnownItems(
        model_id=model.model_id,
        items=describe(catalogue, [index for index in indices.values() if index is not None]),
        unknown_items=[item_id for item_id, index in indices.items() if index is None],
    )


@router.get("/attributes")
async def attributes(service: ServiceDep) -> Attributes:
    """Return the attributes that a filter may name and their most frequent values."""
    model = service.recommender.predictor
    catalogue = model.catalogue
    frequent = await service.search_thread.run(lambda: catalogue.frequent_values)
    described = [
        Attribute(
            name=name,
            distinct=distinct,
            values=[
                AttributeValue(value=value, items=items)
                for value, items in most
                if len(value) <= LONGEST_LISTED
            ],
        )
        for name, (distinct, most) in frequent.items()
    ]
    return Attributes(model_id=model.model_id, attributes=described)


def describe(catalogue: Catalogue, indices: Sequence[int]) -> list[Item]:
    """Describe the items with these indices."""
    return [
        Item(
            item_id=catalogue.item_ids[index],
            clicks=int(catalogue.counts[index]),
            attributes=catalogue.attributes_of(index, catalogue.attributes),
        )
        for index in indices
    ]
