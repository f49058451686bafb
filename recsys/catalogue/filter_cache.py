"""Cache of the items that recent filters allow, bounded by the bytes of what is made of them."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from recsys.allowed_items import AllowedItems
from recsys.catalogue.attributes import Range

MOST_BYTES = 1 << 25
MOST_FILTERS = 1000
MOST_NEW = 16  # filters until the bytes of all are added up again, a tenth of a millisecond
LEFT_SHARE = 0.875  # of the bytes, where there were too many: so the next ones find room

FilterKey = frozenset[tuple[str, frozenset[str] | Range]]


class FilterCache:
    """Filter → its items, the same object until it is the least recently used of too many.

    Sets grow after they were made: a list may need the mask of one, or the runs of a scan. So their
    bytes are added up again from time to time, and may exceed the bound by the growth of a few.
    """

    def __init__(
        self,
        make: Callable[[FilterKey], AllowedItems],
        items: int,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """Begin without filters.

        Args:
            make: returns the items of a filter.
            items: N. There are at most as many sets as masks of N bytes in `most_bytes`: more small
                ones would scatter the memory that a list needs for a moment.
            most_bytes: bytes of all sets together; one set may be larger.
        """
        self.make = make
        self._most_bytes = most_bytes
        self._most_filters = min(max(most_bytes // items, 1), MOST_FILTERS)
        self._sets: OrderedDict[FilterKey, AllowedItems] = OrderedDict()
        self._new = self._taken = 0  # filters since all bytes were added up, and bytes
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._sets)

    @property
    def bytes(self) -> int:
        """Return the bytes of all sets, with what was made of them."""
        return sum(allowed.bytes for allowed in self._sets.values())

    def __call__(self, key: FilterKey) -> AllowedItems:
        """Return the items of a filter."""
        with self._lock:
            known = self._sets.get(key)
            if known is not None:
                self._sets.move_to_end(key)
                return known
        made = self.make(key)
        with self._lock:
            made = self._sets.setdefault(key, made)
            if len(self._sets) > self._most_filters:
                self._sets.popitem(last=False)
            self._new, self._taken = self._new + 1, self._taken + made.bytes
            if self._new == MOST_NEW or self._taken > self._most_bytes:
                self._forget()
        return made

    def _forget(self) -> None:
        """Drop the least recently used sets until the others, or one, are small enough."""
        taken = self.bytes
        left = self._most_bytes * LEFT_SHARE if taken > self._most_bytes else taken
        while len(self._sets) > 1 and taken > left:
            taken -= self._sets.popitem(last=False)[1].bytes
        self._new, self._taken = 0, taken
