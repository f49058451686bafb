"""Session-based nearest neighbours: score the items of the most similar training sessions.

The evaluation and the service use the same code. Sources: Ludewig and Jannach, UMUAI 2018 (V-SKNN);
Garg et al., SIGIR 2019 (STAN: three exponential decays); Ludewig et al., UMUAI 2021 (VSTAN: both
joined, with inverse item frequency).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.neighbours.index import NeighbourIndex
from recsys.ragged import RaggedArray, ScoredRaggedArray, concatenated, offsets_of, spread

CASES_AT_ONCE = 64  # so that the arrays stay in the processor's cache
CANDIDATES_AT_ONCE = 1 << 17
LOOKS = 16  # sessions of an item, at equal distances, whose age is looked at
MAX_CANDIDATES = 1 << 20  # a place takes 20 bits of a sorting key, a case 6, a score 31


@dataclass(frozen=True, slots=True)
class NeighbourSettings:
    """Settings of V-SKNN, where the decays are None, or of VSTAN.

    Raises:
        ValueError: a field is outside its range.
    """

    neighbours: int = 500  # most similar sessions that vote
    candidates: int = 2500  # most recent sessions that are compared
    click_decay: float | None = None  # clicks back in the running session until a weight of 1/e
    age_decay_days: float | None = None  # age of a neighbour until a weight of 1/e
    distance_decay: float | None = None  # clicks from the shared item until a weight of 1/e
    idf: float = 1.0  # strength of the inverse item frequency

    def __post_init__(self) -> None:
        counts, strength = (self.neighbours, self.candidates), self.idf
        decays = (self.click_decay, self.age_decay_days, self.distance_decay)
        right = all(type(count) is int and 1 <= count <= MAX_CANDIDATES for count in counts)
        right &= type(strength) is float and 0 <= strength < np.inf
        right &= all(d is None or (type(d) is float and 0 < d < np.inf) for d in decays)
        if not right:
            raise ValueError(
                f"Neighbour settings are counts from 1 to {MAX_CANDIDATES:,}, an idf of at "
                f"least 0, and decays above 0 or None, got {self}."
            )


VSKNN = NeighbourSettings()
VSTAN = NeighbourSettings(click_decay=2.0, age_decay_days=60.0, distance_decay=3.0)


@dataclass(frozen=True)
class _Candidates:
    """Sessions that share an item with a case, ordered by case, newest first."""

    case: NDArray[np.int64]
    session: NDArray[np.int32]
    pair: NDArray[np.int64]  # where the index holds that session for the shared item clicked last
    similarity: NDArray[np.float64]

    def only(self, kept: NDArray[np.int64]) -> "_Candidates":
        return _Candidates(
            self.case[kept], self.session[kept], self.pair[kept], self.similarity[kept]
        )


class SessionNeighbours:
    """Scorer of the items in the training sessions that are most similar to a window."""

    def __init__(self, index: NeighbourIndex, settings: NeighbourSettings) -> None:
        """Hold an index.

        Args:
            index: the training sessions.
            settings: V-SKNN or VSTAN.
        """
        self.index = index
        self.settings = settings
        far, longest = settings.distance_decay, int(np.diff(index.offsets).max(initial=1))
        self._nearness = np.ones(longest) if far is None else np.exp(-np.arange(longest) / far)

    def score(self, windows: RaggedArray) -> ScoredRaggedArray:
        """Return the items of each window's neighbours with their scores.

        A row does not depend on the other rows.

        Args:
            windows: B rows of item indices, oldest first, -1 where unknown. An unknown click counts
                for the recency of the others, and no session shares it.

        Returns:
            B rows, scores above 0; empty where there is no neighbour.
        """
        parts = [self._score(part) for part in self._parts(windows)]
        return parts[0] if len(parts) == 1 else concatenated(parts)

    def shares(self, windows: RaggedArray, best: int) -> ScoredRaggedArray:
        """Return the items with the highest scores, each with its share of the row's whole sum.

        Args:
            windows: as for `score`.
            best: items of a row at most, of equal scores the first; 0 for all.

        Returns:
            B rows, scores above 0 and at most 1.
        """
        parts = [_shares(self._score(part), best) for part in self._parts(windows)]
        return parts[0] if len(parts) == 1 else concatenated(parts)

    def _parts(self, windows: RaggedArray) -> list[RaggedArray]:
        """Return the cases in parts whose sums and candidates fit in memory together."""
        most = len(windows.items) * self.settings.candidates
        if len(windows) <= CASES_AT_ONCE and most <= CANDIDATES_AT_ONCE:
            return [windows]
        starts = self.index.starts
        held = np.where(windows.items < 0, 0, starts[windows.items + 1] - starts[windows.items])
        before = offsets_of(held)[windows.offsets]
        parts, first = [], 0
        while first < len(windows):
            full = int(np.searchsorted(before, before[first] + CANDIDATES_AT_ONCE, "right")) - 1
            last = min(max(full, first + 1), first + CASES_AT_ONCE, len(windows))
            parts.append(windows.part(first, last))
            first = last
        return parts or [windows]

    def _score(self, windows: RaggedArray) -> ScoredRaggedArray:
        neighbours = self._nearest(self._sharing(windows))
        begins = self.index.offsets[neighbours.session].astype(np.int64)
        lengths = self.index.offsets[neighbours.session + 1] - begins
        at = spread(begins, lengths)
        votes = neighbours.similarity.repeat(lengths)
        if self.settings.distance_decay is not None:
            shared = begins + self.index.places[neighbours.pair]
            distance = at - shared.repeat(lengths)
            votes *= self._nearness[np.abs(distance, out=distance)]
        cells, totals = _summed(
            (neighbours.case * self.index.items).repeat(lengths) + self.index.clicks[at], votes
        )
        above = totals > 0  # a vote from very far can be too small for a number
        if not above.all():
            cells, totals = cells[above], totals[above]
        row, item = np.divmod(cells, self.index.items)
        offsets = offsets_of(np.bincount(row, minlength=len(windows)))
        return ScoredRaggedArray(offsets, item, totals * self._idf(item))

    def _idf(self, item: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weight of some items by their rarity."""
        return 1.0 + self.settings.idf * self.index.rarity[item].astype(np.float64)

    def _sharing(self, windows: RaggedArray) -> _Candidates:
        """Return the newest sessions that share an item, at most `settings.candidates` of a case.

        The weights of several shared items add up.
        """
        case, item, weight = self._weights(windows)
        starts = self.index.starts[item].astype(np.int64)
        counts = self._needed(case, starts, self.index.starts[item + 1] - starts)
        at, of_pair = spread(starts, counts), np.arange(len(item)).repeat(counts)
        session, sessions = self.index.holders[at], self.index.sessions
        # by case, newest first; the items of a case stand with the latest click first
        newest_first = (case * sessions + sessions - 1).repeat(counts) - session
        order, key = _sorted(newest_first, "stable")  # merges what each item has in order
        of_pair, first = of_pair[order], _first_of_runs(key)
        similarity = np.add.reduceat(weight[of_pair], first) if len(first) else np.zeros(0)
        kept = _leading(case[of_pair[first]], self.settings.candidates)
        first, similarity = first[kept], similarity[kept]
        entry, latest = of_pair[first], order[first]
        session = session[latest]
        similarity *= weight[entry]
        if self.settings.age_decay_days is not None:
            age = self.index.age_days[session].astype(np.float64)
            similarity *= np.exp(-age / self.settings.age_decay_days)
        return _Candidates(case[entry], session, at[latest], similarity)

    def _needed(
        self, case: NDArray[np.int64], starts: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return how many sessions of each item, the newest first, can be candidates of its case.

        Where another item of the case has enough newer sessions, older ones cannot. Leaving them
        out saves time for popular items and changes no result. The number is an upper bound: it is
        rounded up to the next session that was looked at.
        """
        enough = counts >= self.settings.candidates
        if not enough.any():
            return counts
        oldest = np.zeros(int(case.max()) + 1, dtype=np.int32)
        np.maximum.at(oldest, case[enough], self.index.holders[(starts + counts)[enough] - 1])
        step = counts // LOOKS + 1
        looks = np.minimum(step[:, None] * np.arange(LOOKS), counts[:, None] - 1)
        recent = self.index.holders[starts[:, None] + looks] >= oldest[case][:, None]
        needed: NDArray[np.int64] = np.minimum(recent.sum(axis=1) * step, counts)
        return needed

    def _weights(
        self, windows: RaggedArray
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the unique known items of each case, latest click first: case, item, weight."""
        lengths = windows.lengths
        case = np.arange(len(windows)).repeat(lengths)
        back = windows.offsets[1:].repeat(lengths) - 1 - np.arange(len(case))
        span = int(back.max(initial=0)) + 1
        key = (case * self.index.items + windows.items) * span + back
        key = key[windows.items >= 0]
        key.sort()  # the latest click on an item first
        pair = key // span
        first = _first_of_runs(pair)
        back = key[first] - pair[first] * span
        case, item = np.divmod(pair[first], self.index.items)
        latest = (case * span + back).argsort()
        case, item, back = case[latest], item[latest], back[latest]
        decay = self.settings.click_decay
        weight = 1 - back / lengths[case] if decay is None else np.exp(-back / decay)
        return case, item, weight

    def _nearest(self, candidates: _Candidates) -> _Candidates:
        """Return the most similar candidates of each case, at most `settings.neighbours`.

        Of two equally similar candidates the newer one stays.
        """
        limit = self.settings.neighbours
        counts = np.bincount(candidates.case)
        longest = int(counts.max(initial=0))
        if longest <= limit:
            return candidates
        kept = _highest(candidates.case, candidates.similarity, offsets_of(counts), longest, limit)
        return candidates.only(kept)


def _shares(rows: ScoredRaggedArray, best: int) -> ScoredRaggedArray:
    """Return the shares of some rows, at most `CASES_AT_ONCE`; see `SessionNeighbours.shares`."""
    row, lengths = rows.row_of_entry, rows.lengths
    shares = rows.scores / np.bincount(row, rows.scores, minlength=len(rows))[row]
    longest = int(lengths.max(initial=0))
    if best == 0 or longest <= best:
        return ScoredRaggedArray(rows.offsets, rows.items, shares)
    kept = _highest(row, shares, rows.offsets, longest, best)
    counts = np.minimum(lengths, best)
    return ScoredRaggedArray(offsets_of(counts), rows.items[kept], shares[kept])


def _leading(group: NDArray[np.int64], limit: int) -> NDArray[np.bool_]:
    """Return whether each entry is among the first `limit` of its group; the groups rise."""
    return np.arange(len(group)) - offsets_of(np.bincount(group))[group] < limit


def _highest(
    group: NDArray[np.int64],
    values: NDArray[np.float64],
    offsets: NDArray[np.int64],
    longest: int,
    limit: int,
) -> NDArray[np.int64]:
    """Return the positions of the highest values of each group, `limit` at most, rising.

    Of equal values the first stay. Values are compared as float32, so that no rounding decides. The
    sort takes integers that hold group, value and position: it is several times as fast as a sort
    of indices by two keys.

    Args:
        group: (entries,) rising numbers, from 0.
        values: (entries,) not below 0.
        offsets: (groups + 1,) of the groups.
        longest: entries of the longest group.
        limit: entries of a group that stay.
    """
    bits = longest.bit_length()
    low = (1 << 31) - 1 - values.astype(np.float32).view(np.int32).astype(np.int64)
    place = np.arange(len(group)) - offsets[group]
    key = (((group << 31) | low) << bits) | place  # the bits of a float rise as its value does
    key.sort()
    key = key[place < limit]  # each group stands where it stood
    kept: NDArray[np.int64] = offsets[key >> (31 + bits)] + (key & ((1 << bits) - 1))
    kept.sort()
    return kept


def _summed(
    keys: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the unique keys, rising, and the sum of each key's values, added in their order."""
    if not len(keys):
        return keys, values
    order, key = _sorted(keys)
    first = _first_of_runs(key)
    return key[first], np.add.reduceat(values[order], first)


def _sorted(
    keys: NDArray[np.int64], kind: Literal["quicksort", "stable"] = "quicksort"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order of the keys, of equal ones the first position first, and the sorted keys.

    The sort takes integers that hold key and position: it is several times as fast as `argsort`.
    The stable kind is faster where the keys are long runs that rise.
    """
    bits = len(keys).bit_length()
    packed = (keys << bits) | np.arange(len(keys))
    packed.sort(kind=kind)
    return packed & ((1 << bits) - 1), packed >> bits


def _first_of_runs(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position at which each run of equal values begins."""
    first = np.empty(len(values), dtype=bool)
    first[:1] = True
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return first.nonzero()[0]
