"""A typed client of the service for Python: arguments in, answers as checked values out.

`Client` waits and `AsyncClient` is awaited; both keep their connections open. A refusal is raised
as `ServiceRefused`, with what the service said of each field. Where the service does not answer, is
overloaded (429, 503), or a gateway lost its answer (502, 504), the call is sent again, `retries`
times: every click has a name, so it counts once however often it is sent. Knows no bundle, no model
and no Redis.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from recsys.client import calls
from recsys.client.calls import ApiCall, Asked, Clicked, answer_of
from recsys.client.schemas import (
    Attributes,
    ClicksTaken,
    FoundItems,
    KnownItems,
    ManyRecommendations,
    ModelInfo,
    Recommendations,
    Reloaded,
    SimilarItems,
    StoredUser,
)
from recsys.errors import ServiceUnreachable

ApiAnswer = TypeVar("ApiAnswer")
AGAIN = (429, 502, 503, 504)  # statuses after which a call is sent again
PAUSE_SECONDS = 0.1  # before a call is sent again, unless the service names a time
LONGEST_PAUSE_SECONDS = 5.0


class Client:
    """Opens connections as needed; a context manager, which closes them. For one thread or many."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 5.0,
        retries: int = 1,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url
        self._tries = 1 + retries
        self._http = httpx.Client(**_options(url, api_key, timeout), transport=transport)

    def recommend(self, **asked: Unpack[Asked]) -> Recommendations:
        """Record `item_id` for `user_id` and answer; `user_id` alone only reads; or `items`."""
        return self._send(calls.recommend(asked))

    def recommend_many(self, requests: Sequence[Asked]) -> ManyRecommendations:
        """Up to 100 of them, handled in order."""
        return self._send(calls.recommend_many(requests))

    def record(
        self, user_id: str, clicks: Sequence[str | Clicked], *, consent: bool = True
    ) -> ClicksTaken:
        """Item ids, or clicks with a time and a name of their own; oldest first."""
        return self._send(calls.record(user_id, clicks, consent=consent))

    def user(self, user_id: str) -> StoredUser:
        """All that is stored about this user."""
        return self._send(calls.user(user_id))

    def forget(self, user_id: str) -> None:
        return self._send(calls.forget(user_id))

    def similar(self, item_id: str, k: int = 20) -> SimilarItems:
        return self._send(calls.similar(item_id, k))

    def search(
        self,
        words: str = "",
        *,
        filter: Mapping[str, Sequence[str]] | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> FoundItems:
        return self._send(calls.search(words, filter or {}, limit, offset))

    def look_up(self, item_ids: Sequence[str]) -> KnownItems:
        return self._send(calls.look_up(item_ids))

    def attributes(self) -> Attributes:
        return self._send(calls.attributes())

    def model(self) -> ModelInfo:
        return self._send(calls.model())

    def reload(self, bundle: str | None = None) -> Reloaded:
        """With an admin key."""
        return self._send(calls.reload(bundle))

    def roll_back(self) -> Reloaded:
        """With an admin key."""
        return self._send(calls.roll_back())

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, call: ApiCall[ApiAnswer]) -> ApiAnswer:
        for left in reversed(range(self._tries if call.repeatable else 1)):
            try:
                response = self._http.request(call.method, call.path, **_content(call))
            except httpx.TransportError as failed:
                if left == 0:
                    raise _unreachable(self._url, failed) from failed
                time.sleep(PAUSE_SECONDS)
                continue
            if left == 0 or response.status_code not in AGAIN:
                break
            time.sleep(_pause(response))
        return answer_of(call, response)


class AsyncClient:
    """The same, awaited; an async context manager. For one event loop."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 5.0,
        retries: int = 1,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._tries = 1 + retries
        self._http = httpx.AsyncClient(**_options(url, api_key, timeout), transport=transport)

    async def recommend(self, **asked: Unpack[Asked]) -> Recommendations:
        """Record `item_id` for `user_id` and answer; `user_id` alone only reads; or `items`."""
        return await self._send(calls.recommend(asked))

    async def recommend_many(self, requests: Sequence[Asked]) -> ManyRecommendations:
        """Up to 100 of them, handled in order."""
        return await self._send(calls.recommend_many(requests))

    async def record(
        self, user_id: str, clicks: Sequence[str | Clicked], *, consent: bool = True
    ) -> ClicksTaken:
        """Item ids, or clicks with a time and a name of their own; oldest first."""
        return await self._send(calls.record(user_id, clicks, consent=consent))

    async def user(self, user_id: str) -> StoredUser:
        """All that is stored about this user."""
        return await self._send(calls.user(user_id))

    async def forget(self, user_id: str) -> None:
        return await self._send(calls.forget(user_id))

    async def similar(self, item_id: str, k: int = 20) -> SimilarItems:
        return await self._send(calls.similar(item_id, k))

    async def search(
        self,
        words: str = "",
        *,
        filter: Mapping[str, Sequence[str]] | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> FoundItems:
        return await self._send(calls.search(words, filter or {}, limit, offset))

    async def look_up(self, item_ids: Sequence[str]) -> KnownItems:
        return await self._send(calls.look_up(item_ids))

    async def attributes(self) -> Attributes:
        return await self._send(calls.attributes())

    async def model(self) -> ModelInfo:
        return await self._send(calls.model())

    async def reload(self, bundle: str | None = None) -> Reloaded:
        """With an admin key."""
        return await self._send(calls.reload(bundle))

    async def roll_back(self) -> Reloaded:
        """With an admin key."""
        return await self._send(calls.roll_back())

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def _send(self, call: ApiCall[ApiAnswer]) -> ApiAnswer:
        for left in reversed(range(self._tries if call.repeatable else 1)):
            try:
                response = await self._http.request(call.method, call.path, **_content(call))
            except httpx.TransportError as failed:
                if left == 0:
                    raise _unreachable(self._url, failed) from failed
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if left == 0 or response.status_code not in AGAIN:
                break
            await asyncio.sleep(_pause(response))
        return answer_of(call, response)


def _options(url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    return {"base_url": url, "headers": headers, "timeout": timeout}


def _content(call: ApiCall[Any]) -> dict[str, Any]:
    return {"json": call.body, "params": call.query or None}


def _pause(response: httpx.Response) -> float:
    named = response.headers.get("Retry-After", "")
    return min(float(named), LONGEST_PAUSE_SECONDS) if named.isdigit() else PAUSE_SECONDS


def _unreachable(url: str, failed: httpx.TransportError) -> ServiceUnreachable:
    return ServiceUnreachable(f"{url}: {str(failed) or type(failed).__name__}. Is it running?")
