"""Lists in the log: the ranks of clicked items in them, and how many lists were lost.

A list stands in the log up to a moment after it was answered, perhaps after a click on it. So
clicks are looked up, and gaps are counted, one round of the collector later: `LATE_SECONDS` or more
where nothing waits.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from recsys.events.attribution import LATE_SECONDS, WINDOW_SECONDS
from service.collector.columns import StoredEvent
from service.feedback.entries import SHARDS, ClickEntry, DeletionEntry, ImpressionEntry

MAX_LISTS = 50_000  # that are remembered, about 100 MB
LISTS_PER_USER = 50
IDLE_SECONDS = 3600.0  # after which a process that wrote lists is taken for ended


@dataclass(frozen=True, slots=True)
class ShownList:
    """List that was answered to a user."""

    seconds: float
    shard: int
    list_id: str
    variant: str | None
    items: Sequence[str]


class ClickedRanks:
    """Ranks of clicked items in the lists that showed them.

    `recsys/events/attribution.py` says which list a click came from. Where lists are too many to
    remember, the users of half of the shards are passed over from then on; the others are a fair
    sample.

    Args:
        count: called with rank (from 1) and variant of each click on a list, and with None and ""
            for a click on none.
        window_seconds: for so long a list is remembered.
        max_lists: number of lists that are remembered.
    """

    def __init__(
        self,
        count: Callable[[int | None, str], None],
        window_seconds: float = WINDOW_SECONDS,
        max_lists: int = MAX_LISTS,
    ) -> None:
        self._count, self._window_seconds, self._max_lists = count, window_seconds, max_lists
        self._shards = SHARDS  # whose users are watched: those below
        # user → lists, newest last; the user with the newest list is last
        self._shown: OrderedDict[str, deque[ShownList]] = OrderedDict()
        self._lists = 0
        self._clicks: list[tuple[float, ClickEntry]] = []  # of the round before

    def add(self, events: Iterable[StoredEvent]) -> None:
        """Remember the lists of a round, then count the clicks of the round before."""
        clicks: list[tuple[float, ClickEntry]] = []
        now = 0.0
        for event in events:
            shard, entry = event.shard, event.entry
            if shard >= self._shards:
                continue
            now = max(now, event.seconds)
            if isinstance(entry, ClickEntry):
                clicks.append((event.seconds, entry))
            elif isinstance(entry, DeletionEntry):
                self._lists -= len(self._shown.pop(entry.user, ()))
            else:
                self._remember(event.seconds, shard, entry)
        for seconds, click in self._clicks:
            shown = self._list_of(seconds, click)
            if shown is None:
                self._count(None, "")
            else:
                self._count(list(shown.items).index(click.item_id) + 1, shown.variant or "")
        self._clicks = clicks
        self._forget(now - self._window_seconds)

    def _remember(self, seconds: float, shard: int, entry: ImpressionEntry) -> None:
        lists = self._shown.setdefault(entry.user, deque(maxlen=LISTS_PER_USER))
        self._lists += len(lists) < LISTS_PER_USER
        lists.append(ShownList(seconds, shard, entry.list_id, entry.variant, entry.items))
        self._shown.move_to_end(entry.user)

    def _list_of(self, seconds: float, click: ClickEntry) -> ShownList | None:
        for shown in reversed(self._shown.get(click.user, ())):
            if click.list_id is not None:
                fits = shown.list_id == click.list_id and shown.seconds <= seconds + LATE_SECONDS
            else:
                fits = 0 <= seconds - shown.seconds <= self._window_seconds
            if fits and click.item_id in shown.items:
                return shown
        return None

    def _forget(self, before: float) -> None:
        """Forget users without a new list, and half of the shards where lists are too many."""
        while self._shown:
            user, lists = next(iter(self._shown.items()))
            if lists[-1].seconds >= before:
                break
            self._lists -= len(self._shown.pop(user))
        while self._lists > self._max_lists and self._shards > 1:
            self._shards //= 2
            for user, lists in list(self._shown.items()):
                if lists[-1].shard >= self._shards:
                    self._lists -= len(self._shown.pop(user))


@dataclass(slots=True)
class _Process:
    """Lists of one process: their numbers count up without a gap where none is lost."""

    seconds: float = 0.0  # of its newest list
    settled: int | None = None  # up to this number, gaps are counted
    highest: int | None = None  # of the rounds before
    numbers: set[int] = field(default_factory=set)  # above `settled`


class LostLists:
    """Count of lists that were answered and are not in the log, by the gaps of their numbers."""

    def __init__(self) -> None:
        self._processes: dict[str, _Process] = {}

    def add(self, events: Iterable[StoredEvent], *, drained: bool) -> int:
        """Return how many lists of the rounds before are lost.

        Args:
            events: the events of a round.
            drained: whether the streams had no more, so that no older list can follow.
        """
        newest = 0.0
        for event in events:
            if isinstance(event.entry, ImpressionEntry):
                prefix, _, number = event.entry.list_id.rpartition(".")
                newest = max(newest, event.seconds)
                if number.isdecimal() and len(number) <= 18:
                    process = self._processes.setdefault(prefix, _Process())
                    process.numbers.add(int(number))
                    process.seconds = max(process.seconds, event.seconds)
        if not drained:
            return 0
        lost = sum(_settle(process) for process in self._processes.values())
        for prefix, process in list(self._processes.items()):
            if process.seconds < newest - IDLE_SECONDS:
                del self._processes[prefix]
        return lost


def _settle(process: _Process) -> int:
    """Count the gaps up to the highest number of the rounds before."""
    lost = 0
    if process.highest is not None:
        below = {number for number in process.numbers if number <= process.highest}
        first = min(below, default=0) - 1 if process.settled is None else process.settled
        lost = process.highest - first - sum(number > first for number in below)
        process.numbers -= below
        process.settled = process.highest
    process.highest = max(process.numbers, default=process.settled)
    return lost
