"""The loop: visitors follow lists, events are collected, a model is trained, compared, published.

All parts are those that a shop runs: the service with `RECSYS_FEEDBACK=stream`, the collector, the
retraining with its gate, and an experiment of the model registry. Only time is simulated. A day is
as long as its visits take, so a retraining counts seconds instead of days: the newest ones, which
it tests on, are those since the first visit of the day.
"""

import asyncio
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from data.events.folder import EventsFolder
from data.events.reading import read_events
from data.shop.visitors import ShopDays
from recsys.bundle.registry import publish, read_current
from recsys.cli.collect import Target, run_collector
from recsys.cli.demo_loop.days import Day
from recsys.cli.demo_loop.first_log import DAY_SECONDS, write_first_log
from recsys.cli.demo_loop.visits import follow_all
from recsys.cli.demo_service import running_service
from recsys.client import Client
from recsys.errors import RecsysError
from recsys.events.schemas import IMPRESSIONS
from service.collector.collector import CollectorOptions
from service.collector.metrics import CollectorMetrics
from service.feedback.impressions import FLUSH_SECONDS
from service.server.embedded_redis import private_redis
from training.retrain.decision import Decision
from training.retrain.options import RetrainOptions
from training.retrain.run import retrain

FROZEN_SHARE = 50.0  # percent of the users, from the first published retraining on
FOLLOW_SECONDS = 0.2
SERVED_SECONDS = 60.0
LOGGED_SECONDS = 10.0
DURABLE = ("--appendonly", "yes")  # as the service wants it for feedback
SERVICE = {
    "port": 0,
    "feedback": "stream",
    "follow_seconds": FOLLOW_SECONDS,
    # visitors and service share one process, so that an answer may take long
    "redis_timeout_ms": 2_000,
    "redis_budget_ms": 5_000,
    "deadline_ms": 20_000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """Options of the loop."""

    folder: Path  # for the events and the model registry
    days: int = 10
    visits: int = 500  # of a day
    first_days: int = 7  # before the service, from which the first model learns
    seed: int = 1
    settings: Sequence[str] = ()  # name=value, over the recipe of the shop

    @property
    def events(self) -> Path:
        return self.folder / "events"

    @property
    def registry(self) -> Path:
        return self.folder / "registry"


def small_loop(folder: Path, days: int = 2) -> LoopOptions:
    """Return options with which the loop takes seconds; its models are no good ones."""
    settings = ("epochs=6", "hidden=32", "negatives=64", "batch=16")
    return LoopOptions(folder=folder, days=days, visits=60, first_days=6, settings=settings)


def run_loop(options: LoopOptions, console: Console) -> Generator[Day]:
    """Run the loop, and yield each day after its night; at its end, everything is stopped.

    Raises:
        RecsysError: A part fails.
    """
    shop, opened = ShopDays(options.visits, options.seed), time.time()
    log_began = opened - options.first_days * DAY_SECONDS
    with console.status("The first model learns from the days before"):
        folder = EventsFolder.create(options.events)
        write_first_log(folder, shop, options.first_days, until=opened)
        first = _night(options, log_began, opened - DAY_SECONDS, opened)
    if not first.published:
        raise RecsysError(f"There is no first model. {first.reason} Give more --visits.")
    with (
        private_redis(DURABLE, socket_file=True) as redis,
        running_service({**SERVICE, "bundle": options.registry, "redis": redis}) as url,
    ):
        lists = 0  # that visitors saw
        for number in range(1, options.days + 1):
            day, began = options.first_days + number - 1, time.time()
            with console.status(f"Day {number}: visitors click"):
                visits = asyncio.run(follow_all(url, shop.visitors(day)))
            ended = time.time()
            lists += sum(visit.lists for visit in visits)
            with console.status(f"Night {number}: collect, retrain, compare"):
                _collect_all(redis, options.events, lists)
                decision = _night(options, log_began, began, time.time())
            yield Day(
                number=number,
                new_items=len(shop.new_items(day)),
                began=began,
                ended=ended,
                first=first.bundle,
                visits=visits,
                decision=decision,
            )
            if decision.published:
                if read_current(options.registry).experiment is None:
                    publish(options.registry, decision.bundle, {first.bundle: FROZEN_SHARE})
                _await_served(url, decision.model_id)


def collect(redis: str, events: Path) -> None:
    """Collect what waits in Redis, as `recsys collect --once` does."""
    target = Target(redis, events, keep_days=None, take_over=False)
    asyncio.run(run_collector(target, CollectorOptions(1.0, 1.0), CollectorMetrics(), once=True))


def _collect_all(redis: str, events: Path, lists: int) -> None:
    """Collect until so many lists are in the log: the last ones are still in the service."""
    latest = time.monotonic() + LOGGED_SECONDS
    collect(redis, events)
    while len(read_events(events, IMPRESSIONS, columns=["list_id"])) < lists:
        if time.monotonic() > latest:
            return  # lists may be lost; the end of the loop says so
        time.sleep(FLUSH_SECONDS)
        collect(redis, events)


def _night(options: LoopOptions, log_began: float, tested_from: float, now: float) -> Decision:
    """Retrain on all clicks before `tested_from`, and test on those until now."""
    until = math.ceil(now)
    return retrain(
        RetrainOptions(
            events=options.events,
            registry=options.registry,
            days=until - math.floor(log_began),
            test_days=until - math.floor(tested_from),
            day_seconds=1,
            least_cases=options.visits,
            recipe="shop",
            settings=options.settings,
            keep_shares=True,
        ),
        until,
        Console(quiet=True),
    )


def _await_served(url: str, model_id: str) -> None:
    """Wait until the service has loaded a published model, and the first one beside it."""
    latest = time.monotonic() + SERVED_SECONDS
    with Client(url) as client:
        while (served := client.model()).model_id != model_id or served.experiment is None:
            if time.monotonic() > latest:
                raise RecsysError(f"The service does not load model {model_id}. Look at its log.")
            time.sleep(FOLLOW_SECONDS)
