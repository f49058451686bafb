"""Typed clients of the service: `Client` blocks, `AsyncClient` is awaited.

Both have the same methods, because each call is written once, in `Endpoints`. A refusal raises
`ServiceRefused` with the message of the service for each field. A call is sent again, up to
`retries` times, if the service does not answer, if it is overloaded (429, 503) or if a gateway
loses its answer (502, 504). Every click is sent with an event id, so it counts once however often
it is sent.
"""

import asyncio
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from types import MethodType
from typing import (
    Any,
    Concatenate,
    Generic,
    NotRequired,
    ParamSpec,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    get_args,
    overload,
)
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import BaseModel, ValidationError

from recsys_client.errors import ServiceRefused, ServiceUnreachable
from recsys_client.schemas import (
    Attributes,
    ClicksTaken,
    FoundItems,
    ItemsChanged,
    ItemsDeleted,
    KnownItems,
    LiveItem,
    ManyRecommendations,
    ModelInfo,
    Problem,
    Recommendations,
    Reloaded,
    SimilarByRules,
    SimilarItems,
    StoredUser,
)

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
Schema = TypeVar("Schema", bound=BaseModel)
RETRY_STATUSES = (429, 502, 503, 504)
PAUSE_SECONDS = 0.1  # before a call is sent again, unless the service names a time
MAX_PAUSE_SECONDS = 5.0


class NumberRangeParams(TypedDict, total=False):
    """Bounds of a number, at least one of them."""

    lt: float
    lte: float
    gt: float
    gte: float


class RuleParams(TypedDict, total=False):
    """Rules of a list. The service has a default for each field left out."""

    k: int
    exclude_items: Sequence[str]
    filter: Mapping[str, Sequence[str] | NumberRangeParams]
    backfill: bool
    boost: Mapping[str, Mapping[str, float]]
    max_per: Mapping[str, int]
    pin: Sequence[str]
    fields: Sequence[str]


class RecommendationParams(RuleParams, total=False):
    """Fields of `POST /v1/recommendations`. The service has a default for each field left out."""

    user_id: str
    item_id: str
    event_id: str
    event_type: str
    list_id: str
    items: Sequence[str]
    event_types: Sequence[str | None]
    exclude_seen: bool
    consent: bool


class ItemParams(TypedDict):
    """Change of an item. What is left out stays as it is."""

    item_id: str
    available: NotRequired[bool]
    attributes: NotRequired[Mapping[str, Any]]
    vectors: NotRequired[Mapping[str, Sequence[float]]]


class ClickParams(TypedDict):
    """Click to record. Its time, event id, type and list are optional."""

    item_id: str
    event_id: NotRequired[str]
    timestamp: NotRequired[float]
    event_type: NotRequired[str]
    list_id: NotRequired[str]


@dataclass(frozen=True, slots=True)
class ApiCall(Generic[Answer]):
    """Request, and the function that parses the body of its answer."""

    method: str
    path: str
    parse: Callable[[bytes], Answer]
    body: Mapping[str, Any] | None = None
    query: Sequence[tuple[str, str]] = ()
    idempotent: bool = True  # may be sent twice

    @property
    def content(self) -> dict[str, Any]:
        """Return the arguments that httpx sends the body and the query from."""
        return {"json": self.body, "params": self.query or None}


class Endpoint(Generic[Arguments, Answer]):
    """Method of both clients, made from a function that builds an `ApiCall`.

    The method of `Client` returns the answer, the method of `AsyncClient` a coroutine of it.
    """

    def __init__(
        self, build: "Callable[Concatenate[Endpoints, Arguments], ApiCall[Answer]]"
    ) -> None:
        @wraps(build)
        def call(client: "Endpoints", *args: Arguments.args, **kwargs: Arguments.kwargs) -> Any:
            return client._send(build(client, *args, **kwargs))

        signature = inspect.signature(build)
        (answer,) = get_args(signature.return_annotation)
        call.__dict__["__signature__"] = signature.replace(return_annotation=answer)
        self._call = call

    @overload
    def __get__(self, client: None, owner: type) -> Callable[..., Any]: ...

    @overload
    def __get__(self, client: "Client", owner: type) -> Callable[Arguments, Answer]: ...

    @overload
    def __get__(
        self, client: "AsyncClient", owner: type
    ) -> Callable[Arguments, Coroutine[Any, Any, Answer]]: ...

    def __get__(self, client: "Client | AsyncClient | None", owner: type) -> Callable[..., Any]:
        """Return the method of this client; of the class, return the function."""
        return self._call if client is None else MethodType(self._call, client)


