"""Measure the CPU microseconds of each part of an answer, for one request.

    python tests/benchmarks/serving_parts.py --bundle runs/50k/bundle --kind exact --kind int8

Batches of 1, 4 and 32, one thread, with a private Redis. Every request records a click of a user
with earlier clicks and requests 20 items. The last row is the whole application without the HTTP
server. `--kind` adds rows for other kinds of retrieval.
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
import orjson
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
from service.api.fast_path import content_of, query_of
from service.api.request_checks import read_body
from service.app import create_app
from service.recommendation.queries import RecommendationResult
from service.serve import freeze_garbage_collector, read_settings
from service.server.embedded_redis import private_redis
from service.store.click import Click
from service.store.session_store import StoredSession, Visit
from tests.benchmarks.retrieval_variant import write_variant
from tests.support.redis.stores import redis_client_for, store_on

BATCHES = (1, 4, 32)
CLICKS = 8  # of each user
Part = Callable[[int], Awaitable[object]]  # does its work for a batch of that size
Cost = Callable[[Part, int], Awaitable[float]]


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle folder.")],
    kind: Annotated[list[str] | None, typer.Option(help="exact, int8.")] = None,
    rounds: Annotated[int, typer.Option(help="Number of rounds; the median counts.")] = 5,
    calls: Annotated[int, typer.Option(help="Requests per round.")] = 1200,
) -> None:
    torch.set_num_threads(1)
    table = Table("part", *(f"batch of {size}" for size in BATCHES))
    with private_redis() as url, tempfile.TemporaryDirectory(dir=bundle.parent) as folder:
        predictor = open_predictor(bundle)
        others = {
            name: open_predictor(write_variant(bundle, name, Path(folder) / name))
            for name in kind or ()
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
    redis_client = redis_client_for(url)
    store = store_on(redis_client, history_length=50)
    states = predictor.advance([SessionState([item]) for item in clicked[:32]])
    visitors = users()

    async def parse(size: int) -> object:
        return [
            query_of(await read_body(request(names[at]), RecommendationRequest))
            for at in range(size)
        ]

    async def redis(size: int) -> object:
        sessions = await store.visit(
            [Visit(next(visitors), [Click(names[0])]) for _ in range(size)]
        )
        assert all(isinstance(one, StoredSession) for one in sessions)
        return sessions

    async def step(size: int) -> object:
        sessions = [SessionState([clicked[at]], states[:, at]) for at in range(size)]
        return predictor.advance(sessions)

    def ranking_by(predictor: Predictor) -> Part:
        async def find(size: int) -> object:
            windows = [[clicked[at], clicked[at + 40]] for at in range(size)]
            return predictor.rank(states[:, :size], windows, [RankingQuery()] * size)

        return find

    ranking = predictor.rank(states[:, :1], [[clicked[0]]], [RankingQuery()])[0]

    async def write(size: int) -> object:
        return [orjson.dumps(content_of(answer_of(predictor, ranking))) for _ in range(size)]

    parts: dict[str, Part] = {"parse and check the body": parse, "Redis": redis, "GRU step": step}
    parts |= {"find 20 items": ranking_by(predictor)}
    parts |= {f"find 20 items, {name}": ranking_by(other) for name, other in others.items()}
    parts["write the answer"] = write
    for name, part in parts.items():
        table.add_row(name, *[f"{await cost(part, size):.0f}" for size in BATCHES])
    await redis_client.close()
    app = create_app(read_settings({"bundle": bundle, "redis": url}))
    freeze_garbage_collector()
    async with app.router.lifespan_context(app):

        async def whole(size: int) -> object:
            calls = [call(app, next(visitors), names[at]) for at in range(size)]
            return await asyncio.gather(*calls)

        table.add_row("whole application", *[f"{await cost(whole, n):.0f}" for n in BATCHES])


def users() -> Iterator[str]:
    """Yield 64 users in turns; after CLICKS clicks each, 64 new users follow."""
    for generation in count():
        for _ in range(CLICKS):
            yield from (f"user {generation} {number}" for number in range(64))


async def cost(rounds: int, calls: int, part: Part, size: int) -> float:
    """Return the CPU microseconds per request, the median of the rounds."""
    for _ in range(10):
        await part(size)
    costs = []
    batches = max(calls // size, 1)
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(batches):
            await part(size)
        costs.append((time.process_time() - began) / (batches * size) * 1e6)
    return float(np.median(costs))


def answer_of(predictor: Predictor, ranking: Ranking) -> RecommendationResult:
    ids = predictor.catalogue.item_ids.take(ranking.items)
    items = list(zip(ids, ranking.scores, strict=True))
    return RecommendationResult(predictor.model_id, "model", [], items, None, False, True)


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
