"""Schemas of the requests and answers of the API. Service, client and documentation share them."""

from math import isfinite
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SkipValidation,
    StringConstraints,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.config import JsonDict

MAX_ID_LENGTH = 128
MAX_EVENT_TYPE_LENGTH = 64
MAX_LIST_LENGTH = 100
MAX_CLICKS = 500
MAX_REQUESTS = 100
MAX_VALUE_LENGTH = 512  # of an attribute, as a title can be long
MAX_ENTRIES = 20  # of one rule of a list
MAX_BOOST = 1_000_000
MAX_FIELDS = 32  # of one object in a body


def encodable(text: str) -> str:
    """Return the text; raise `ValueError` for half a surrogate pair or for broken UTF-8."""
    if "\ufffd" in text:
        raise ValueError("must be text, not broken UTF-8")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be text that UTF-8 can hold") from None
    return text


def _no_path_separator(text: str) -> str:
    if "/" in text or text in (".", ".."):
        raise ValueError(
            "must not contain '/' or be '.' or '..', because user ids are parts of paths"
        )
    return text


def as_integer(number: object) -> object:
    """Return a float without a fraction as an integer: in JSON, 20.0 and 20 are the same number."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Id = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_ID_LENGTH),
    AfterValidator(encodable),
    Field(json_schema_extra={"pattern": r"^[^\uFFFD]*$"}),
]
EventType = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_EVENT_TYPE_LENGTH),
    AfterValidator(encodable),
    Field(json_schema_extra={"pattern": r"^[^\uFFFD]*$"}),
]
ClickedListId = Annotated[
    Id | None,
    Field(
        description="the list in which the item was shown, by the `list_id` of that answer; kept "
        "with the feedback, and checked when it is read"
    ),
]
EventTypesOfItems = Annotated[
    list[EventType | None] | None,
    Field(
        max_length=MAX_CLICKS,
        fail_fast=True,
        description="types of the clicks on `items`, in their order; null, or none, for the "
        "model's default; those behind the last item do not count",
    ),
]
Value = Annotated[str, StringConstraints(max_length=MAX_VALUE_LENGTH)]
UserId = Annotated[
    Id,
    AfterValidator(_no_path_separator),
    Field(json_schema_extra={"pattern": r"^(?!\.{1,2}$)[^/\uFFFD]*$"}),
]
Values = Annotated[list[Value], Field(max_length=MAX_LIST_LENGTH, fail_fast=True)]
ListLength = Annotated[int, Field(ge=1, le=MAX_LIST_LENGTH), BeforeValidator(as_integer)]


class Body(BaseModel):
    """Body of a request. Unknown fields and numbers written as text are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Bound = Annotated[float, Field(allow_inf_nan=False)]
BoostWeights = Annotated[
    dict[Value, Annotated[float, Field(ge=-MAX_BOOST, le=MAX_BOOST)]],
    Field(max_length=MAX_ENTRIES),
]


