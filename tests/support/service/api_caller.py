"""The Caller: makes every call of the API, and never forgets what the service said it has."""

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
    """What came back from one call, and how long it took."""

    call: str
    status: int
    seconds: float
    body: Any

    @property
    def lists(self) -> list[dict[str, Any]]:
        """The recommendations about users in it."""
        if self.call not in OF_USERS or self.status != 200:
            return []
        return self.body["responses"] if self.call == "several" else [self.body]

    @property
    def is_allowed(self) -> bool:
        return self.status in (200, 204) or (self.status == 503 and self.call in MAY_FAIL)


class ApiCaller:
    """Every user whom it speaks for has clicked the tent before, and the service has it."""

    def __init__(self, client: "httpx.AsyncClient | QuickClient") -> None:
        self._client = client
        self._numbers = count()
        self._said: dict[str, dict[str, bool]] = {}  # user → mark of a click → acknowledged
        self._forgotten: set[str] = set()
        self._ready: dict[str, list[str]] = {}

    async def prepare(self, rounds: int) -> None:
        """Users enough for so many rounds; returns when the service has them."""
        for call in (*OF_USERS, *MAY_FAIL):
            self._ready[call] = [f"{call.replace(' ', '-')}-{n}" for n in range(rounds)]
            for user in self._ready[call]:
                clicks = [{"item_id": TENT, "event_id": self._mark(user, stored=True)}]
                while (await self._post(f"users/{user}/clicks", clicks=clicks)).status_code != 200:
                    await asyncio.sleep(0.05)

    async def round(self, seconds: float = 0.0) -> list[CallResult]:
        """Every call, spread over so many seconds, each for a user of its own."""
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
        """All that was acknowledged is there, once; nothing is that nobody sent."""
        for user, said in self._said.items():
            while (answer := await self._get(f"users/{user}")).status_code == 503:
                await asyncio.sleep(0.05)  # a busy machine, perhaps
            clicks = answer.json()["clicks"]
            found = Counter(click["event_id"] or click["item_id"] for click in clicks)
            assert all(times == 1 for times in found.values()), f"{user}: doubled in {found}"
            assert found.keys() <= said.keys(), f"{user}: nobody sent {found.keys() - said.keys()}"
            if user in self._forgotten:
                assert not found, f"{user} is to be forgotten"
            elif not user.startswith("forget"):  # answered 503, it may have been forgotten
                lost = [mark for mark, stored in said.items() if stored and mark not in found]
                assert not lost, f"{user}: {lost} were acknowledged"

    async def stores(self) -> bool:
        """A click is stored now."""
        answer = await self._post("recommendations", user_id="probe", item_id=TENT)
        return bool(answer.json()["stored"])

    async def _timed(
        self, name: str, call: Callable[[], Awaitable[httpx.Response]], due: float
    ) -> CallResult:
        """Its time counts from when it was due, whether or not we came to it then."""
        await asyncio.sleep(max(due - time.perf_counter(), 0.0))
        answer = await call()
        seconds = time.perf_counter() - due
        said = answer.json() if answer.text.startswith("{") else answer.text
        return CallResult(name, answer.status_code, seconds, said)

    async def _click(self) -> httpx.Response:
        user = self._user("click")
        mark = self._mark(user)
        answer = await self._post(
            "recommendations", user_id=user, item_id=BAG, event_id=mark, exclude_seen=True, k=100
        )
        return self._noted(user, mark, answer, answer.json())

    async def _click_without_event_id(self) -> httpx.Response:
        user = self._user("click without event id")
        mark = self._mark(user)  # also an item that the model does not know
        answer = await self._post("recommendations", user_id=user, item_id=mark, exclude_seen=True)
        return self._noted(user, mark, answer, answer.json())

    async def _several(self) -> httpx.Response:
        user = self._user("several")
        mark = self._mark(user)
        click = {"user_id": user, "item_id": MAT, "event_id": mark, "exclude_seen": True}
        read = {"user_id": user, "exclude_seen": True, "k": 100}
        answer = await self._post("recommendations:batch", requests=[click, read])
        said = answer.json()["responses"][0] if answer.status_code == 200 else {}
        return self._noted(user, mark, answer, said)

    async def _clicks(self) -> httpx.Response:
        user = self._user("clicks")
        marks = [self._mark(user) for _ in range(3)]
        clicks = [{"item_id": BAG, "event_id": mark} for mark in marks]
        answer = await self._post(f"users/{user}/clicks", clicks=clicks)
        self._said[user] |= dict.fromkeys(marks, answer.status_code == 200)
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
        """The next one, in turns."""
        users = self._ready[call]
        users.append(users.pop(0))
        return users[-1]

    def _mark(self, user: str, *, stored: bool = False) -> str:
        """What a click is known by; not stored until the service says so."""
        mark = f"mark-{next(self._numbers)}"
        self._said.setdefault(user, {})[mark] = stored
        return mark

    def _noted(
        self, user: str, mark: str, answer: httpx.Response, said: dict[str, Any]
    ) -> httpx.Response:
        self._said[user][mark] = answer.status_code == 200 and said["stored"]
        return answer

    async def _post(self, path: str, **body: Any) -> httpx.Response:
        return await self._client.post(f"/v1/{path}", json=body)

    async def _get(self, path: str) -> httpx.Response:
        return await self._client.get(f"/v1/{path}")
