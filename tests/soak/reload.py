"""Fifty roll-outs during 200 requests a second, every third of them broken in another way.

Half of them are told by admin call, half by the shelf's pointer. Half of the requests are of users,
half are stateless: of these it is known which list each of the two models gives, so an answer that
named one model and came of another would be noticed.
"""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median

import httpx
import numpy as np
import uvloop

from recsys.bundle.golden import ask, open_predictor
from recsys.bundle.manifest import read_manifest
from recsys.bundle.registry import CURRENT_VERSION, publish
from service.middleware.auth import hash_of, new_key
from service.server.embedded_redis import private_redis
from tests.soak.bounds import Bound
from tests.support.bundles.broken_bundles import BREAKS
from tests.support.bundles.small_shops import small_shop
from tests.support.service.processes import family, resident
from tests.support.service.servers import ServerProcess
from tests.support.service.steady_load import Asked, SteadyLoad, Told

RATE, EVERY_THIRD = 200.0, 3
SETTLED, FLAT = 10, 0.05  # reloads until memory is looked at; how much it may grow
PATIENCE_SECONDS = 20.0
PATH = "/v1/recommendations"


def reload(bundle: Path, folder: Path, reloads: int, workers: int) -> list[Bound]:
    shelf = folder / f"shelf-{workers}"
    models = [bundle, small_shop(folder, f"other-{workers}", hidden=48, epochs=1, refit=False)]
    shutil.copytree(bundle, shelf / "first")
    publish(shelf, "first")
    key = new_key()
    settings = {
        "RECSYS_WORKERS": str(workers),
        "RECSYS_ADMIN_KEY_HASHES": hash_of(key),
        "RECSYS_FOLLOW_SECONDS": "0.2",
    }
    with (
        private_redis() as redis,
        ServerProcess(shelf, redis, folder / "reload.log", **settings) as server,
    ):
        return uvloop.run(_measured(models, shelf, server, key, reloads))


async def _measured(
    models: Sequence[Path], shelf: Path, server: ServerProcess, key: str, reloads: int
) -> list[Bound]:
    predictors = [open_predictor(model) for model in models]
    items = predictors[0].catalogue.item_ids[:100]
    lists = {p.model_id: {item: ask(p, [item]).items for item in items} for p in predictors}

    def make(number: int) -> Asked:
        item = items[number // 2 % len(items)]
        if number % 2:
            return Asked(PATH, {"user_id": f"user-{number % 500}", "item_id": item})
        return Asked(PATH, {"items": [item]})

    load = SteadyLoad("127.0.0.1", server.port, RATE, make)
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client,
        load.going_on(),
    ):
        publisher = Publisher(client, server, shelf)
        await publisher.roll_out(models, reloads)
    return [*_of_answers(load.told, lists), *publisher.bounds()]


class Publisher:
    """Puts bundles on the shelf, has them served, and notes what went otherwise than it should."""

    def __init__(self, client: httpx.AsyncClient, server: ServerProcess, shelf: Path) -> None:
        self._client, self._server, self._shelf = client, server, shelf
        self._replaced, self._refused = 0, 0
        self._wrong: list[str] = []
        self._resident_mb: list[float] = []  # of all processes of the service, after each

    async def roll_out(self, models: Sequence[Path], reloads: int) -> None:
        """The models in turns, every third time a broken bundle of the next one."""
        breaks, at = cycle(BREAKS.values()), 0
        for number in range(1, reloads + 1):
            name = f"bundle-{number}"
            await asyncio.to_thread(shutil.copytree, models[1 - at], self._shelf / name)
            if number % EVERY_THIRD == 0:
                damage, sentence = next(breaks)
                await asyncio.to_thread(damage, self._shelf / name)
                await self._refusal(name, sentence, by_call=number % 2 == 0)
            else:
                at = 1 - at
                await self._replacement(name, by_call=number % 2 == 0)
            model_id = read_manifest(models[at]).model_id
            if not await _within(partial(_all_answer, self._server.url, model_id)):
                self._wrong.append(f"{name}: {model_id} does not answer")
            pids = family(self._server.pid)
            self._resident_mb.append(sum(resident(pid).rss for pid in pids))

    async def _replacement(self, name: str, *, by_call: bool) -> None:
        self._replaced += 1
        if not by_call:
            publish(self._shelf, name)
            return
        answer = await self._client.post("/v1/admin/reload", json={"bundle": name})
        if answer.status_code != 200:
            self._wrong.append(f"{name}: {answer.text}")

    async def _refusal(self, name: str, sentence: str, *, by_call: bool) -> None:
        """By call it is told to the caller, else to the log."""
        self._refused += 1
        if by_call:
            answer = await self._client.post("/v1/admin/reload", json={"bundle": name})
            told = answer.status_code == 422 and sentence in answer.text
        else:
            (self._shelf / CURRENT_VERSION).write_text(f"{name}\n")
            told = await _within(partial(_logged, self._server, name, sentence))
        if not told:
            self._wrong.append(f"{name}: not said: {sentence}")

    def bounds(self) -> list[Bound]:
        first = median(self._resident_mb[SETTLED : 2 * SETTLED])
        last = median(self._resident_mb[-SETTLED:])
        growth = last / first - 1
        return [
            Bound(
                f"{self._replaced} replaced and {self._refused} refused with the right sentence",
                "; ".join(self._wrong) or "all",
                "all",
                not self._wrong,
            ),
            Bound(
                f"resident memory, reloads {SETTLED} to {2 * SETTLED} and the last {SETTLED}",
                f"{first:.0f}, {last:.0f} MB ({growth:+.1%})",
                f"within {FLAT:.0%}",
                abs(growth) < FLAT,
            ),
        ]


async def _logged(server: ServerProcess, name: str, sentence: str) -> bool:
    return any(name in line and sentence in line for line in server.said.splitlines())


async def _all_answer(url: str, model_id: str) -> bool:
    """Whichever worker is asked, on new connections."""
    for _ in range(8):
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            if (await client.get("/v1/model")).json()["model_id"] != model_id:
                return False
    return True


async def _within(holds: Callable[[], Awaitable[bool]]) -> bool:
    latest = time.monotonic() + PATIENCE_SECONDS
    while not await holds():
        if time.monotonic() > latest:
            return False
        await asyncio.sleep(0.05)
    return True


def _of_answers(told: Sequence[Told], lists: dict[str, dict[str, list[str]]]) -> list[Bound]:
    statuses = Counter(answer.status for answer in told)
    good = [answer for answer in told if answer.status == 200]
    strange = [answer for answer in good if answer.body["model_id"] not in lists]
    mixed = [answer for answer in good if answer not in strange and not _of_one(answer, lists)]
    p99, longest = np.percentile([answer.seconds * 1000 for answer in told], (99, 100))
    others = {status: n for status, n in statuses.items() if status != 200}
    return [
        Bound("answers", f"{len(told):,}, p99 {p99:.0f} ms, longest {longest:.0f} ms"),
        Bound("not 200", str(others or 0), "0", not others),
        Bound("of none or another model", str(len(strange)), "0", not strange),
        Bound("of one model, with another's list", str(len(mixed)), "0", not mixed),
    ]


def _of_one(answer: Told, lists: dict[str, dict[str, list[str]]]) -> bool:
    """A stateless list is that of the model it names; the last place may be a near tie."""
    if "items" not in answer.asked.body:
        return True
    (item,) = answer.asked.body["items"]
    expected = lists[answer.body["model_id"]][item]
    return {i["item_id"] for i in answer.body["items"][:-1]} <= set(expected)
