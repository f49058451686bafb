"""Client that makes every call of the API and remembers which clicks were acknowledged."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx

from tests.support.service.quick_client import QuickClient

TENT, BAG, MAT = "aurora-tent", "aurora-sleeping-bag", "aurora-sleeping-mat"
OF_USERS = ("click", "click without event id", "read", "several", "list")  # recommendations
MAY_FAIL = ("clicks", "show", "forget")  # with 503, as documented


@dataclass(frozen=True, slots=True)
class CallResult:
    """Answer to one call, with its latency."""

    call: str
    status: int
    seconds: float
    body: Any

    @property
    def lists(self) -> list[dict[str, Any]]:
        """Return the lists for users in the answer."""
        if self.call not in OF_USERS or self.status != 200:
            return []
        return self.body["responses"] if self.call == "several" else [self.body]

    @property
    def is_allowed(self) -> bool:
        return self.status in (200, 204) or (self.status == 503 and self.call in MAY_FAIL)


class ApiCaller:
    """Caller of every API call, each for users of its own, whose first click is stored."""

    def __init__(self, client: "httpx.AsyncClient | QuickClient") -> None:
        self._client = client
        self._numbers = count()
        self._acknowledged: dict[str, dict[str, bool]] = {}  # user → event id or item id → stored
        self._forgotten: set[str] = set()
        self._ready: dict[str, list[str]] = {}

    async def prepare(self, rounds: int) -> None:
        """Store the first clicks of enough users for so many rounds."""
        for call in (*OF_USERS, *MAY_FAIL):
            self._ready[call] = [f"{call.replace(' ', '-')}-{n}" for n in range(rounds)]
            for user in self._ready[call]:
                clicks = [{"item_id": TENT, "event_id": self._new_id(user, stored=True)}]
                while (await self._post(f"users/{user}/clicks", clicks=clicks)).status_code != 200:
                    await asyncio.sleep(0.05)

    async def round(self, seconds: float = 0.0) -> list[CallResult]:
        """Make every call once, spread over so many seconds, each for a user of its own."""
        calls = {
            "click": self._click,
            "click without event id": self._click_without_event_id,
            "read": self._read,
            "several": self._several,
            "clicks": self._clicks,
            "list": self._list,
            "show": lambda: self._get(f"users/{self._user('show')}"),
            "forget": self._forget,
            "stateless": lambda: self._post("recommendations", items=[TENT]),
            "similar": lambda: self._get(f"items/{TENT}/similar"),
            "model": lambda: self._get("model"),
            "live": lambda: self._client.get("/health/live"),
            "ready": lambda: self._client.get("/health/ready"),
            "metrics": lambda: self._client.get("/metrics"),
        }
        dues = [time.perf_counter() + at * seconds / len(calls) for at in range(len(calls))]
        timed = zip(calls.items(), dues, strict=True)
        return await asyncio.gather(*(self._timed(*named, due) for named, due in timed))

    async def check(self) -> None:
        """Check that each acknowledged click is there once, and no click that was not sent."""
        for user, sent in self._acknowledged.items():
            while (answer := await self._get(f"users/{user}")).status_code == 503:
                await asyncio.sleep(0.05)  # a busy machine, perhaps
            clicks = answer.json()["clicks"]
            stored = Counter(click["event_id"] or click["item_id"] for click in clicks)
            assert all(times == 1 for times in stored.values()), f"{user}: doubled in {stored}"
            assert stored.keys() <= sent.keys(), f"{user}: not sent: {stored.keys() - sent.keys()}"
            if user in self._forgotten:
                assert not stored, f"{user} was forgotten, but has clicks"
            elif not user.startswith("forget"):  # after 503 the user may be forgotten or not
                lost = [click for click, safe in sent.items() if safe and click not in stored]
                assert not lost, f"{user}: {lost} were acknowledged"

    async def stores(self) -> bool:
        """Return whether the service can store a click now."""
        answer = await self._post("recommendations", user_id="probe", item_id=TENT)
        return bool(answer.json()["stored"])

    async def _timed(
        self, name: str, call: Callable[[], Awaitable[httpx.Response]], due: float
    ) -> CallResult:
        """Make a call; its latency counts from the due time, even if the call starts later."""
        await asyncio.sleep(max(due - time.perf_counter(), 0.0))
        answer = await call()
        seconds = time.perf_counter() - due
        body = answer.json() if answer.text.startswith("{") else answer.text
        return CallResult(name, answer.status_code, seconds, body)

    async def _click(self) -> httpx.Response:
        user = self._user("click")
        click_id = self._new_id(user)
        answer = await self._post(
            "recommendations",
            user_id=user,
            item_id=BAG,
            event_id=click_id,
            exclude_seen=True,
            k=100,
        )
        return self._record(user, click_id, answer, answer.json())

    async def _click_without_event_id(self) -> httpx.Response:
        user = self._user("click without event id")
        click_id = self._new_id(user)  # also the id of an item that the model does not know
        answer = await self._post(
            "recommendations", user_id=user, item_id=click_id, exclude_seen=True
        )
        return self._record(user, click_id, answer, answer.json())

    async def _several(self) -> httpx.Response:
        user = self._user("several")
        click_id = self._new_id(user)
        click = {"user_id": user, "item_id": MAT, "event_id": click_id, "exclude_seen": True}
        read = {"user_id": user, "exclude_seen": True, "k": 100}
        answer = await self._post("recommendations:batch", requests=[click, read])
        body = answer.json()["responses"][0] if answer.status_code == 200 else {}
        return self._record(user, click_id, answer, body)

    async def _clicks(self) -> httpx.Response:
        user = self._user("clicks")
        click_ids = [self._new_id(user) for _ in range(3)]
        clicks = [{"item_id": BAG, "event_id": click_id} for click_id in click_ids]
        answer = await self._post(f"users/{user}/clicks", clicks=clicks)
        self._acknowledged[user] |= dict.fromkeys(click_ids, answer.status_code == 200)
        return answer

    async def _forget(self) -> httpx.Response:
        user = self._user("forget")
        answer = await self._client.delete(f"/v1/users/{user}")
        if answer.status_code == 204:
            self._forgotten.add(user)
        return answer

    async def _read(self) -> httpx.Response:
        user = self._user("read")
        return await self._post("recommendations", user_id=user, exclude_seen=True, k=100)

    async def _list(self) -> httpx.Response:
        return await self._get(f"users/{self._user('list')}/recommendations")

    def _user(self, call: str) -> str:
        """Return the next user for a call, in turns."""
        users = self._ready[call]
        users.append(users.pop(0))
        return users[-1]

    def _new_id(self, user: str, *, stored: bool = False) -> str:
        """Return a new click id; it counts as not stored until the service acknowledges it."""
        click_id = f"click-{next(self._numbers)}"
        self._acknowledged.setdefault(user, {})[click_id] = stored
        return click_id

    def _record(
        self, user: str, click_id: str, answer: httpx.Response, body: dict[str, Any]
    ) -> httpx.Response:
        self._acknowledged[user][click_id] = answer.status_code == 200 and body["stored"]
        return answer

    async def _post(self, path: str, **body: Any) -> httpx.Response:
        return await self._client.post(f"/v1/{path}", json=body)

    async def _get(self, path: str) -> httpx.Response:
        return await self._client.get(f"/v1/{path}")
