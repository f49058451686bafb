"""What each part of an answer costs: microseconds of this process's CPU for one request.

    python tests/benchmarks/serving_parts.py --bundle runs/50k/bundle --kind exact --kind pq4

Batches of 1, 4 and 32, one thread, nothing beside it but a private Redis; every request records a
click of a user who has some and asks for 20 items. The last row is the whole application, HTTP
server left out. `--kind` finds the items another way as well, for comparison.
"""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import numpy as np
import torch
import typer
import uvloop
from rich.console import Console
from rich.table import Table
from starlette.requests import Request

from recsys.bundle.golden import open_predictor
from recsys.client.schemas import RecommendationRequest
from recsys.predictor import Predictor, Ranking, SessionState
from recsys.retrieval.exact import RankingQuery
from service.api.fast_path import read_body, written
from service.api.routes.recommendations import as_question
from service.app import create_app
from service.recommender import RecommendationResult
from service.serve import keep_out_of_collections, read_settings
from service.server.embedded_redis import private_redis
from service.store.session_store import Click, StoredSession, Visit
from tests.benchmarks.retrieval_variant import found_by
from tests.support.redis.stores import redis_client_for, store_on

BATCHES = (1, 4, 32)
CLICKS = 8  # of every user
Part = Callable[[int], Awaitable[object]]  # does its work for a batch of so many
Cost = Callable[[Part, int], Awaitable[float]]


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle folder.")],
    kind: Annotated[list[str] | None, typer.Option(help="exact, fp16, int8, pq4.")] = None,
    rounds: Annotated[int, typer.Option(help="Of which the median counts.")] = 5,
    calls: Annotated[int, typer.Option(help="Requests a round.")] = 1200,
) -> None:
    torch.set_num_threads(1)
    table = Table("part", *(f"of {size}" for size in BATCHES))
    with private_redis() as url, tempfile.TemporaryDirectory(dir=bundle.parent) as folder:
        predictor = open_predictor(bundle)
        others = {
            name: open_predictor(found_by(bundle, name, Path(folder) / name)) for name in kind or ()
        }
        uvloop.run(fill(table, bundle, url, predictor, others, partial(cost, rounds, calls)))
    Console().print(table)


async def fill(
    table: Table,
    bundle: Path,
    url: str,
    predictor: Predictor,
    others: dict[str, Predictor],
    cost: Cost,
) -> None:
    ids = predictor.catalogue.item_ids
    draw = np.random.default_rng(1)
    clicked = predictor.catalogue.by_popularity[
        (len(ids) * draw.random(4096) ** 3).astype(int)
    ].tolist()
    names = ids.take(clicked)
    link = redis_client_for(url)
    store = store_on(link, history_length=50)
    states = predictor.advance([SessionState([item]) for item in clicked[:32]])
    visitors = users()

    async def parse(size: int) -> object:
        return [
            as_question(await read_body(request(names[at]), RecommendationRequest))
            for at in range(size)
        ]

    async def redis(size: int) -> object:
        found = await store.visit([Visit(next(visitors), [Click(names[0])]) for _ in range(size)])
        assert all(isinstance(one, StoredSession) for one in found)
        return found

    async def step(size: int) -> object:
        memories = [SessionState([clicked[at]], states[:, at]) for at in range(size)]
        return predictor.advance(memories)

    def finding(by: Predictor) -> Part:
        async def find(size: int) -> object:
            windows = [[clicked[at], clicked[at + 40]] for at in range(size)]
            return by.rank(states[:, :size], windows, [RankingQuery()] * size)

        return find

    ranking = predictor.rank(states[:, :1], [[clicked[0]]], [RankingQuery()])[0]

    async def write(size: int) -> object:
        return [written(answer_of(predictor, ranking)) for _ in range(size)]

    parts: dict[str, Part] = {"parse and check the body": parse, "Redis": redis, "GRU step": step}
    parts |= {"find 20 items": finding(predictor)}
    parts |= {f"find 20 items, {name}": finding(other) for name, other in others.items()}
    parts["write the answer"] = write
    for name, part in parts.items():
        table.add_row(name, *[f"{await cost(part, size):.0f}" for size in BATCHES])
    await link.close()
    app = create_app(read_settings({"bundle": bundle, "redis": url}))
    keep_out_of_collections()
    async with app.router.lifespan_context(app):

        async def whole(size: int) -> object:
            calls = [call(app, next(visitors), names[at]) for at in range(size)]
            return await asyncio.gather(*calls)

        table.add_row("all of the application", *[f"{await cost(whole, n):.0f}" for n in BATCHES])


def users() -> Iterator[str]:
    """64 at a time, who take turns; each goes after CLICKS clicks and another one comes."""
    for generation in count():
        for _ in range(CLICKS):
            yield from (f"user {generation} {number}" for number in range(64))


async def cost(rounds: int, calls: int, part: Part, size: int) -> float:
    """Microseconds of CPU a request, the median of the rounds."""
    for _ in range(10):
        await part(size)
    found = []
    batches = max(calls // size, 1)
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(batches):
            await part(size)
        found.append((time.process_time() - began) / (batches * size) * 1e6)
    return float(np.median(found))


def answer_of(predictor: Predictor, ranking: Ranking) -> RecommendationResult:
    ids = predictor.catalogue.item_ids.take(ranking.items)
    items = list(zip(ids, ranking.scores, strict=True))
    return RecommendationResult(predictor.model_id, "model", False, True, [], items)


def scope_of(body: bytes) -> dict[str, Any]:
    headers = [
        (b"host", b"localhost"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    return {
        **{"type": "http", "method": "POST", "path": "/v1/recommendations", "scheme": "http"},
        **{"raw_path": b"/v1/recommendations", "query_string": b"", "headers": headers},
        **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "http_version": "1.1"},
    }


def body_of(item_id: str, user_id: str = "ada") -> bytes:
    return json.dumps({"user_id": user_id, "item_id": item_id, "k": 20}).encode()


def request(item_id: str) -> Request:
    body = body_of(item_id)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(scope_of(body), receive)


async def call(app: Any, user_id: str, item_id: str) -> None:
    body = body_of(item_id, user_id)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope_of(body), receive, send)
    assert sent[0]["status"] == 200, sent


if __name__ == "__main__":
    typer.run(main)
