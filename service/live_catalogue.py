"""Live catalogue of this process: read the changes of items from Redis and apply them to the model.

Law of availability: two seconds after a change is acknowledged, no answer of any process contains
an unavailable item, provided the process could read Redis. While it cannot, the last overlay that
it read holds.

The process asks four times a second for what changed, and builds new predictors in a thread, one
for each model that is served. A predictor is exchanged as a whole: a batch that is under way ends
with the overlay that it began with. A model that is loaded gets all entries before it is served,
and the changes that come meanwhile.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from math import inf

from recsys.errors import StoreUnavailable
from recsys.live.overlay import Overlay, OverlayCounts
from recsys.predictor import Predictor
from service.store.overlay_store import OverlayStore, OverlayVersion, StoredItem

log = logging.getLogger("recsys.service")

POLL_SECONDS = 0.25
ITEMS_AT_ONCE = 10_000  # applied in one job, so that a model that is loaded delays no change
REACHED_SECONDS = 1.0
LATE_SECONDS = 1.5  # more than an attempt takes while Redis does not answer
FIRST_SECONDS = 15.0  # that a start waits for a slow Redis
FIRST_REFUSALS = 3  # quick failures at the start after which Redis counts as away


Serve = Callable[[Predictor, OverlayCounts], None]  # with the sizes of the overlay


class BoundOverlay:
    """Overlay of one model, and the items that wait to be applied to it.

    Args:
        predictor: the predictor of the bundle.
        waiting: items to apply.
        serve: called with each predictor that is to be served from then on.
    """

    def __init__(
        self, predictor: Predictor, waiting: Mapping[str, StoredItem | None], serve: Serve
    ) -> None:
        self.overlay = Overlay(predictor)
        self.waiting = dict(waiting)
        self._serve = serve

    def serve(self, predictor: Predictor) -> None:
        """Serve a predictor that was made before."""
        self._serve(predictor, self.overlay.counts)

    def applied(self, items: Mapping[str, StoredItem | None]) -> Predictor:
        """Return a predictor after applying some items. It runs in a thread, one call at a time."""
        entries = {key: None if item is None else item.entry for key, item in items.items()}
        self.overlay.apply(entries)
        return self.overlay.predictor()

    def recounted(self, change: Callable[[Predictor], Predictor]) -> Predictor:
        """Return a predictor with other counts of clicks. It runs in the same thread."""
        self.overlay.recount(change)
        return self.overlay.predictor()

    def take(self) -> dict[str, StoredItem | None]:
        """Return some of the waiting items, which wait no more."""
        some = dict(islice(self.waiting.items(), ITEMS_AT_ONCE))
        for item_id in some:
            del self.waiting[item_id]
        return some


class LiveCatalogue:
    """Overlay of this process.

    Args:
        store: the overlay in Redis.
        on_age: called with the seconds since Redis was last read, after each attempt.
    """

    def __init__(
        self,
        store: OverlayStore,
        on_age: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.store = store
        self._on_age = on_age
        self._items: dict[str, StoredItem] = {}
        self._version: OverlayVersion | None = None  # read last; None: everything is to be read
        self._after = 0  # number of the last change that was read
        self._applied = 0  # number of the last change that is served
        self._reread: dict[str, StoredItem] | None = {}  # all items anew, until they are complete
        self._read_at = self._tried_at = -inf
        self._served: list[BoundOverlay] = []
        self._loading: list[BoundOverlay] = []  # of models that are not served yet
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalogue")
        self._wake, self._progress = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def seconds_behind(self) -> float:
        """Return the seconds since Redis was last read to the end."""
        return time.monotonic() - self._read_at

    @property
    def state(self) -> str:
        """Return "ok", or since when Redis could not be read."""
        seconds = self.seconds_behind
        if seconds == inf:
            return "not read yet"
        return "ok" if seconds < LATE_SECONDS else f"not read for {seconds:.0f} s"

    async def start(self) -> None:
        """Read the overlay, then go on reading in a task.

        If Redis refuses connections or is silent for long, the overlay is read as soon as Redis
        answers.
        """
        if not await self._read_first():
            log.warning(
                "The live catalogue cannot be read, because Redis does not answer: the items of "
                "the bundle are shown as they were in training until it does."
            )
        self._task = asyncio.create_task(self._run(), name="live-catalogue")

    async def _read_first(self) -> bool:
        """Read the overlay; return False if Redis does not answer. A slow one gets more time."""
        began, refusals = time.monotonic(), 0
        while refusals < FIRST_REFUSALS and time.monotonic() < began + FIRST_SECONDS:
            attempted = time.monotonic()
            try:
                await self._catch_up()
                return True
            except StoreUnavailable:
                refusals += time.monotonic() < attempted + POLL_SECONDS
                await asyncio.sleep(POLL_SECONDS)
        return False

    async def stop(self) -> None:
        """Stop the task."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=False, cancel_futures=True)
        await self.store.close()

    def read_soon(self) -> None:
        """Read Redis now and not at the next poll: this process has just changed items."""
        self._wake.set()

    async def reached(self, version: OverlayVersion) -> None:
        """Wait until this process serves a version, or the next ones; a second at most."""
        self.read_soon()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REACHED_SECONDS):
                while self._applied < version.count:
                    await self._progress.wait()

    async def wait_if_late(self) -> None:
        """Wait for the next attempt to read Redis if the last one was too long ago.

        A process that stood still for seconds would otherwise answer from what it read before.
        While Redis does not answer, attempts go on, and no call waits.
        """
        if time.monotonic() - self._tried_at > LATE_SECONDS and self._task is not None:
            self.read_soon()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REACHED_SECONDS):
                    await self._progress.wait()

    async def bind(self, predictor: Predictor, serve: Serve) -> BoundOverlay:
        """Serve the predictor with the overlay, and again after each change until the release."""
        bound = BoundOverlay(predictor, self._items, serve)
        self._loading.append(bound)
        try:
            overlaid = await self._current(bound)
        finally:
            self._loading.remove(bound)
        self._served.append(bound)
        bound.serve(overlaid)
        return bound

    def release(self, bound: BoundOverlay) -> None:
        """Apply no more changes to a model that is not served any more."""
        self._served.remove(bound)

    async def recount(self, change: Callable[[Predictor], Predictor]) -> None:
        """Serve other counts of clicks; see `Overlay.recount`."""
        loop = asyncio.get_running_loop()
        for bound in list(self._served):
            predictor = await loop.run_in_executor(self._thread, bound.recounted, change)
            if bound in self._served:
                bound.serve(predictor)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._catch_up()
            except StoreUnavailable:
                pass  # the breaker has logged it, and the metric shows for how long
            except Exception:  # an unforeseen error must not end the task
                log.exception("Reading the live catalogue failed. It is tried again.")
            self._tried_at = time.monotonic()
            self._on_age(self.seconds_behind)
            self._progress.set()  # wakes those that wait now
            self._progress = asyncio.Event()

    async def _catch_up(self) -> None:
        """Read all that changed, and serve it."""
        try:
            while not await self._read_page():
                pass
        finally:  # also what was read before Redis failed
            await self._serve_waiting()
        self._read_at, self._applied = time.monotonic(), self._after

    async def _read_page(self) -> bool:
        """Read one page; return whether it was the last."""
        page = await self.store.read(self._version, self._after)
        if page is None:
            log.warning(
                "Redis has lost changes of the live catalogue, or was restored. All items are read "
                "again. Send what is missing with recsys catalogue push."
            )
            self._version, self._after, self._reread = None, 0, {}
            return False
        self._version, self._after = page.version, page.last
        if self._reread is None:
            self._items.update(page.items)
            self._wait(page.items)
        else:
            self._reread.update(page.items)
            if page.is_last:
                self._wait(self._replace_items(self._reread))
        if any(len(bound.waiting) >= ITEMS_AT_ONCE for bound in self._served):
            await self._serve_waiting()
        return page.is_last

    def _replace_items(self, items: dict[str, StoredItem]) -> dict[str, StoredItem | None]:
        """Replace all items; return those that differ, None for those that are gone."""
        old, self._items, self._reread = self._items, items, None
        gone: dict[str, StoredItem | None] = dict.fromkeys(old.keys() - items.keys())
        return gone | {key: item for key, item in items.items() if old.get(key) != item}

    def _wait(self, changes: Mapping[str, StoredItem | None]) -> None:
        """Have changes wait for the served models and for those that are loaded."""
        for bound in (*self._served, *self._loading):
            bound.waiting.update(changes)

    async def _serve_waiting(self) -> None:
        """Apply what waits for the served models, and serve them."""
        for bound in list(self._served):
            if bound.waiting:
                predictor = await self._current(bound)
                if bound in self._served:  # it was not released meanwhile
                    bound.serve(predictor)

    async def _current(self, bound: BoundOverlay) -> Predictor:
        """Return a predictor after all that waits is applied."""
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._thread)
        while True:
            predictor = await in_thread(bound.applied, bound.take())
            if not bound.waiting:
                return predictor
