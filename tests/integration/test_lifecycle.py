"""A service stops after it has answered accepted requests, and starts without Redis."""

import asyncio
import json
import re
import socket
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_py

from service.app import create_app
from service.settings import Settings
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.processes import start_fork
from tests.support.redis.servers import RedisServer
from tests.support.service.app_client import client_of
from tests.support.service.servers import PATIENT, ServerProcess
from tests.support.service.slow_server import slow_down

ROOT = Path(__file__).parents[2]
TENT = "aurora-tent"
REQUESTS, SECOND_BATCH = 16, r"recsys_batch_size_count [2-9]"
PAUSE: dict[str, Any] = {"redis_pause_ms": 100}
PATIENCE_SECONDS = 30.0


async def test_sigterm_finishes_accepted_requests_and_exits_with_0(
    trained: TrainedShop, redis_url: str, tmp_path: Path
) -> None:
    """A batch of four takes 30 ms, so the signal arrives before most requests are handled."""
    environment = {**PATIENT, "RECSYS_BATCH_SIZE": "4"}
    start = partial(start_fork, prepare=partial(slow_down, 0.03))
    server = ServerProcess(trained.bundle, redis_url, tmp_path / "log", start, **environment)
    await asyncio.to_thread(server.start)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as client:

        async def click(number: int) -> httpx.Response:
            body = {"user_id": f"user-{number}", "item_id": TENT}
            return await client.post("/v1/recommendations", json=body)

        calls = [asyncio.create_task(click(number)) for number in range(REQUESTS)]
        while not re.search(SECOND_BATCH, (await client.get("/metrics")).text):
            await asyncio.sleep(0.01)
        status = await asyncio.to_thread(server.stop)
        answers = await asyncio.gather(*calls)

    assert status == 0, server.log_text
    assert [answer.status_code for answer in answers] == [200] * REQUESTS
    assert all(answer.json()["stored"] for answer in answers)
    with redis_py.Redis.from_url(redis_url) as redis:
        keys = list(redis.scan_iter("recsys:{*"))
        assert len(keys) == REQUESTS
        assert all(redis.lindex(key, 1) for key in keys), "states are kept, too"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_ends_the_process_even_if_clients_and_redis_hang(
    trained: TrainedShop, tmp_path: Path, workers: str
) -> None:
    """Clients send half a head or half a body, do not read or are silent, and Redis hangs."""
    redis = RedisServer(tmp_path)
    redis.start()
    given = {
        "RECSYS_SHUTDOWN_SECONDS": "2",
        "RECSYS_READ_SECONDS": "600",
        "RECSYS_WORKERS": workers,
    }
    patience = {"RECSYS_REDIS_TIMEOUT_MS": "600000", "RECSYS_REDIS_BUDGET_MS": "600000"}
    environment = {**PATIENT, **given, **patience}
    server = ServerProcess(trained.bundle, redis.url, tmp_path / "log", start_fork, **environment)
    head = "POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\n"
    body = json.dumps({"user_id": "ada", "item_id": TENT})
    whole = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    try:
        with ExitStack() as stack:
            server.start()
            with redis.client() as client:
                client.client_pause(600_000)
            page = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for sent in ("", head, f"{head}Content-Length: 9\r\n\r\n123", whole, page * 15):
                connection = socket.create_connection(("127.0.0.1", server.port))
                stack.enter_context(closing(connection)).sendall(sent.encode())
            time.sleep(1)
            server.stop()  # raises if the process has not ended by then
    finally:
        redis.kill()

    assert "Traceback" not in server.log_text


async def test_redis_may_start_after_the_service(trained: TrainedShop, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    app = create_app(Settings(bundle=trained.bundle, redis=redis.url, **PAUSE))  # type: ignore[arg-type]
    body = {"user_id": "ada", "item_id": TENT}
    async with client_of(app) as client:
        before = await client.post("/v1/recommendations", json=body)
        ready = await client.get("/health/ready")
        redis.start()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not (await client.post("/v1/recommendations", json=body)).json()["stored"]:
                    await asyncio.sleep(0.05)
        finally:
            redis.kill()

    assert (before.status_code, ready.status_code) == (200, 200)
    assert before.json()["degraded"]


def test_no_module_of_the_service_reads_the_wall_clock() -> None:
    """Wall clocks jump. Deadlines use a monotonic clock, and sessions the clock of Redis."""
    wall_clock = re.compile(r"\btime\.time\(|datetime\.(now|utcnow|today)|\btime\.localtime")

    assert not [
        p for p in (ROOT / "service").rglob("*.py") if wall_clock.search(p.read_text("utf-8"))
    ]
