"""Drift of the lists that are shown: how many items they cover, and how much they repeat.

The collector watches, because it reads the lists of all processes and no user waits for it. Memory
is bounded: the last list of the users who were seen last, and the counts of one window. A window is
a number of lists and no time, so that its numbers do not depend on the traffic.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

from service.collector.columns import StoredEvent
from service.collector.metrics import CollectorMetrics
from service.feedback.entries import DeletionEntry, ImpressionEntry

WINDOW_LISTS = 1000
MAX_USERS = 50_000  # whose last list is remembered, about 100 MB


class ListDrift:
    """Coverage and repetition of the lists that were collected.

    Args:
        metrics: where they are counted.
    """

    def __init__(self, metrics: CollectorMetrics) -> None:
        self._metrics = metrics
        self._last: OrderedDict[str, Sequence[str]] = OrderedDict()  # user → items; newest last
        self._window: Counter[str] = Counter()
        self._window_lists = 0

    def add(self, events: Iterable[StoredEvent]) -> None:
        """Watch the events of a round; those of a user are in their order."""
        shown = repeated = 0
        for event in events:
            entry = event.entry
            if isinstance(entry, ImpressionEntry):
                shown += len(entry.items)
                repeated += len(set(entry.items).intersection(self._last.get(entry.user, ())))
                self._remember(entry)
            elif isinstance(entry, DeletionEntry):
                self._last.pop(entry.user, None)
        self._metrics.count_shown(repeated=repeated, fresh=shown - repeated)

    def _remember(self, entry: ImpressionEntry) -> None:
        self._last[entry.user] = entry.items
        self._last.move_to_end(entry.user)
        if len(self._last) > MAX_USERS:
            self._last.popitem(last=False)
        self._window.update(entry.items)
        self._window_lists += 1
        if self._window_lists == WINDOW_LISTS:
            self._end_window()

    def _end_window(self) -> None:
        counts = sorted(self._window.values(), reverse=True)
        most_shown = max(1, len(counts) // 100)
        self._metrics.distinct_items.set(len(counts))
        self._metrics.top_share.set(sum(counts[:most_shown]) / max(1, sum(counts)))
        self._window.clear()
        self._window_lists = 0