class NumberRange(Body):
    """Bounds of a number, at least one of them."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    lt: Bound | None = Field(None, description="less than")
    lte: Bound | None = Field(None, description="less than or equal")
    gt: Bound | None = Field(None, description="greater than")
    gte: Bound | None = Field(None, description="greater than or equal")

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.lt is self.lte is self.gt is self.gte is None:
            raise ValueError("give at least one of lt, lte, gt, gte")
        return self


_VALUES = TypeAdapter(Values)


def _values_or_range(given: object, _: ValidatorFunctionWrapHandler) -> list[str] | NumberRange:
    """Check one of the two forms, so that an error names the part that is wrong."""
    if isinstance(given, dict | NumberRange):
        return NumberRange.model_validate(given)
    return _VALUES.validate_python(given, strict=True)


Wanted = Annotated[Values | NumberRange, WrapValidator(_values_or_range)]


class ListRules(Body):
    """Length of a list, the items it may hold, their order, and what is said about them."""

    k: ListLength = Field(20, description="how many items to return")
    exclude_items: list[Id] = Field(
        default_factory=list, max_length=1000, fail_fast=True, description="leave these items out"
    )
    filter: dict[Value, Wanted] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="{attribute: [values] or {lt, lte, gt, gte}}: items need one of the "
        "values, or a number within the bounds, of every attribute",
    )
    backfill: bool = Field(
        False, description="return popular items if the filter and exclusions leave none"
    )
    boost: dict[Value, BoostWeights] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="{attribute: {value: number}}: add the number to the score of items with the "
        "value, -1,000,000 to 1,000,000 for 20 values; several add up",
    )
    max_per: dict[Value, ListLength] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="{attribute: number}: at most so many items, 1 to 100, with the same value",
    )
    pin: list[Id] = Field(
        default_factory=list,
        max_length=MAX_LIST_LENGTH,
        fail_fast=True,
        description="these items come first, in this order",
    )
    fields: list[Value] = Field(
        default_factory=list,
        max_length=MAX_ENTRIES,
        fail_fast=True,
        description="attributes to return with each item",
    )


def _form(title: str, present: tuple[str, ...], absent: tuple[str, ...]) -> JsonDict:
    """Return the JSON Schema of one form of a request. A null counts as absent."""
    fields: JsonDict = {
        name: {"type": "array" if name == "items" else "string"} for name in present
    }
    return {
        "title": title,
        "required": list(present),
        "properties": fields | {name: {"type": "null"} for name in absent},
    }


REQUEST_FORMS: JsonDict = {  # documents what `_check_form` checks
    "anyOf": [
        _form("record a click and recommend", ("user_id", "item_id"), ("items", "event_types")),
        _form(
            "recommend only",
            ("user_id",),
            ("item_id", "event_id", "event_type", "list_id", "items", "event_types"),
        ),
        _form("stateless", ("items",), ("user_id", "item_id", "event_id", "event_type", "list_id")),
    ]
}


class SessionFields(Body):
    """Session that a list is made for."""

    user_id: UserId | None = Field(None, description="the user whose session is read")
    item_id: Id | None = Field(None, description="the item just clicked; recorded for the user")
    event_id: Id | None = Field(
        None, description="identifies this click, so that sending it again changes nothing"
    )
    event_type: EventType | None = Field(
        None, description="type of this click, as view or cart; if absent, the model's default"
    )
    list_id: ClickedListId = None
    items: list[Id] | None = Field(
        None,
        max_length=MAX_CLICKS,
        fail_fast=True,
        description="a whole session, oldest first; nothing is stored; not with user_id",
    )
    event_types: EventTypesOfItems = None
    exclude_seen: bool = Field(False, description="leave out all items clicked in this session")
    consent: bool = Field(True, description="false: nothing about the user is read or written")


class RecommendationRequest(ListRules, SessionFields):
    """Click and recommend (`user_id`, `item_id`), only recommend (`user_id`), or stateless."""

    model_config = ConfigDict(json_schema_extra=REQUEST_FORMS)

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if self.user_id is None and self.items is None:
            raise ValueError("give user_id, or items for a stateless answer")
        if self.user_id is not None and self.items is not None:
            raise ValueError("give user_id or items, not both")
        if self.item_id is not None and self.user_id is None:
            raise ValueError("item_id is recorded for a user: give user_id, or use items")
        if self.event_id is not None and self.item_id is None:
            raise ValueError("event_id names a click: give item_id with it")
        if self.event_type is not None and self.item_id is None:
            raise ValueError("event_type belongs to a click: give item_id with it")
        if self.list_id is not None and self.item_id is None:
            raise ValueError("list_id is the list of a click: give item_id with it")
        if self.event_types is not None and self.items is None:
            raise ValueError("event_types belong to items: give items with them")
        return self


class ScoredItem(BaseModel):
    item_id: str
    score: float = Field(description="higher is more likely; comparable within one answer only")
    attributes: dict[str, str] | None = Field(
        None, description="those that `fields` names and the item has; absent without `fields`"
    )


class Recommendations(BaseModel):
    model_id: str = Field(description="the model that answered")
    source: Literal["model", "popular"] = Field(
        description="popular if the model knows none of the clicked items, or by `backfill`"
    )
    degraded: bool = Field(
        description="the stored session could not be read; only the clicks of this request count"
    )
    stored: bool = Field(description="the click of this request is in Redis")
    unknown_items: list[str] = Field(
        description="clicked and pinned items that the model does not know"
    )
    items: list[ScoredItem] = Field(
        description="best first, after pinned ones; fewer than k if fewer items are allowed"
    )
    unknown_event_types: list[str] | None = Field(
        None, description="types of clicks that the model does not know; absent if there are none"
    )
    variant: str | None = Field(
        None, description="the variant that answered; absent if no experiment runs"
    )
    list_id: str | None = Field(
        None,
        description="id of this list, to send with clicks on its items; absent without feedback, "
        "for a list of no user, and if degraded",
    )


class ManyRequests(Body):
    requests: list[RecommendationRequest] = Field(
        min_length=1, max_length=MAX_REQUESTS, fail_fast=True
    )


class ManyRecommendations(BaseModel):
    responses: list[Recommendations] = Field(description="one for each request, in order")


class NewClick(Body):
    item_id: Id
    event_id: Id | None = Field(
        None, description="identifies this click, so that sending it again changes nothing"
    )
    timestamp: float | None = Field(
        None,
        allow_inf_nan=False,
        description="epoch seconds; stored, but clicks are ordered and expire without it",
    )
    event_type: EventType | None = Field(
        None, description="type of the click, as view or cart; if absent, the model's default"
    )
    list_id: ClickedListId = None


class NewClicks(Body):
    clicks: list[NewClick] = Field(
        min_length=1, max_length=MAX_CLICKS, fail_fast=True, description="oldest first"
    )
    consent: bool = Field(True, description="false: nothing is written")


class ClicksTaken(BaseModel):
    accepted: int = Field(description="clicks that are new in Redis")
    duplicates: int = Field(description="clicks whose event_id was known")
    unknown_items: list[str] = Field(description="recorded items that the model does not know")
    unknown_event_types: list[str] | None = Field(
        None, description="types of clicks that the model does not know; absent if there are none"
    )


class StoredClick(BaseModel):
    item_id: str
    timestamp: float | None
    event_id: str | None
    event_type: str | None = None


class StoredUser(BaseModel):
    user_id: str
    clicks: list[StoredClick] = Field(description="the last clicks of this session, oldest first")
    model_id: str
    expires_in_seconds: float | None = Field(description="null if nothing is stored")


class SimilarItems(BaseModel):
    model_id: str
    item_id: str
    items: list[ScoredItem]


class SimilarRequest(ListRules):
    item_id: Id = Field(description="the item to compare with; it is not in the list")


class SimilarByRules(SimilarItems):
    """Similar items, by the rules of a request."""

    source: Literal["model", "popular"] = Field(description="popular by `backfill`")
    unknown_items: list[str] = Field(description="pinned items that the model does not know")


MAX_CHANGES = 1000  # items in one call
MAX_TEXT_LENGTH = 2048  # of an attribute; a small picture is a text, too
MAX_VECTOR = 4096  # numbers


def _attribute_value(value: object, _: ValidatorFunctionWrapHandler) -> object:
    """Check the value of an attribute; one message names all that it may be."""
    parts = value if isinstance(value, list) else [] if value is None else [value]
    if len(parts) > MAX_LIST_LENGTH:
        raise ValueError(f"must have at most {MAX_LIST_LENGTH} values, got {len(parts):,}")
    for part in parts:
        if isinstance(part, str):
            if len(encodable(part)) > MAX_TEXT_LENGTH:
                raise ValueError(f"must have at most {MAX_TEXT_LENGTH} characters")
        elif not isinstance(part, int | float) or not isfinite(part):
            raise ValueError(
                "must be a text, a finite number, true, false, a list of these or null"
            )
    return value


Scalar = str | float | bool
AttributeContent = Annotated[Scalar | list[Scalar] | None, WrapValidator(_attribute_value)]
Vector = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False)]],
    Field(min_length=1, max_length=MAX_VECTOR, fail_fast=True),
]


class ItemChange(Body):
    """Change of one item, or a new item. A field left out stays as it is."""

    item_id: Id = Field(description="the item; one that the model does not know is new")
    available: bool | None = Field(
        None, description="false: no list holds it; a new item is available if this is left out"
    )
    attributes: dict[Value, AttributeContent] = Field(
        default_factory=dict,
        max_length=MAX_FIELDS,
        description="attributes that change; null: the item has no value",
    )
    vectors: dict[Value, Vector] = Field(
        default_factory=dict,
        max_length=MAX_FIELDS,
        description="vectors of a new item that the model was trained with, such as of its image",
    )


class ItemChanges(Body):
    # each item is checked alone, so that one that is wrong does not stop the others
    items: list[SkipValidation[ItemChange]] = Field(min_length=1, max_length=MAX_CHANGES)


class ItemProblem(BaseModel):
    position: int = Field(description="of the item in the request, from 0")
    item_id: str | None = Field(description="its id; null if that is wrong")
    field: str
    message: str


class ItemsChanged(BaseModel):
    applied: int = Field(description="items that are now as the request says")
    changed: int = Field(description="those of them that were not so before")
    not_placed: list[str] = Field(
        description="new items that no list can hold: the model has no content encoder, or there "
        "is no content to place them by"
    )
    errors: list[ItemProblem] = Field(description="items that were not applied, and why")
    epoch: str = Field(
        description="names this live catalogue; another one means that Redis lost it"
    )


class ItemsToDelete(Body):
    item_ids: list[Id] = Field(min_length=1, max_length=MAX_CHANGES, fail_fast=True)


class ItemsDeleted(BaseModel):
    deleted: int = Field(description="items that were not deleted before")


class LiveItem(BaseModel):
    """Changes of an item since the bundle was made."""

    item_id: str
    placed: bool = Field(description="the model knows it: from training, or by its content")
    available: bool
    attributes: dict[str, object] = Field(description="those that were changed")
    vectors: dict[str, int] = Field(description="name → length of the vectors that were sent")
    changed: float | None = Field(
        description="time of the last change by the clock of Redis, epoch seconds; null: none"
    )


class VariantInfo(BaseModel):
    share: float = Field(description="percent of the users")
    model_id: str | None = Field(
        description="null if its bundle was refused: the main version answers its users"
    )


class ExperimentInfo(BaseModel):
    id: str
    variants: dict[str, VariantInfo] = Field(description="by name, the main version first")


class ModelInfo(BaseModel):
    model_id: str
    created: str
    items: int
    hidden: int
    layers: int
    cell: str = Field(description="the recurrent cell of each layer")
    embedding: str = Field(description="input embedding of clicks: shared, separate or none")
    scale: float = Field(description="scale of cosine scores; 0 for inner products")
    window: int = Field(description="number of last clicks that a state depends on")
    attributes: list[str] = Field(description="attributes that filter may name")
    event_types: list[str] = Field(
        default_factory=list,
        description="event types of clicks that the model knows, the default first; empty if it "
        "does not distinguish them",
    )
    metrics: dict[str, object]
    training: dict[str, object]
    experiment: ExperimentInfo | None = Field(
        None, description="variants that answer some users; absent if no experiment runs"
    )


class ReloadRequest(Body):
    bundle: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_ID_LENGTH,
        description="name of a bundle in the registry, or beside the bundle of RECSYS_BUNDLE; "
        "it answers all users; if absent, what RECSYS_BUNDLE names now, with its experiment",
    )


class Reloaded(BaseModel):
    model_id: str = Field(description="the model that answers now")
    previous_model_id: str = Field(description="the same model if its bundle was served before")


class FieldProblem(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """Problem details of RFC 9457."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)  # none is left out

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = Field(default_factory=list, description="the wrong fields")
    request_id: str | None = Field(
        default=None, description="the id in X-Request-ID and in the log"
    )


