"""Two hundred visitors at once request their own lists; a third of the requests is abandoned.

A fault-injecting proxy passes the replies of Redis on in small pieces with random delays, so that
replies could overtake one another. Every answer must be about the user who made the request.
"""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from recsys.bundle.golden import open_predictor
from service.bench.connection import Connection
from service.server.embedded_redis import free_port
from tests.soak.bounds import Bound
from tests.support.redis.chaos_proxy import ChaosProxy, FaultMode
from tests.support.redis.servers import own_redis
from tests.support.service.quick_client import QuickClient, ask
from tests.support.service.servers import ServerProcess


def cross_talk(bundle: Path, folder: Path, users: int, requests: int) -> list[Bound]:
    return asyncio.run(_measured(bundle, folder, users, requests))


async def _measured(bundle: Path, folder: Path, users: int, requests: int) -> list[Bound]:
    with own_redis() as redis:
        async with ChaosProxy(free_port(), redis.port) as proxy:
            url, log = f"redis://127.0.0.1:{proxy.port}", folder / "cross-talk.log"
            server = ServerProcess(bundle, url, log)
            await asyncio.to_thread(server.start)  # the proxy runs in this thread
            try:
                at = ("127.0.0.1", server.port)
                visitors = await _visits(bundle, at, proxy, users, requests)
            finally:
                await asyncio.to_thread(server.stop)
    kinds = Counter(kind for visitor in visitors for kind in visitor.kinds)
    return [
        Bound(f"{users} visitors, {requests} requests each, answered", f"{kinds.total():,}"),
        *(Bound(kind, f"{kinds[kind]:,}") for kind in ("about no user", "abandoned")),
        Bound("about its user", f"{kinds['about its user']:,}", "> 0", kinds["about its user"] > 0),
        Bound("about another", f"{kinds['about another']:,}", "0", kinds["about another"] == 0),
    ]


async def _visits(
    bundle: Path, at: tuple[str, int], proxy: ChaosProxy, users: int, requests: int
) -> "list[Visitor]":
    """Let all visitors make their requests and return them with the kinds of their answers."""
    items = open_predictor(bundle).catalogue.item_ids[:users]
    client, lists = QuickClient(*at), {}
    for item in items:
        click = {"user_id": f"own-{item}", "item_id": item}
        lists[item] = set(ids((await client.post("/v1/recommendations", json=click)).json()))
    client.close()
    await proxy.set_mode(FaultMode.FRAGMENTED)
    visitors = [Visitor(item, lists[item], at, requests) for item in items]
    await asyncio.gather(*(visitor.visit() for visitor in visitors))
    return visitors


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


class Visitor:
    """Visitor that requests the state of one user repeatedly and abandons every third request."""

    def __init__(self, item_id: str, top_k: set[str], at: tuple[str, int], requests: int) -> None:
        self.kinds: list[str] = []
        self._item_id, self._top_k = item_id, top_k
        self._at = at
        self._requests = requests
        self._random = random.Random(item_id)

    async def visit(self) -> None:
        connection = await Connection.open(*self._at)
        for _ in range(self._requests):
            shown = self._random.random() < 0.5
            path = f"/v1/users/own-{self._item_id}" + ("" if shown else "/recommendations")
            answer = ask(connection, "GET", path, self._at[0])
            if self._random.random() < 1 / 3:
                await asyncio.sleep(self._random.random() * 0.03)
                connection.close()
                connection = await Connection.open(*self._at)
                self.kinds.append("abandoned")
            else:
                self.kinds.append(self._kind_of(*await answer, shown=shown))
        connection.close()

    def _kind_of(self, status: int, body: bytes, *, shown: bool) -> str:
        """Name the user that an answer is about; a degraded or refused one is about no user."""
        answer = json.loads(body)
        if status == 503 or answer.get("degraded"):
            return "about no user"
        if shown:
            is_own = [click["item_id"] for click in answer["clicks"]] == [self._item_id]
        else:
            is_own = set(ids(answer)) == self._top_k
        return "about its user" if is_own else "about another"
