"""An experiment: variants of the served model, the share of users of each, and who gets which.

A user has one of 10,000 places, by a keyed hash of the user id and the id of the experiment: places
in two experiments are independent of each other. A variant has ranges of places, and all others are
those of the main version. A share that grows takes places of the main version, and one that shrinks
gives its last ones back, so only users who must move do.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

from recsys.errors import BadInput

PLACES = 10_000
PLACES_OF_PERCENT = 100
MAX_VARIANTS = 10  # each is a model in the memory of every process
ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
RANGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,2})?)-([0-9]{1,3}(?:\.[0-9]{1,2})?)")

PlaceRange = tuple[int, int]  # the first place, and the one after the last


@dataclass(frozen=True, slots=True)
class Experiment:
    """Variants beside the main version.

    Args:
        id: Part of every hash, so another id mixes all users anew.
        ranges: Name of a bundle → its places.

    Raises:
        ValueError: if there is no variant, or ranges are empty, overlap or leave 0 to 10,000.
    """

    id: str
    ranges: Mapping[str, Sequence[PlaceRange]]

    def __post_init__(self) -> None:
        taken = sorted(pair for pairs in self.ranges.values() for pair in pairs)
        ends = [0, *(end for _, end in taken)]
        if not ID.fullmatch(self.id):
            raise ValueError(f"{self.id!r} is not the id of an experiment")
        if not 0 < len(self.ranges) <= MAX_VARIANTS or not all(self.ranges.values()):
            raise ValueError(f"an experiment has 1 to {MAX_VARIANTS} variants, each with a share")
        if any(begin < end for (begin, _), end in zip(taken, ends, strict=False)):
            raise ValueError("the ranges of users overlap")
        if ends[-1] > PLACES or any(begin >= end for begin, end in taken):
            raise ValueError("a range of users is empty or beyond 100 %")

    @property
    def shares(self) -> dict[str, float]:
        """Return variant → its share of the users in percent, without the main version."""
        return {name: _size(ranges) / PLACES_OF_PERCENT for name, ranges in self.ranges.items()}

    def variant_of(self, user_id: str, secret: bytes) -> str | None:
        """Return the variant of a user; None is the main version.

        secret: key of the hash, the same in all processes.
        """
        hashed = blake2b(f"{self.id} {user_id}".encode(), key=secret[:64], digest_size=8)
        place = int.from_bytes(hashed.digest(), "big") * PLACES >> 64
        for name, ranges in self.ranges.items():
            for begin, end in ranges:
                if begin <= place < end:
                    return name
        return None

    def with_shares(self, shares: Mapping[str, float]) -> "Experiment":
        """Return the same experiment with other shares, in percent; it moves few users."""
        sizes = {name: round(share * PLACES_OF_PERCENT) for name, share in shares.items()}
        kept = {name: _first(self.ranges.get(name, ()), size) for name, size in sizes.items()}
        # places that had no variant come first: who left one does not join another unless needed
        free = _complement([pair for ranges in self.ranges.values() for pair in ranges])
        free += _complement([*free, *(pair for ranges in kept.values() for pair in ranges)])
        for name, size in sizes.items():
            grown = _first(free, size - _size(kept[name]))
            free = _without_first(free, _size(grown))
            kept[name] = _merged([*kept[name], *grown])
        return Experiment(self.id, kept)

    def lines(self) -> list[str]:
        """Return the lines of the file `current` after that of the main version."""
        ranges = {
            name: ",".join(f"{_percent(begin)}-{_percent(end)}" for begin, end in pairs)
            for name, pairs in self.ranges.items()
        }
        return [f"experiment {self.id}", *(f"{name} {text}" for name, text in ranges.items())]

    @classmethod
    def of_lines(cls, lines: Sequence[str]) -> "Experiment":
        """Read these lines; raise `ValueError` where they are no experiment."""
        word, _, experiment_id = lines[0].partition(" ")
        if word != "experiment":
            raise ValueError(f"{lines[0]!r} does not begin with experiment")
        ranges: dict[str, list[PlaceRange]] = {}
        for line in lines[1:]:
            name, _, text = line.partition(" ")
            matches = [RANGE.fullmatch(part) for part in text.split(",")]
            if name in ranges or None in matches:
                raise ValueError(f"{line!r} is not a variant and its ranges of users in percent")
            ranges[name] = [
                (_place(match[1]), _place(match[2])) for match in matches if match is not None
            ]
        return cls(experiment_id, ranges)


def new_experiment(shares: Mapping[str, float], now: datetime) -> Experiment:
    """Return an experiment with an id of its own; shares in percent, as `read_shares` returns."""
    experiment_id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    ranges, begin = {}, 0
    for name, share in shares.items():
        end = begin + round(share * PLACES_OF_PERCENT)
        ranges[name], begin = [(begin, end)], end
    return Experiment(experiment_id, ranges)


def read_shares(splits: Sequence[str], main: str) -> dict[str, float]:
    """Return variant → share in percent, of texts such as `new=10`.

    Raises:
        BadInput: with all that is wrong with them.
    """
    problems: list[str] = []
    shares: dict[str, float] = {}
    for split in splits:
        name, _, text = split.rpartition("=")
        try:
            share = float(text)
        except ValueError:
            share = 0.0
        places = share * PLACES_OF_PERCENT
        if not name or not 1 <= places <= PLACES or abs(places - round(places)) > 1e-6:
            problems.append(
                f"--split {split}: give NAME=SHARE, the name of a bundle and its share of the "
                "users in percent, more than 0, at most 100, with at most two decimals."
            )
        elif name == main:
            problems.append(f"--split {split}: {name} is the main version, which gets the rest.")
        elif name in shares:
            problems.append(f"--split {split}: {name} has a share already.")
        else:
            shares[name] = share
    total = sum(shares.values())
    if total > 100 + 1e-6:
        problems.append(f"the shares add up to {total:g} %. Give 100 % at most.")
    if len(shares) > MAX_VARIANTS:
        problems.append(f"there are {len(shares)} variants. Give {MAX_VARIANTS} at most.")
    if problems:
        raise BadInput("The users cannot be split", problems)
    return shares


def _size(ranges: Sequence[PlaceRange]) -> int:
    return sum(end - begin for begin, end in ranges)


def _first(ranges: Sequence[PlaceRange], size: int) -> list[PlaceRange]:
    """Return the first `size` places of ranges, or fewer where they have fewer."""
    taken: list[PlaceRange] = []
    for begin, end in ranges:
        if size > 0:
            taken.append((begin, min(end, begin + size)))
            size -= end - begin
    return taken


def _without_first(ranges: Sequence[PlaceRange], size: int) -> list[PlaceRange]:
    left: list[PlaceRange] = []
    for begin, end in ranges:
        cut = min(size, end - begin)
        size -= cut
        if begin + cut < end:
            left.append((begin + cut, end))
    return left


def _complement(ranges: Sequence[PlaceRange]) -> list[PlaceRange]:
    """Return the places that no range has, rising."""
    free, begin = [], 0
    for first, end in [*sorted(ranges), (PLACES, PLACES)]:
        if begin < first:
            free.append((begin, first))
        begin = end
    return free


def _merged(ranges: Sequence[PlaceRange]) -> list[PlaceRange]:
    """Join a range that begins where the one before it ends; the order stays."""
    merged: list[PlaceRange] = []
    for begin, end in ranges:
        if merged and merged[-1][1] == begin:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((begin, end))
    return merged


def _percent(place: int) -> str:
    return f"{place / PLACES_OF_PERCENT:g}"


def _place(percent: str) -> int:
    return round(float(percent) * PLACES_OF_PERCENT)
