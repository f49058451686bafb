"""Two hundred visitors at once, each asking for its own list again and again, a third leaves early.

Redis answers through the Gremlin in small pieces, each after a while that differs, so that replies
overtake one another wherever they can. Every answer must be about the user who asked.
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
        async with ChaosProxy(free_port(), redis.port) as gremlin:
            url, log = f"redis://127.0.0.1:{gremlin.port}", folder / "cross-talk.log"
            server = ServerProcess(bundle, url, log)
            await asyncio.to_thread(server.start)  # the Gremlin lives in this thread
            try:
                at = ("127.0.0.1", server.port)
                visitors = await _visits(bundle, at, gremlin, users, requests)
            finally:
                await asyncio.to_thread(server.stop)
    told = Counter(answer for visitor in visitors for answer in visitor.told)
    return [
        Bound(f"{users} visitors, {requests} requests each, answered", f"{told.total():,}"),
        *(Bound(what, f"{told[what]:,}") for what in ("about nobody", "not waited for")),
        Bound("about its user", f"{told['about its user']:,}", "> 0", told["about its user"] > 0),
        Bound("about another", f"{told['about another']:,}", "0", told["about another"] == 0),
    ]


async def _visits(
    bundle: Path, at: tuple[str, int], gremlin: ChaosProxy, users: int, requests: int
) -> "list[Visitor]":
    """Visitors, and what they were told."""
    items = open_predictor(bundle).catalogue.item_ids[:users]
    client, lists = QuickClient(*at), {}
    for item in items:
        click = {"user_id": f"own-{item}", "item_id": item}
        lists[item] = set(ids((await client.post("/v1/recommendations", json=click)).json()))
    client.close()
    await gremlin.set_mode(FaultMode.FRAGMENTED)
    visitors = [Visitor(item, lists[item], at, requests) for item in items]
    await asyncio.gather(*(visitor.come() for visitor in visitors))
    return visitors


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


class Visitor:
    """Asks for what is known of one user, again and again; every third time it leaves."""

    def __init__(self, own: str, best: set[str], at: tuple[str, int], requests: int) -> None:
        self.told: list[str] = []
        self._own, self._best = own, best
        self._at = at
        self._requests = requests
        self._draw = random.Random(own)

    async def come(self) -> None:
        connection = await Connection.to(*self._at)
        for _ in range(self._requests):
            shown = self._draw.random() < 0.5
            path = f"/v1/users/own-{self._own}" + ("" if shown else "/recommendations")
            answer = ask(connection, "GET", path, self._at[0])
            if self._draw.random() < 1 / 3:
                await asyncio.sleep(self._draw.random() * 0.03)
                connection.close()
                connection = await Connection.to(*self._at)
                self.told.append("not waited for")
            else:
                self.told.append(self._read(*await answer, shown=shown))
        connection.close()

    def _read(self, status: int, body: bytes, *, shown: bool) -> str:
        """What an answer is about; degraded or refused, about nobody."""
        found = json.loads(body)
        if status == 503 or found.get("degraded"):
            return "about nobody"
        if shown:
            own = [click["item_id"] for click in found["clicks"]] == [self._own]
        else:
            own = set(ids(found)) == self._best
        return "about its user" if own else "about another"
