"""Watching of answered lists and of clicks on them: coverage, repetition, and places of clicks.

The collector watches, because it reads the lists of all processes, and because no user waits for
it. Memory is bounded: the last lists of the users who were seen last, and the counts of one window.
A window is a number of lists and no time, so that its numbers do not depend on the traffic.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import prometheus_client as prometheus

WINDOW_LISTS = 1000
REMEMBERED_USERS, REMEMBERED_LISTS = 10_000, 5  # lists of each user
ATTRIBUTION_MS = 30 * 60 * 1000  # a click is on the newest list of this time that has the item
PLACES = (1, 2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class ShownList:
    """List that was answered to a user; milliseconds: its time by the clock of Redis."""

    milliseconds: int
    list_id: str
    items: Sequence[str]


class ListWatch:
    """Metrics of lists and of the clicks on them.

    Args:
        registry: where the metrics are registered.
    """

    def __init__(self, registry: prometheus.CollectorRegistry) -> None:
        self.shown = prometheus.Counter(
            "recsys_shown_items",
            "Items of answered lists, by whether the list before of the same user had the item.",
            ("repeated",),
            registry=registry,
        )
        self.distinct = prometheus.Gauge(
            "recsys_shown_distinct_items",
            f"Distinct items of the last {WINDOW_LISTS:,} lists, set once in as many lists.",
            registry=registry,
        )
        self.top_share = prometheus.Gauge(
            "recsys_shown_top_share",
            "Share of the places of these lists that their most shown hundredth of items takes.",
            registry=registry,
        )
        self.clicks = prometheus.Counter(
            "recsys_list_clicks",
            "Clicks, by whether a list of the user in the last 30 minutes showed the item.",
            ("shown",),
            registry=registry,
        )
        self.place = prometheus.Histogram(
            "recsys_clicked_place",
            "Place, from 1, of clicked items in the list that showed them.",
            buckets=PLACES,
            registry=registry,
        )
        self._repeated, self._fresh = (self.shown.labels(text) for text in ("true", "false"))
        self._found, self._missed = (self.clicks.labels(text) for text in ("true", "false"))
        self._lists: OrderedDict[str, deque[ShownList]] = OrderedDict()  # by user
        self._window: Counter[str] = Counter()
        self._window_lists = 0

    def add_list(self, user: str, shown: ShownList) -> None:
        """Watch a list; those of a user come in their order."""
        lists = self._lists.get(user)
        if lists is None:
            lists = self._lists[user] = deque(maxlen=REMEMBERED_LISTS)
            if len(self._lists) > REMEMBERED_USERS:
                self._lists.popitem(last=False)
        self._lists.move_to_end(user)
        repeated = len(set(lists[-1].items).intersection(shown.items)) if lists else 0
        self._repeated.inc(repeated)
        self._fresh.inc(len(shown.items) - repeated)
        lists.append(shown)
        self._window.update(shown.items)
        self._window_lists += 1
        if self._window_lists == WINDOW_LISTS:
            self._end_window()

    def add_click(self, user: str, milliseconds: int, item_id: str, list_id: str | None) -> None:
        """Watch a click, after the lists that the user saw before it."""
        place = self._place(user, milliseconds, item_id, list_id)
        if place is None:
            self._missed.inc()
        else:
            self._found.inc()
            self.place.observe(place)

    def forget(self, user: str) -> None:
        """Forget the lists of a user."""
        self._lists.pop(user, None)

    def _place(self, user: str, milliseconds: int, item_id: str, list_id: str | None) -> int | None:
        """Return the place of the item in the list that the click names, else in the newest one."""
        with_item = [each for each in self._lists.get(user, ()) if item_id in each.items]
        named = [each for each in with_item if each.list_id == list_id]
        recent = [each for each in with_item if milliseconds - each.milliseconds <= ATTRIBUTION_MS]
        found = named or recent
        return found[-1].items.index(item_id) + 1 if found else None

    def _end_window(self) -> None:
        counts = sorted(self._window.values(), reverse=True)
        top = max(1, len(counts) // 100)
        self.distinct.set(len(counts))
        self.top_share.set(sum(counts[:top]) / max(1, sum(counts)))
        self._window.clear()
        self._window_lists = 0
