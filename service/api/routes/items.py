"""What the bundle knows of its items: search and browse, look up, values to filter by.

Searching goes through all items, aside from the threads that answer recommendations.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query

from recsys.catalogue.catalogue import Catalogue, read_filter
from recsys.catalogue.search import search
from recsys.client.schemas import (
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
from service.api.dependencies import RunningDep
from service.api.request_checks import StrictRoute

router = APIRouter(prefix="/v1", tags=["catalogue"], route_class=StrictRoute)
FilterWords = Annotated[
    list[str],
    Query(
        default_factory=list,
        max_length=20,
        description="`attribute:value`: any of an attribute's values, for every attribute named",
    ),
]


@router.get("/items")
async def find(
    service: RunningDep,
    filter: FilterWords,
    q: Words = "",
    limit: ListLength = 20,
    offset: Offset = 0,
) -> FoundItems:
    """Search and browse: items that have all the words and pass the filter."""
    model = service.models.current
    catalogue = model.predictor.catalogue
    wanted = read_filter(filter, catalogue.attributes)
    job = partial(search, catalogue, q, wanted, offset=offset, limit=limit)
    found = await service.aside.run(job)
    items = described(catalogue, found.items)
    return FoundItems(model_id=model.model_id, total=found.total, items=items)


@router.post("/items:lookup")
async def look_up(asked: ItemIds, service: RunningDep) -> KnownItems:
    """What is known of these items."""
    model = service.models.current
    catalogue = model.predictor.catalogue
    places = {item_id: catalogue.find(item_id) for item_id in asked.item_ids}
    return KnownItems(
        model_id=model.model_id,
        items=described(catalogue, [place for place in places.values() if place is not None]),
        unknown_items=[item_id for item_id, place in places.items() if place is None],
    )


@router.get("/attributes")
async def attributes(service: RunningDep) -> Attributes:
    """What items can be filtered by: attributes, and their most frequent values."""
    model = service.models.current
    values = await service.aside.run(lambda: model.predictor.catalogue.frequent_values)
    found = [
        Attribute(
            name=name,
            distinct=distinct,
            values=[AttributeValue(value=value, items=items) for value, items in most],
        )
        for name, (distinct, most) in values.items()
    ]
    return Attributes(model_id=model.model_id, attributes=found)


def described(catalogue: Catalogue, places: Sequence[int]) -> list[Item]:
    """Items by their indices."""
    known = catalogue.attributes.items()
    return [
        Item(
            item_id=catalogue.item_ids[place],
            clicks=int(catalogue.counts[place]),
            attributes={name: text for name, texts in known if (text := texts[place]) is not None},
        )
        for place in places
    ]
