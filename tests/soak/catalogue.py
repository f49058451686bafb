"""Availability changes under load: no answer holds an item two seconds after it was sold out.

Three servers answer requests on all paths while items are sold out and come back. Meanwhile another
bundle is published, Redis is killed and started again, and a server is killed and started again.
"""

import asyncio
import shutil
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random

import httpx
import uvloop

from recsys.bundle.layout import ITEMS
from recsys.bundle.registry import publish
from recsys.catalogue.catalogue import read_catalogue
from service.middleware.auth import hash_of, new_key
from tests.soak.bounds import Bound
from tests.support.bundles.small_shops import small_shop
from tests.support.redis.servers import RedisServer, own_redis
from tests.support.service.servers import ServerProcess
from tests.support.service.steady_load import LoadRequest, LoadResponse, SteadyLoad

SERVERS, PER_CALL, TOGGLED = 3, 25, 100  # items that are sold out at times
LAW_SECONDS, OUTAGE_SECONDS = 2.0, 3.0
ASK = "/v1/recommendations"


@dataclass(frozen=True, slots=True)
class Change:
    """Acknowledged change of the availability of an item; times of `time.perf_counter`."""

    sent: float
    acknowledged: float
    available: bool


@dataclass(slots=True)
class Feed:
    """Sender of changes, and what it knows about each item."""

    client: httpx.AsyncClient
    items: Sequence[str]
    changes: dict[str, list[Change]] = field(default_factory=dict)
    refused: int = 0
    outage: tuple[float, float] = (float("inf"), float("-inf"))  # Redis was killed, and back

    async def send(self, count: int, per_second: float) -> None:
        """Send changes of random items; a call that is refused is sent again."""
        draw, due = Random(5), time.perf_counter()
        for _ in range(count // PER_CALL):
            chosen = draw.sample(self.items, PER_CALL)
            wanted = {item_id: draw.random() < 0.4 for item_id in chosen}
            changes = [{"item_id": i, "available": available} for i, available in wanted.items()]
            sent = time.perf_counter()
            while True:
                try:
                    answer = await self.client.put("/v1/items", json={"items": changes})
                except httpx.TransportError:
                    answer = None
                if answer is not None and answer.status_code == 200:
                    break
                self.refused += 1
                await asyncio.sleep(0.1)
            now = time.perf_counter()
            for item_id, available in wanted.items():
                self.changes.setdefault(item_id, []).append(Change(sent, now, available))
            due += PER_CALL / per_second
            await asyncio.sleep(max(due - time.perf_counter(), 0))

    def seconds_sold_out(self, item_id: str, requested: float, received: float) -> float:
        """Return for how long the item had been sold out, for certain, when a list was requested.

        It is 0 if the item may have been available until the answer was received. In an outage of
        Redis, and for the time of the law after it, what held before it counts.
        """
        killed, back = self.outage
        at = min(requested, killed) if requested < back + LAW_SECONDS else requested
        changes = self.changes.get(item_id, [])
        last = bisect_right(changes, at, key=lambda change: change.acknowledged) - 1
        if last < 0 or changes[last].available:
            return 0.0
        if any(change.available and change.sent <= received for change in changes[last + 1 :]):
            return 0.0
        return at - changes[last].acknowledged

    def phase(self, at: float) -> str:
        killed, back = self.outage
        return "before the outage" if at < killed else "in it" if at < back else "after it"


def _phases(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {phase}" for phase, count in counts.items())


class IdLoad(SteadyLoad):
    """Load whose responses keep the item ids of an answer alone."""

    async def send(self, request: LoadRequest) -> LoadResponse:
        response = await super().send(request)
        lists = response.body.get("responses", [response.body])
        ids = [item["item_id"] for each in lists for item in each.get("items", [])]
        return LoadResponse(
            request, response.status, response.seconds, {"ids": ids}, response.received_at
        )


def catalogue(bundle: Path, folder: Path, changes: int, rate: float, seconds: float) -> list[Bound]:
    """Change items while three servers answer `rate` requests a second for so many seconds."""
    registry = folder / "registry"
    other = small_shop(folder, "other", hidden=48, epochs=1, refit=False)
    shutil.copytree(bundle, registry / "first")
    shutil.copytree(other, registry / "second")
    publish(registry, "first")
    key = new_key()
    settings = {"RECSYS_CATALOGUE_KEY_HASHES": hash_of(key), "RECSYS_FOLLOW_SECONDS": "0.2"}
    with ExitStack() as stack:
        redis = stack.enter_context(own_redis("--appendonly", "yes"))
        servers = [
            stack.enter_context(
                ServerProcess(registry, redis.url, folder / f"server-{number}.log", **settings)
            )
            for number in range(SERVERS)
        ]
        return uvloop.run(_measured(registry, servers, redis, key, changes, rate, seconds))


async def _measured(
    registry: Path,
    servers: Sequence[ServerProcess],
    redis: RedisServer,
    key: str,
    changes: int,
    rate: float,
    seconds: float,
) -> list[Bound]:
    listed = read_catalogue(registry / "first" / ITEMS)
    items = listed.item_ids.take(listed.by_popularity[:TOGGLED].tolist())
    loads = [
        IdLoad("127.0.0.1", server.port, rate / len(servers), requests_of(items, number))
        for number, server in enumerate(servers)
    ]
    headers = {"Authorization": f"Bearer {key}"}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=servers[0].url, headers=headers, timeout=10)
        )
        feed = Feed(client, items)
        for load in loads:
            await stack.enter_async_context(load.running())
        sending = asyncio.create_task(feed.send(changes, changes / seconds))
        await asyncio.sleep(seconds / 4)
        publish(registry, "second")
        await asyncio.sleep(seconds / 4)
        killed = time.perf_counter()
        await asyncio.to_thread(redis.kill)
        await asyncio.sleep(OUTAGE_SECONDS)
        await asyncio.to_thread(redis.start)
        feed.outage = killed, time.perf_counter()
        await asyncio.sleep(seconds / 4)
        await asyncio.to_thread(servers[-1].kill)
        await asyncio.to_thread(servers[-1].start)
        await sending
        await asyncio.sleep(LAW_SECONDS)
    return _bounds(feed, [response for load in loads for response in load.responses])


