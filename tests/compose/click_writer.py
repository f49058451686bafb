"""Client that sends clicks at a fixed rate and remembers which of them were acknowledged."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import httpx

TENT, BAG = "aurora-tent", "aurora-sleeping-bag"
CLICKS = 40  # of one user: all of them fit into the stored history


@dataclass(slots=True)
class WriteCounts:
    """Number of answers by kind."""

    full: int = 0  # 200, from the session, click stored
    degraded: int = 0  # 200, without the session or click not stored
    failed: list[str] = field(default_factory=list)  # anything else
    last_degraded: float = 0.0  # time.monotonic
    slowest: float = 0.0  # seconds


class ClickWriter:
    """Writer with one thread; each click has an event id and is sent once."""

    def __init__(self, url: str, rate: float = 40.0) -> None:
        self.counts = WriteCounts()
        self._url, self._every = url, 1 / rate
        self._numbers = count()
        self._stored: dict[str, set[str]] = {}  # user → event ids that were acknowledged
        self._stop = threading.Event()

    @contextmanager
    def writing(self) -> Iterator[WriteCounts]:
        """Send clicks until the end of the block; yield the counts, which grow meanwhile."""
        self.counts = WriteCounts()
        self._stop.clear()
        thread = threading.Thread(target=self._run, name="writer")
        thread.start()
        try:
            yield self.counts
        finally:
            self._stop.set()
            thread.join()

    def check(self) -> str:
        """Raise `AssertionError` unless each acknowledged click is in the history exactly once."""
        clicks = 0
        with httpx.Client(base_url=self._url, timeout=10) as client:
            for user, wanted in self._stored.items():
                shown = client.get(f"/v1/users/{user}").raise_for_status().json()["clicks"]
                stored = [click["event_id"] for click in shown]
                assert len(stored) == len(set(stored)), f"{user}: a click is there twice"
                assert wanted <= set(stored), f"{user}: {len(wanted - set(stored))} clicks are lost"
                clicks += len(wanted)
        assert clicks, "no click was ever stored"
        return f"{clicks:,} acknowledged clicks are there, once"

    def _run(self) -> None:
        due = time.monotonic()
        with httpx.Client(base_url=self._url, timeout=10) as client:
            while not self._stop.is_set():
                self._click(client, next(self._numbers))
                due = max(due + self._every, time.monotonic())
                time.sleep(max(due - time.monotonic(), 0.0))

    def _click(self, client: httpx.Client, number: int) -> None:
        user = f"writer-{number // CLICKS}"
        body = {"user_id": user, "item_id": (TENT, BAG)[number % 2], "event_id": str(number)}
        began = time.monotonic()
        try:
            answer = client.post("/v1/recommendations", json=body)
        except httpx.TransportError as broken:
            self.counts.failed.append(type(broken).__name__)
            return
        self.counts.slowest = max(self.counts.slowest, time.monotonic() - began)
        if answer.status_code != 200:
            self.counts.failed.append(str(answer.status_code))
            return
        body = answer.json()
        if body["stored"]:
            self._stored.setdefault(user, set()).add(str(number))
        if body["degraded"] or not body["stored"]:
            self.counts.degraded += 1
            self.counts.last_degraded = time.monotonic()
        else:
            self.counts.full += 1
