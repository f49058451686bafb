"""The shapes of requests and answers, which are also the API's documentation."""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic.config import JsonDict

LONGEST_ID = 128
LONGEST_LIST = 100
MOST_CLICKS = 500
MOST_REQUESTS = 100
LONGEST_VALUE = 512  # of an attribute, as a title can be long


def encodable(text: str) -> str:
    """JSON can spell half a surrogate pair, and a path bytes that are no text; neither is an id."""
    if "\ufffd" in text:
        raise ValueError("must be text, not broken UTF-8")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be text that UTF-8 can hold") from None
    return text


def _fit_for_a_path(text: str) -> str:
    if "/" in text or text in (".", ".."):
        raise ValueError("must not contain '/' or be '.' or '..', because user ids stand in paths")
    return text


def whole(number: object) -> object:
    """JSON has one kind of number, and 20.0 is the integer 20."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Id = Annotated[
    str,
    StringConstraints(min_length=1, max_length=LONGEST_ID),
    AfterValidator(encodable),
    Field(json_schema_extra={"pattern": r"^[^\uFFFD]*$"}),
]
Value = Annotated[str, StringConstraints(max_length=LONGEST_VALUE)]
UserId = Annotated[
    Id,
    AfterValidator(_fit_for_a_path),
    Field(json_schema_extra={"pattern": r"^(?!\.{1,2}$)[^/\uFFFD]*$"}),
]
Values = Annotated[list[Value], Field(max_length=LONGEST_LIST, fail_fast=True)]
ListLength = Annotated[int, Field(ge=1, le=LONGEST_LIST), BeforeValidator(whole)]


class Body(BaseModel):
    """A request body: an unknown field and a number written as text are mistakes to hear of."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _way(title: str, given: tuple[str, ...], absent: tuple[str, ...]) -> JsonDict:
    """One way to ask, as JSON Schema; a null is as good as nothing."""
    fields: JsonDict = {name: {"not": {"type": "null"}} for name in given}
    return {
        "title": title,
        "required": list(given),
        "properties": fields | {name: {"type": "null"} for name in absent},
    }


WAYS_TO_ASK: JsonDict = {  # what `_one_way_to_ask` checks, for the documentation
    "anyOf": [
        _way("record a click and recommend", ("user_id", "item_id"), ("items",)),
        _way("recommend only", ("user_id",), ("item_id", "event_id", "items")),
        _way("stateless", ("items",), ("user_id", "item_id", "event_id")),
    ]
}


class RecommendationRequest(Body):
    """Record a click and answer (`user_id`, `item_id`), only answer (`user_id`), or stateless."""

    model_config = ConfigDict(json_schema_extra=WAYS_TO_ASK)

    user_id: UserId | None = Field(None, description="whose session this is")
    item_id: Id | None = Field(None, description="the item just clicked; recorded for the user")
    event_id: Id | None = Field(
        None, description="names this click, so that sending it again changes nothing"
    )
    items: list[Id] | None = Field(
        None,
        max_length=MOST_CLICKS,
        fail_fast=True,
        description="a whole session, oldest first, answered without storing; not with user_id",
    )
    k: ListLength = Field(20, description="how many items to return")
    exclude_seen: bool = Field(False, description="leave out everything clicked in this session")
    exclude_items: list[Id] = Field(
        default_factory=list,
        max_length=1000,
        fail_fast=True,
        description="leave these items out",
    )
    filter: dict[Value, Values] = Field(
        default_factory=dict,
        max_length=20,
        description="{attribute: [values]}: any of the values, for every attribute",
    )
    consent: bool = Field(True, description="false: nothing about the user is read or written")

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> Self:
        if self.user_id is None and self.items is None:
            raise ValueError("give user_id, or items for a stateless answer")
        if self.user_id is not None and self.items is not None:
            raise ValueError("give user_id or items, not both")
        if self.item_id is not None and self.user_id is None:
            raise ValueError("item_id is recorded for a user: give user_id, or use items")
        if self.event_id is not None and self.item_id is None:
            raise ValueError("event_id names a click: give item_id with it")
        return self


class ScoredItem(BaseModel):
    item_id: str
    score: float = Field(description="higher is likelier; comparable within one answer only")


class Recommendations(BaseModel):
    model_id: str = Field(description="the model that answered")
    source: Literal["model", "popular"] = Field(
        description="popular where nothing the model knows was clicked"
    )
    degraded: bool = Field(description="the stored session could not be used; this request's was")
    stored: bool = Field(description="the click of this request is confirmed in Redis")
    unknown_items: list[str] = Field(description="clicked items that the model does not know")
    items: list[ScoredItem] = Field(description="best first; fewer than k where few are allowed")


class ManyRequests(Body):
    requests: list[RecommendationRequest] = Field(
        min_length=1, max_length=MOST_REQUESTS, fail_fast=True
    )


class ManyRecommendations(BaseModel):
    responses: list[Recommendations] = Field(description="one for each request, in order")


class NewClick(Body):
    item_id: Id
    event_id: Id | None = Field(
        None, description="names this click, so that sending it again changes nothing"
    )
    timestamp: float | None = Field(
        None, allow_inf_nan=False, description="epoch seconds; kept, never orders or expires clicks"
    )


class NewClicks(Body):
    clicks: list[NewClick] = Field(
        min_length=1, max_length=MOST_CLICKS, fail_fast=True, description="oldest first"
    )
    consent: bool = Field(True, description="false: nothing is written")


class ClicksTaken(BaseModel):
    accepted: int = Field(description="clicks now in Redis that were not there before")
    duplicates: int = Field(description="clicks whose event_id was known already")
    unknown_items: list[str] = Field(description="recorded, but not known to the model")


class StoredClick(BaseModel):
    item_id: str
    timestamp: float | None
    event_id: str | None


class StoredUser(BaseModel):
    user_id: str
    clicks: list[StoredClick] = Field(description="the last clicks of this session, oldest first")
    model_id: str
    expires_in_seconds: float | None = Field(description="null where nothing is stored")


class SimilarItems(BaseModel):
    model_id: str
    item_id: str
    items: list[ScoredItem]


class ModelInfo(BaseModel):
    model_id: str
    created: str
    items: int
    hidden: int
    layers: int
    cell: str = Field(description="the recurrent cell of each layer")
    embedding: str = Field(description="what clicks are read from: shared, separate or none")
    scale: float = Field(description="of cosine scores; 0 for inner products")
    window: int = Field(description="clicks a state remembers")
    attributes: list[str] = Field(description="what filter may name")
    metrics: dict[str, object]
    training: dict[str, object]


class ReloadRequest(Body):
    bundle: str | None = Field(
        None,
        min_length=1,
        max_length=LONGEST_ID,
        description="name of a folder on the shelf, or beside the bundle that RECSYS_BUNDLE names; "
        "without it, what RECSYS_BUNDLE names now",
    )


class Reloaded(BaseModel):
    model_id: str = Field(description="the model that answers from now on")
    previous_model_id: str = Field(description="the same where the bundle was served already")


class FieldProblem(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = Field(default_factory=list, description="every field at fault")
    request_id: str | None = Field(default=None, description="as in X-Request-ID and in the log")


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


class HiddenState(BaseModel):
    model_id: str
    unknown_items: list[str] = Field(description="clicked items that the model does not know")
    layers: list[list[float]] = Field(description="the hidden state, the lowest layer first")