MAX_OFFSET = 2**31 - 1
Words = Annotated[
    str,
    StringConstraints(max_length=MAX_ID_LENGTH),
    AfterValidator(encodable),
    Field(
        description="words that an item must have, all of them, in its id or attributes; any case",
        json_schema_extra={"pattern": r"^[^\uFFFD]*$"},
    ),
]
Offset = Annotated[
    int,
    Field(ge=0, le=MAX_OFFSET, description="number of items to skip"),
    BeforeValidator(as_integer),
]


class Item(BaseModel):
    """Item as described in the bundle."""

    item_id: str
    clicks: int = Field(description="clicks in the training data")
    attributes: dict[str, str] = Field(description="attributes for which the item has a value")


class FoundItems(BaseModel):
    model_id: str
    total: int = Field(description="number of items found")
    items: list[Item] = Field(description="one page of them, the most clicked first")


class ItemIds(Body):
    item_ids: list[Id] = Field(min_length=1, max_length=MAX_LIST_LENGTH, fail_fast=True)


class KnownItems(BaseModel):
    model_id: str
    items: list[Item] = Field(description="each item once, in the order of the request")
    unknown_items: list[str] = Field(description="items that the model does not know")


class AttributeValue(BaseModel):
    value: str
    items: int = Field(description="number of items with this value")


class Attribute(BaseModel):
    name: str
    distinct: int = Field(description="number of different values")
    values: list[AttributeValue] = Field(
        description="the most frequent values, at most 100, without those above 128 characters"
    )


class Attributes(BaseModel):
    model_id: str
    attributes: list[Attribute]


class Session(Body):
    items: list[Id] = Field(
        max_length=MAX_CLICKS, fail_fast=True, description="a whole session, oldest first"
    )
    event_types: EventTypesOfItems = None


class HiddenState(BaseModel):
    model_id: str
    unknown_items: list[str] = Field(description="clicked items that the model does not know")
    layers: list[list[float]] = Field(description="the hidden state, lowest layer first")
