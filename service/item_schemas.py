"""The shapes of requests and answers about items themselves."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints

from service.schemas import LONGEST_ID, LONGEST_LIST, MOST_CLICKS, Body, Id, encodable, whole

FURTHEST = 2**31 - 1
Words = Annotated[
    str,
    StringConstraints(max_length=LONGEST_ID),
    AfterValidator(encodable),
    Field(
        description="words that an item has in its id or attributes, in any case; all of them",
        json_schema_extra={"pattern": r"^[^\uFFFD]*$"},
    ),
]
Offset = Annotated[
    int, Field(ge=0, le=FURTHEST, description="how many to pass over"), BeforeValidator(whole)
]


class Item(BaseModel):
    """What the bundle knows of an item."""

    item_id: str
    clicks: int = Field(description="in the click log that the model learned from")
    attributes: dict[str, str] = Field(description="those the item has a value for")


class FoundItems(BaseModel):
    model_id: str
    total: int = Field(description="items found in all")
    items: list[Item] = Field(description="a page of them, the most clicked first")


class ItemIds(Body):
    item_ids: list[Id] = Field(min_length=1, max_length=LONGEST_LIST, fail_fast=True)


class KnownItems(BaseModel):
    model_id: str
    items: list[Item] = Field(description="each once, in the order asked for")
    unknown_items: list[str] = Field(description="those that the model does not know")


class AttributeValue(BaseModel):
    value: str
    items: int = Field(description="items that have it")


class Attribute(BaseModel):
    name: str
    distinct: int = Field(description="how many different values the items have")
    values: list[AttributeValue] = Field(description="the most frequent, 100 at most")


class Attributes(BaseModel):
    model_id: str
    attributes: list[Attribute]


class Session(Body):
    items: list[Id] = Field(
        max_length=MOST_CLICKS, fail_fast=True, description="a whole session, oldest first"
    )


class SessionState(BaseModel):
    model_id: str
    unknown_items: list[str] = Field(description="clicked items that the model does not know")
    layers: list[list[float]] = Field(description="the hidden state, the lowest layer first")
