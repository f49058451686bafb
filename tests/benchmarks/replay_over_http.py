"""Replay the test sessions of a click file over HTTP and compare with `recsys evaluate`.

    python tests/benchmarks/replay_over_http.py --bundle B --clicks F --split-column split

With --event-column, each click is sent with its type. It
starts a private Redis and a real `recsys serve`, sends every click, and prints Recall@20 and MRR@20
of the served and of the evaluated lists. The exit status is 1 if they differ in four decimals.
"""

import argparse
import asyncio
import sys
from itertools import pairwise
from pathlib import Path

import httpx
import torch

from data.click_options import ClickOptions
from data.prepare import prepare
from data.sessions import Sessions, reindex
from recsys.bundle.golden import open_predictor
from recsys.model.ranking import UNRANKED
from service.server.embedded_redis import private_redis
from tests.support.service.servers import served
from training.evaluation.evaluate import evaluate
from training.evaluation.metrics import metrics_at

MOST_CONCURRENT = 32


async def ranks_over_http(client: httpx.AsyncClient, sessions: Sessions) -> list[int]:
    """Replay each session as one user; return the rank of each next click in the top 20."""
    limit = asyncio.Semaphore(MOST_CONCURRENT)
    ids = sessions.item_ids

    async def replay(session: int) -> list[int]:
        ranks, clicks = [], [ids[code] for code in sessions[session].tolist()]
        async with limit:
            types = types_of(sessions, session)
            for (click, target), event_type in zip(pairwise(clicks), types, strict=False):
                body = {"user_id": f"user-{session}", "item_id": click, "k": 20}
                body |= {} if event_type is None else {"event_type": event_type}
                answer = (await client.post("/v1/recommendations", json=body)).json()
                assert answer["stored"]
                assert not answer["degraded"]
                listed = [item["item_id"] for item in answer["items"]]
                ranks.append(listed.index(target) + 1 if target in listed else UNRANKED)
        return ranks

    ranks_by_session = await asyncio.gather(*(replay(session) for session in range(len(sessions))))
    return [rank for ranks in ranks_by_session for rank in ranks]


def types_of(sessions: Sessions, session: int) -> list[str | None]:
    """Return the type of each click of a session, None for one without."""
    names, numbers = (None, *sessions.event_types), sessions.part(session, session + 1).events
    if numbers is None:
        return [None] * len(sessions[session])
    return [names[number] for number in numbers.tolist()]


async def replay_against(url: str, sessions: Sessions) -> list[int]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        return await ranks_over_http(client, sessions)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bundle", type=Path, required=True)
    options.add_argument("--clicks", type=Path, required=True)
    options.add_argument("--split-column")
    options.add_argument("--event-column")
    options.add_argument("--session-column", default="session_id")
    given = options.parse_args()
    predictor = open_predictor(given.bundle)
    clicks = ClickOptions(
        given.clicks,
        session_column=given.session_column,
        event_column=given.event_column,
        split_column=given.split_column,
    )
    test = prepare(clicks).test
    items = len(predictor.catalogue)
    measured = evaluate(predictor, reindex(test, predictor.catalogue.item_ids), items)
    with private_redis() as redis, served(given.bundle, redis) as url:
        ranks = torch.tensor(asyncio.run(replay_against(url, test)))
    over_http = metrics_at(ranks, (20,))
    same = True
    for name in ("recall@20", "mrr@20"):
        line = f"{name}: served {over_http[name]:.4f}, measured {measured.metrics[name]:.4f}"
        sys.stdout.write(f"{line}, {ranks.numel():,} clicks\n")
        same &= f"{over_http[name]:.4f}" == f"{measured.metrics[name]:.4f}"
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
