"""Clicks of visitors go through the service, Redis and the collector into the same sessions."""

import asyncio
import time
from itertools import pairwise, zip_longest
from pathlib import Path

from data.click_options import ClickOptions
from data.events.folder import EventsFolder
from data.events.reading import read_clicks, read_impressions
from data.prepare import read_sessions
from recsys.cli.collect import FolderSink
from service.collector.collector import Collector, CollectorOptions
from service.collector.metrics import CollectorMetrics
from service.collector.reader import FeedbackReader
from service.redis_client.client import RedisClient
from tests.support.service.app_client import ClientOf

VISITS = {
    "ada": [("a/1", "view"), ("b", "cart"), ("a/1", "view")],
    "bob": [("c", "view"), ("a/1", "view")],
    "eve": [("ä", "cart"), ("b", "view"), ("b", "view"), ("c", "cart")],
}


async def test_training_reads_the_sessions_that_the_visitors_followed(
    open_client: ClientOf, redis_client: RedisClient, tmp_path: Path
) -> None:
    folder = EventsFolder.create(tmp_path / "events")
    answered = []
    async with open_client(feedback="stream") as client:
        for step in zip_longest(*VISITS.values()):
            for user, click in zip(VISITS, step, strict=True):
                if click is not None:
                    body = {"user_id": user, "item_id": click[0], "event_type": click[1]}
                    answer = await client.post("/v1/recommendations", json=body)
                    assert answer.json()["stored"] is not False
                    answered.append(answer.json())
    collector = Collector(
        FeedbackReader(redis_client),
        FolderSink(folder, keep_days=None),
        folder.folder_id,
        CollectorOptions(every_seconds=1.0, compact_seconds=3600.0),
        CollectorMetrics(),
        time.time,
    )
    await collector.collect_once(asyncio.Event())

    read = read_sessions(ClickOptions(folder.path, event_column="event_type")).sessions
    assert read.events is not None
    clicked = [
        (read.item_ids[item], read.event_types[event - 1])
        for item, event in zip(read.items, read.events, strict=True)
    ]
    found = [clicked[begin:end] for begin, end in pairwise(read.offsets)]
    assert sorted(found, key=str) == sorted(VISITS.values(), key=str)
    clicks, shown = read_clicks(folder.path), read_impressions(folder.path)
    assert set(clicks["model_id"]) == set(shown["model_id"]) == {answered[0]["model_id"]}
    by_id = {row["list_id"]: list(row["items"]) for row in shown.to_dict("records")}
    assert by_id == {
        each["list_id"]: [item["item_id"] for item in each["items"]] for each in answered
    }
