"""Fifty roll-outs at 200 requests a second; every third bundle is broken in another way.

An admin call announces half of them, the current version of the model registry the others. Half of
the requests are of users, half are stateless. For the stateless ones the list of each of the two
models is known, so the test detects an answer that names one model and comes from the other.
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

from recsys.bundle.golden import compute_golden_session, open_predictor
from recsys.bundle.manifest import read_manifest
from recsys.bundle.registry import CURRENT_VERSION, publish
from service.middleware.auth import hash_of, new_key
from service.server.embedded_redis import private_redis
from tests.soak.bounds import Bound
from tests.support.bundles.broken_bundles import BREAKS
from tests.support.bundles.small_shops import small_shop
from tests.support.service.processes import family, resident
from tests.support.service.servers import ServerProcess
from tests.support.service.steady_load import LoadRequest, LoadResponse, SteadyLoad

RATE, EVERY_THIRD = 200.0, 3
SETTLED, FLAT = 10, 0.05  # reloads before memory is measured; allowed growth
PATIENCE_SECONDS = 20.0
PATH = "/v1/recommendations"


def reload(bundle: Path, folder: Path, reloads: int, workers: int) -> list[Bound]:
    registry = folder / f"registry-{workers}"
    models = [bundle, small_shop(folder, f"other-{workers}", hidden=48, epochs=1, refit=False)]
    shutil.copytree(bundle, registry / "first")
    publish(registry, "first")
    key = new_key()
    settings = {
        "RECSYS_WORKERS": str(workers),
        "RECSYS_ADMIN_KEY_HASHES": hash_of(key),
        "RECSYS_FOLLOW_SECONDS": "0.2",
    }
    with (
        private_redis() as redis,
        ServerProcess(registry, redis, folder / "reload.log", **settings) as server,
    ):
        return uvloop.run(_measured(models, registry, server, key, reloads))


async def _measured(
    models: Sequence[Path], registry: Path, server: ServerProcess, key: str, reloads: int
) -> list[Bound]:
    predictors = [open_predictor(model) for model in models]
    items = predictors[0].catalogue.item_ids[:100]
    lists = {
        p.model_id: {item: compute_golden_session(p, [item]).items for item in items}
        for p in predictors
    }

    def make(number: int) -> LoadRequest:
        item = items[number // 2 % len(items)]
        if number % 2:
            return LoadRequest(PATH, {"user_id": f"user-{number % 500}", "item_id": item})
        return LoadRequest(PATH, {"items": [item]})

    load = SteadyLoad("127.0.0.1", server.port, RATE, make)
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client,
        load.running(),
    ):
        publisher = Publisher(client, server, registry)
        await publisher.roll_out(models, reloads)
    return [*_answer_bounds(load.responses, lists), *publisher.bounds()]


class Publisher:
    """Publisher that adds bundles to the registry and records each deviation from the promises."""

    def __init__(self, client: httpx.AsyncClient, server: ServerProcess, registry: Path) -> None:
        self._client, self._server, self._registry = client, server, registry
        self._replaced, self._refused = 0, 0
        self._wrong: list[str] = []
        self._resident_mb: list[float] = []  # of all processes of the service, after each roll-out

    async def roll_out(self, models: Sequence[Path], reloads: int) -> None:
        """Roll the models out in turns; every third time, a broken bundle of the next model."""
        breaks, at = cycle(BREAKS.values()), 0
        for number in range(1, reloads + 1):
            name = f"bundle-{number}"
            await asyncio.to_thread(shutil.copytree, models[1 - at], self._registry / name)
            if number % EVERY_THIRD == 0:
                damage, sentence = next(breaks)
                await asyncio.to_thread(damage, self._registry / name)
                await self._expect_refusal(name, sentence, by_call=number % 2 == 0)
            else:
                at = 1 - at
                await self._expect_replacement(name, by_call=number % 2 == 0)
            model_id = read_manifest(models[at]).model_id
            if not await _within(partial(_all_answer, self._server.url, model_id)):
                self._wrong.append(f"{name}: {model_id} does not answer")
            pids = family(self._server.pid)
            self._resident_mb.append(sum(resident(pid).rss for pid in pids))

    async def _expect_replacement(self, name: str, *, by_call: bool) -> None:
        self._replaced += 1
        if not by_call:
            publish(self._registry, name)
            return
        answer = await self._client.post("/v1/admin/reload", json={"bundle": name})
        if answer.status_code != 200:
            self._wrong.append(f"{name}: {answer.text}")

    async def _expect_refusal(self, name: str, sentence: str, *, by_call: bool) -> None:
        """Expect the sentence in the answer to the admin call, or else in the log."""
        self._refused += 1
        if by_call:
            answer = await self._client.post("/v1/admin/reload", json={"bundle": name})
            reported = answer.status_code == 422 and sentence in answer.text
        else:
            (self._registry / CURRENT_VERSION).write_text(f"{name}\n")
            reported = await _within(partial(_logged, self._server, name, sentence))
        if not reported:
            self._wrong.append(f"{name}: not reported: {sentence}")

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
    return any(name in line and sentence in line for line in server.log_text.splitlines())


async def _all_answer(url: str, model_id: str) -> bool:
    """Return whether eight new connections, and so all workers, answer with this model."""
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


def _answer_bounds(
    responses: Sequence[LoadResponse], lists: dict[str, dict[str, list[str]]]
) -> list[Bound]:
    statuses = Counter(answer.status for answer in responses)
    good = [answer for answer in responses if answer.status == 200]
    unknown = [answer for answer in good if answer.body["model_id"] not in lists]
    mixed = [a for a in good if a not in unknown and not _is_consistent(a, lists)]
    p99, longest = np.percentile([answer.seconds * 1000 for answer in responses], (99, 100))
    others = {status: n for status, n in statuses.items() if status != 200}
    return [
        Bound("answers", f"{len(responses):,}, p99 {p99:.0f} ms, longest {longest:.0f} ms"),
        Bound("not 200", str(others or 0), "0", not others),
        Bound("of an unknown model", str(len(unknown)), "0", not unknown),
        Bound("of one model, with the list of the other", str(len(mixed)), "0", not mixed),
    ]


def _is_consistent(answer: LoadResponse, lists: dict[str, dict[str, list[str]]]) -> bool:
    """Return whether a stateless list is of the model it names; its last place may be a tie."""
    if "items" not in answer.request.body:
        return True
    (item,) = answer.request.body["items"]
    expected = lists[answer.body["model_id"]][item]
    return {i["item_id"] for i in answer.body["items"][:-1]} <= set(expected)