class Endpoints(ABC):
    """Calls of the API, one method for each."""

    @abstractmethod
    def _send(self, call: ApiCall[Any]) -> Any:
        """Send a call; return its answer, or a coroutine of it."""

    @Endpoint
    def recommend(self, **params: Unpack[RecommendationParams]) -> ApiCall[Recommendations]:
        """Record the click of `user_id` on `item_id`, if one is given, and recommend items.

        With `user_id` alone, nothing is recorded. With `items`, the session is these item ids.
        """
        return _post("recommendations", _with_event_id(params), Recommendations)

    @Endpoint
    def recommend_many(
        self, requests: Sequence[RecommendationParams]
    ) -> ApiCall[ManyRecommendations]:
        """Answer up to 100 requests, in order."""
        body = {"requests": [_with_event_id(request) for request in requests]}
        return _post("recommendations:batch", body, ManyRecommendations)

    @Endpoint
    def record(
        self, user_id: str, clicks: Sequence[str | ClickParams], *, consent: bool = True
    ) -> ApiCall[ClicksTaken]:
        """Record clicks, oldest first: item ids, or clicks with time, event id and type."""
        params = [ClickParams(item_id=each) if isinstance(each, str) else each for each in clicks]
        body = {"clicks": [_with_event_id(each) for each in params], "consent": consent}
        return _post(f"{_user(user_id)}/clicks", body, ClicksTaken)

    @Endpoint
    def user(self, user_id: str) -> ApiCall[StoredUser]:
        """Return everything that is stored about this user."""
        return _get(_user(user_id), StoredUser)

    @Endpoint
    def forget(self, user_id: str) -> ApiCall[None]:
        """Delete everything that is stored about this user."""
        return ApiCall("DELETE", f"v1/{_user(user_id)}", lambda _: None)

    @Endpoint
    def similar(self, item_id: str, k: int = 20) -> ApiCall[SimilarItems]:
        """Return the items most similar to this item."""
        return _get(f"items/{quote(item_id, safe='')}/similar", SimilarItems, ("k", str(k)))

    @Endpoint
    def similar_by_rules(
        self, item_id: str, **rules: Unpack[RuleParams]
    ) -> ApiCall[SimilarByRules]:
        """Return the items most similar to this item, by the rules of a list."""
        return _post("items:similar", {"item_id": item_id, **rules}, SimilarByRules)

    @Endpoint
    def search(
        self,
        words: str = "",
        *,
        filter: Mapping[str, Sequence[str]] | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> ApiCall[FoundItems]:
        """Return the items that have all these words and pass the filter."""
        pairs = [(name, value) for name, values in (filter or {}).items() for value in values]
        query = [("q", words), ("limit", str(limit)), ("offset", str(offset))]
        query += [("filter", f"{name}:{value}") for name, value in pairs]
        return _get("items", FoundItems, *query)

    @Endpoint
    def look_up(self, item_ids: Sequence[str]) -> ApiCall[KnownItems]:
        """Return clicks and attributes of these items."""
        return _post("items:lookup", {"item_ids": list(item_ids)}, KnownItems)

    @Endpoint
    def attributes(self) -> ApiCall[Attributes]:
        """Return the attributes of the items and their most frequent values."""
        return _get("attributes", Attributes)

    @Endpoint
    def change_items(self, items: Sequence[ItemParams]) -> ApiCall[ItemsChanged]:
        """Change or add up to 1,000 items. The client needs a catalogue key."""
        body = {"items": list(items)}
        return ApiCall("PUT", "v1/items", ItemsChanged.model_validate_json, body)

    @Endpoint
    def changes_of(self, item_id: str) -> ApiCall[LiveItem]:
        """Return what was changed of an item. The client needs a catalogue key."""
        return _get("items:one", LiveItem, ("item_id", item_id))

    @Endpoint
    def delete_items(self, item_ids: Sequence[str]) -> ApiCall[ItemsDeleted]:
        """Delete up to 1,000 items. The client needs a catalogue key."""
        return _post("items:delete", {"item_ids": list(item_ids)}, ItemsDeleted)

    @Endpoint
    def model(self) -> ApiCall[ModelInfo]:
        """Describe the model that answers."""
        return _get("model", ModelInfo)

    @Endpoint
    def reload(self, bundle: str | None = None) -> ApiCall[Reloaded]:
        """Serve another bundle. The client needs an admin key."""
        return _post("admin/reload", {} if bundle is None else {"bundle": bundle}, Reloaded)

    @Endpoint
    def roll_back(self) -> ApiCall[Reloaded]:
        """Serve the previous bundle again. The client needs an admin key."""
        return ApiCall("POST", "v1/admin/rollback", Reloaded.model_validate_json, idempotent=False)


class Client(Endpoints):
    """Client that blocks, for one thread or many.

    It keeps its connections open. `close`, or the end of its `with` block, closes them.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 5.0,
        retries: int = 1,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url, self._max_attempts = url, 1 + retries
        self._http = httpx.Client(**_options(url, api_key, timeout), transport=transport)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: ApiCall[Answer]) -> Answer:
        attempts = _Attempts(self._url, self._max_attempts if call.idempotent else 1)
        while True:
            try:
                response = self._http.request(call.method, call.path, **call.content)
            except httpx.TransportError as failure:
                time.sleep(attempts.pause_after_failure(failure))
                continue
            pause = attempts.pause_after(response)
            if pause is None:
                return answer_of(call, response)
            time.sleep(pause)


class AsyncClient(Endpoints):
    """Client that is awaited, for one event loop.

    It keeps its connections open. `close`, or the end of its `async with` block, closes them.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 5.0,
        retries: int = 1,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url, self._max_attempts = url, 1 + retries
        self._http = httpx.AsyncClient(**_options(url, api_key, timeout), transport=transport)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, call: ApiCall[Answer]) -> Answer:
        attempts = _Attempts(self._url, self._max_attempts if call.idempotent else 1)
        while True:
            try:
                response = await self._http.request(call.method, call.path, **call.content)
            except httpx.TransportError as failure:
                await asyncio.sleep(attempts.pause_after_failure(failure))
                continue
            pause = attempts.pause_after(response)
            if pause is None:
                return answer_of(call, response)
            await asyncio.sleep(pause)


