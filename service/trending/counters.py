"""Counters of clicks in Redis, one for each item, which decay; exchange.lua has their form.

All processes share them. They have the ids of items, so they survive a new bundle. One script adds
the clicks of a process and returns the largest counters. Counters of another half-life are others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from recsys.errors import StoreUnavailable
from recsys.model.recent_popularity import LEAST_COUNT, MOST_COUNTED
from service.redis_client.client import RedisClient
from service.redis_client.server import Script

RETURNED = 2 * MOST_COUNTED  # counters read; some may be of items that the model does not know
KEPT = 20_000  # counters in Redis, about 2 MB
SCRIPT = Path(__file__).parent / "exchange.lua"


@dataclass(frozen=True, slots=True)
class Counters:
    """Clicks of each item at one time, the most clicked first."""

    at_ms: int  # of Redis
    clicks: Mapping[str, float]


class RedisCounters:
    """Counters in Redis; redis_client: the client."""

    def __init__(self, redis_client: RedisClient) -> None:
        self._redis_client = redis_client
        self._script = Script(SCRIPT.read_text(encoding="utf-8"))

    async def exchange(
        self, half_life_seconds: int, clicks: Mapping[str, int], first: Callable[[], Counters]
    ) -> Counters:
        """Add clicks and return the largest counters.

        Args:
            half_life_seconds: Time after which a click counts half.
            clicks: Item id → clicks to add.
            first: Return the counters to begin with; called if Redis has none.

        Raises:
            StoreUnavailable: if Redis does not answer. The clicks may have been added or not, and
                must not be sent again.
        """
        counters = await self._exchange(half_life_seconds, clicks, None)
        if counters is None:
            begin = first()
            counters = await self._exchange(half_life_seconds, clicks, begin) or begin
        return counters

    async def _exchange(
        self, half_life_seconds: int, clicks: Mapping[str, int], first: Counters | None
    ) -> Counters | None:
        key = f"recsys:{{trending}}:{half_life_seconds}"
        begin = {} if first is None else first.clicks
        numbers = (1000 * half_life_seconds, RETURNED, KEPT, LEAST_COUNT)
        begin_ms = "" if first is None else first.at_ms
        pairs = chain.from_iterable(chain(begin.items(), clicks.items()))
        arguments = [str(value) for value in (*numbers, begin_ms, len(begin), *pairs)]
        # running it twice would add the clicks twice
        call = self._script.call([key, f"{key}:origin"], arguments, repeatable=False)
        (reply,) = await self._redis_client.run("trending", [call])
        if isinstance(reply, StoreUnavailable):
            raise reply
        if not reply:
            return None
        at_ms, unit, counted = reply
        one_click = float(unit)
        items = [item.decode() for item in counted[::2]]
        values = (float(counter) / one_click for counter in counted[1::2])
        return Counters(int(at_ms), dict(zip(items, values, strict=True)))
