"""Each call of the API as a value: what is sent, how its answer is read, what a refusal says.

Pure: nothing is sent here, so both clients make the same calls. Clicks without a name are given
one, because only a named click can be sent twice and count once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NotRequired, TypedDict, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import BaseModel, ValidationError

from recsys.client.schemas import (
    Attributes,
    ClicksTaken,
    FoundItems,
    KnownItems,
    ManyRecommendations,
    ModelInfo,
    Problem,
    Recommendations,
    Reloaded,
    SimilarItems,
    StoredUser,
)
from recsys.errors import ServiceRefused

ApiAnswer = TypeVar("ApiAnswer")
Answered = TypeVar("Answered", bound=BaseModel)


class Asked(TypedDict, total=False):
    """What `POST /v1/recommendations` takes; what is left out is as the service has it."""

    user_id: str
    item_id: str
    event_id: str
    items: Sequence[str]
    k: int
    exclude_seen: bool
    exclude_items: Sequence[str]
    filter: Mapping[str, Sequence[str]]
    consent: bool


class Clicked(TypedDict):
    """A click to record, with a time and a name of its own, if it has them."""

    item_id: str
    event_id: NotRequired[str]
    timestamp: NotRequired[float]


@dataclass(frozen=True, slots=True)
class ApiCall(Generic[ApiAnswer]):
    """A request, and what makes an answer of the body that comes back."""

    method: str
    path: str
    read: Callable[[bytes], ApiAnswer]
    body: Mapping[str, Any] | None = None
    query: Sequence[tuple[str, str]] = ()
    repeatable: bool = True  # sent twice, it does what it does once


def recommend(asked: Asked) -> ApiCall[Recommendations]:
    return _post("recommendations", _named(asked), Recommendations)


def recommend_many(requests: Sequence[Asked]) -> ApiCall[ManyRecommendations]:
    body = {"requests": [_named(asked) for asked in requests]}
    return _post("recommendations:batch", body, ManyRecommendations)


def record(
    user_id: str, clicks: Sequence[str | Clicked], *, consent: bool = True
) -> ApiCall[ClicksTaken]:
    made = [Clicked(item_id=one) if isinstance(one, str) else one for one in clicks]
    sent = [_named(one) for one in made]
    return _post(f"{_user(user_id)}/clicks", {"clicks": sent, "consent": consent}, ClicksTaken)


def user(user_id: str) -> ApiCall[StoredUser]:
    return _get(_user(user_id), StoredUser)


def forget(user_id: str) -> ApiCall[None]:
    return ApiCall("DELETE", f"v1/{_user(user_id)}", lambda _: None)


def similar(item_id: str, k: int) -> ApiCall[SimilarItems]:
    return _get(f"items/{quote(item_id, safe='')}/similar", SimilarItems, ("k", str(k)))


def search(
    words: str, filter: Mapping[str, Sequence[str]], limit: int, offset: int
) -> ApiCall[FoundItems]:
    wanted = [f"{name}:{value}" for name, values in filter.items() for value in values]
    query = [("q", words), ("limit", str(limit)), ("offset", str(offset))]
    return _get("items", FoundItems, *query, *(("filter", one) for one in wanted))


def look_up(item_ids: Sequence[str]) -> ApiCall[KnownItems]:
    return _post("items:lookup", {"item_ids": list(item_ids)}, KnownItems)


def attributes() -> ApiCall[Attributes]:
    return _get("attributes", Attributes)


def model() -> ApiCall[ModelInfo]:
    return _get("model", ModelInfo)


def reload(bundle: str | None) -> ApiCall[Reloaded]:
    return _post("admin/reload", {} if bundle is None else {"bundle": bundle}, Reloaded)


def roll_back() -> ApiCall[Reloaded]:
    return ApiCall("POST", "v1/admin/rollback", Reloaded.model_validate_json, repeatable=False)


def answer_of(call: ApiCall[ApiAnswer], response: httpx.Response) -> ApiAnswer:
    """What the service answered; raises `ServiceRefused` with what it said instead."""
    if response.is_success:
        return call.read(response.content)
    try:
        said = Problem.model_validate_json(response.content)
    except ValidationError:  # a proxy in between, perhaps
        raise ServiceRefused(response.reason_phrase, response.status_code) from None
    fields = {one.field: one.message for one in said.errors}
    raise ServiceRefused(said.detail, said.status, fields, said.request_id)


def _get(path: str, kind: type[Answered], *query: tuple[str, str]) -> ApiCall[Answered]:
    return ApiCall("GET", f"v1/{path}", kind.model_validate_json, query=query)


def _post(path: str, body: Mapping[str, Any] | None, kind: type[Answered]) -> ApiCall[Answered]:
    return ApiCall("POST", f"v1/{path}", kind.model_validate_json, body)


def _named(one: Asked | Clicked) -> dict[str, Any]:
    """The same with a name for its click, unless it has one or there is no click."""
    named: dict[str, Any] = dict(one)
    if named.get("item_id") is not None and named.get("event_id") is None:
        named["event_id"] = uuid4().hex
    return named


def _user(user_id: str) -> str:
    return f"users/{quote(user_id, safe='')}"