def requests_of(items: Sequence[str], server: int) -> Callable[[int], LoadRequest]:
    """Return a function that makes request number 0, 1, 2, …, of all paths in turn."""
    chosen = cycle(items)

    def make(number: int) -> LoadRequest:
        item = next(chosen)
        user = f"user-{server}-{number % 300}"
        kinds = (
            LoadRequest(ASK, {"items": [item], "k": 50}),
            LoadRequest(ASK, {"user_id": user, "item_id": item}),
            LoadRequest(ASK, {"items": [], "k": 100}),
            LoadRequest(ASK, {"items": [item], "pin": list(items[:5]), "backfill": True}),
            LoadRequest(f"{ASK}:batch", {"requests": [{"items": [item]}, {"user_id": user}]}),
            LoadRequest("/v1/items:similar", {"item_id": item, "k": 50}),
        )
        return kinds[number % len(kinds)]

    return make


def _bounds(feed: Feed, responses: Sequence[LoadResponse]) -> list[Bound]:
    answers = [response for response in responses if response.status == 200]
    longest, shown = 0.0, 0
    late: Counter[str] = Counter()  # by phase
    for answer in answers:
        for item_id in answer.body["ids"]:
            # an answer is made after its request was sent, and may be received much later
            requested = answer.received_at - answer.seconds
            seconds = feed.seconds_sold_out(item_id, requested, answer.received_at)
            shown += 1
            longest = max(longest, seconds)
            if seconds > LAW_SECONDS:
                late[feed.phase(requested)] += 1
    statuses = Counter(response.status for response in responses)
    sent = sum(map(len, feed.changes.values()))
    return [
        Bound("changes acknowledged", f"{sent:,}; {feed.refused} calls refused and sent again"),
        Bound("responses", ", ".join(f"{n:,} × {status}" for status, n in statuses.items())),
        Bound("items in answers", f"{shown:,}"),
        Bound("longest answer", f"{max(answer.seconds for answer in answers):.2f} s"),
        Bound("requested after it was sold out, at most", f"{longest:.2f} s", "2 s", not late),
        Bound("items of answers later than that", _phases(late) or "0", "0", not late),
    ]
