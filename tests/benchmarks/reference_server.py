"""Minimal reference service, the baseline for measurements of `recsys serve`.

    python tests/benchmarks/reference_server.py --bundle runs/shop --port 8001

FastAPI with its defaults, one request at a time: GET the state, one TorchScript step, the scores of
all items and `torch.topk`, SET the state. For clicks that come one after another its answers equal
those of the service. It loses concurrent clicks, has no window, and fails without Redis.
"""

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from redis.asyncio import Redis

from recsys.bundle.load import load_bundle

IDLE_SECONDS = 1800


class ReferenceRequest(BaseModel):
    user_id: str
    item_id: str
    k: int = 20


class ReferenceItem(BaseModel):
    item_id: str
    score: float


class ReferenceAnswer(BaseModel):
    items: list[ReferenceItem]


def create_app(folder: Path, redis_url: str) -> FastAPI:
    torch.set_num_threads(1)
    bundle = load_bundle(folder)
    size, item_ids = bundle.manifest.size, bundle.catalogue.item_ids
    inputs = bundle.matrix if bundle.inputs is None else bundle.inputs
    redis = Redis.from_url(redis_url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await redis.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/recommendations")
    async def recommend(request: ReferenceRequest) -> ReferenceAnswer:
        item = bundle.catalogue.find(request.item_id)
        if item is None:
            raise HTTPException(404, "unknown item")
        key = f"reference:{request.user_id}"
        stored = await redis.get(key)
        shape = (size.layers, 1, size.state_width)
        state = torch.zeros(shape)
        if isinstance(stored, bytes):
            state = torch.from_numpy(np.frombuffer(stored, dtype=np.float32).copy()).view(shape)
        with torch.inference_mode():
            state = bundle.model.step(inputs, torch.tensor([item]), state)
            hidden = state[-1, :, : size.hidden]
            scores = bundle.model.scores(bundle.matrix, bundle.bias, hidden)
            top, items = torch.topk(scores, request.k)
        await redis.set(key, state.numpy().tobytes(), ex=IDLE_SECONDS)
        pairs = zip(items[0].tolist(), top[0].tolist(), strict=True)
        ranked = [ReferenceItem(item_id=item_ids[at], score=score) for at, score in pairs]
        return ReferenceAnswer(items=ranked)

    return app


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--bundle", type=Path, required=True)
    options.add_argument("--redis", default="redis://127.0.0.1:6379/0")
    options.add_argument("--port", type=int, default=8001)
    given = options.parse_args()
    app = create_app(given.bundle, given.redis)
    uvicorn.run(app, host="127.0.0.1", port=given.port, access_log=False)


if __name__ == "__main__":
    main()