@dataclass(slots=True)
class _Attempts:
    """Attempts left for one call."""

    url: str
    left: int

    def pause_after_failure(self, failure: httpx.TransportError) -> float:
        """Return seconds until the next attempt; raise `ServiceUnreachable` if none is left."""
        self.left -= 1
        if self.left <= 0:
            reason = str(failure).rstrip(".") or type(failure).__name__
            wrong_url = isinstance(failure, httpx.UnsupportedProtocol)
            advice = "Give the whole URL, http://HOST:8000." if wrong_url else "Is it running?"
            raise ServiceUnreachable(f"{self.url}: {reason}. {advice}") from failure
        return PAUSE_SECONDS

    def pause_after(self, response: httpx.Response) -> float | None:
        """Return seconds until the next attempt, or None if this response is final."""
        self.left -= 1
        if self.left <= 0 or response.status_code not in RETRY_STATUSES:
            return None
        seconds = response.headers.get("Retry-After", "")
        return min(float(seconds), MAX_PAUSE_SECONDS) if seconds.isdecimal() else PAUSE_SECONDS


def answer_of(call: ApiCall[Answer], response: httpx.Response) -> Answer:
    """Return the parsed answer.

    Raises:
        ServiceRefused: The service refused the call.
        ServiceUnreachable: Another program answered, such as a proxy with a page of its own.
    """
    if response.is_success:
        try:
            return call.parse(response.content)
        except ValidationError:
            kind = response.headers.get("Content-Type", "no type")
            raise ServiceUnreachable(
                f"{response.url}: the answer is not one of this API ({kind}). "
                "Does a proxy answer for it, or is the service of another version?"
            ) from None
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:  # from a proxy, for example
        raise ServiceRefused(response.reason_phrase, response.status_code) from None
    fields = {error.field: error.message for error in problem.errors}
    raise ServiceRefused(problem.detail, problem.status, fields, problem.request_id)


def _options(url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    return {"base_url": url, "headers": headers, "timeout": timeout}


def _get(path: str, schema: type[Schema], *query: tuple[str, str]) -> ApiCall[Schema]:
    return ApiCall("GET", f"v1/{path}", schema.model_validate_json, query=query)


def _post(path: str, body: Mapping[str, Any], schema: type[Schema]) -> ApiCall[Schema]:
    return ApiCall("POST", f"v1/{path}", schema.model_validate_json, body)


def _with_event_id(params: RecommendationParams | ClickParams) -> dict[str, Any]:
    """Return the parameters with an event id if they have an item id and no event id."""
    body: dict[str, Any] = dict(params)
    if body.get("item_id") is not None and body.get("event_id") is None:
        body["event_id"] = uuid4().hex
    return body


def _user(user_id: str) -> str:
    return f"users/{quote(user_id, safe='')}"
