"""Clicks that are not stored are counted by reason, logged, and named by the readiness call."""

import logging
from collections.abc import Callable

import pytest

from service.store.unstored_clicks import UnstoredClicks
from tests.support.redis.servers import own_redis
from tests.support.service.app_client import ClientOf

TENT = "aurora-tent"


def test_reasons_are_counted_logged_once_a_second_and_forgotten_after_ten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 100.0
    counted: list[tuple[str, int]] = []
    due: list[tuple[float, Callable[[], None]]] = []
    unstored = UnstoredClicks(
        lambda *counts: counted.append(counts),
        clock=lambda: now,
        call_later=lambda seconds, action: due.append((now + seconds, action)),
    )
    with caplog.at_level(logging.WARNING):
        unstored.add("oom", 1)
        now = 100.5
        unstored.add("oom", 2)
        unstored.add("readonly", 2)
        unstored.add("forgotten", 5)
        assert len(caplog.messages) == 1
        ((now, log_the_rest),) = due
        log_the_rest()

    assert now == 101.0
    assert counted == [("oom", 1), ("oom", 2), ("readonly", 2), ("forgotten", 5)]
    assert [message.split("(")[1].split(")")[0] for message in caplog.messages] == [
        "oom: 1",
        "oom: 2, readonly: 2",
    ]
    assert unstored.recent_reasons() == ["oom", "readonly"]
    now = 110.2
    assert unstored.recent_reasons() == ["oom", "readonly"]
    now = 110.6
    assert unstored.recent_reasons() == []


async def test_a_redis_that_refuses_clicks_is_seen_from_outside(open_client: ClientOf) -> None:
    with own_redis() as server, server.client() as redis:
        async with open_client(redis=server.url) as client:
            for user, event in (("ada", "e1"), ("ben", "e2")):
                body = {"user_id": user, "item_id": TENT, "event_id": event}
                assert (await client.post("/v1/recommendations", json=body)).json()["stored"]
            assert (await client.get("/health/ready")).json()["clicks"] == "ok"
            await client.delete("/v1/users/ben")

            redis.config_set("maxmemory", 1)
            body = {"user_id": "ada", "item_id": TENT}
            refused = (await client.post("/v1/recommendations", json=body)).json()
            clicks = {"clicks": [{"item_id": TENT}, {"item_id": TENT}]}
            several = await client.post("/v1/users/ada/clicks", json=clicks)
            again = {"user_id": "ben", "item_id": TENT, "event_id": "e2"}
            forgotten = (await client.post("/v1/recommendations", json=again)).json()

            ready = (await client.get("/health/ready")).json()
            metrics = (await client.get("/metrics")).text

    assert (refused["stored"], refused["degraded"]) == (False, False)
    assert several.status_code == 503
    assert "OOM" in several.json()["detail"]
    assert forgotten["stored"] is False
    assert (ready["status"], ready["clicks"]) == ("ready", "not stored (oom)")
    assert 'recsys_clicks_not_stored_total{reason="oom"} 3.0' in metrics
    assert 'recsys_clicks_not_stored_total{reason="forgotten"} 1.0' in metrics


async def test_clicks_are_counted_as_not_stored_if_redis_is_unavailable(
    open_client: ClientOf,
) -> None:
    async with open_client(redis="redis://127.0.0.1:1") as client:
        body = {"user_id": "ada", "item_id": TENT}
        assert not (await client.post("/v1/recommendations", json=body)).json()["stored"]
        metrics = (await client.get("/metrics")).text

    assert 'recsys_clicks_not_stored_total{reason="unavailable"} 1.0' in metrics
