"""Event types of clicks: view, cart, purchase. How a click becomes the number that a model reads.

A model with types reads a click as one integer, its code:

    code = item index · count + number of the type

The types that the model knows have the numbers from 1, and 0 stands for all others; `count` is how
many numbers there are. A model without types has a count of 1, so that codes are item indices. The
index -1 of an unknown item gives a code below 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MAX_TYPES = 32
MAX_NAME_LENGTH = 64  # characters, as in the HTTP API


@dataclass(frozen=True)
class EventTypes:
    """Types that a model knows, as the manifest stores them.

    Raises:
        ValueError: a field is not what a training writes.
    """

    names: Sequence[str] = ()  # of the numbers 1, 2, …
    default: str = ""  # type of a click that names none
    exclude_after: Sequence[str] = ()  # an item with such a click is in no list of the session

    def __post_init__(self) -> None:
        for name, value in (("names", self.names), ("exclude_after", self.exclude_after)):
            if not isinstance(value, tuple) or not all(isinstance(one, str) for one in value):
                raise ValueError(f"event_types.{name} must be texts, got {value!r}.")
        if len(self.names) > MAX_TYPES or len(set(self.names)) < len(self.names):
            raise ValueError(
                f"event_types.names must be at most {MAX_TYPES} different texts, got {self.names}."
            )
        unknown = {*self.exclude_after, *([self.default] if self.names else [])} - {*self.names}
        if unknown:
            raise ValueError(f"event_types names {sorted(map(str, unknown))}, not in its names.")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the types that `dataclasses.asdict` turned into these values."""
        texts = {name: tuple(values[name]) for name in ("names", "exclude_after")}
        return cls(**{**values, **texts})

    @property
    def count(self) -> int:
        """Return how many numbers of types there are, that of unknown types included."""
        return len(self.names) + 1

    @property
    def default_first(self) -> list[str]:
        """Return the names, the default before the others."""
        return sorted(self.names, key=lambda name: (name != self.default, name))

    @cached_property
    def numbers(self) -> Mapping[str | None, int]:
        """Return text → number of the type; None is a click without a text."""
        numbers: dict[str | None, int] = {name: at for at, name in enumerate(self.names, start=1)}
        return {None: numbers.get(self.default, 0), **numbers}

    def unknown(self, texts: Iterable[str | None]) -> list[str]:
        """Return the texts that the model does not know, each once; none for one without types."""
        if not self.names:
            return []
        return list(dict.fromkeys(t for t in texts if t is not None and t not in self.numbers))

    def items(self, codes: Sequence[int]) -> Sequence[int]:
        """Return the item index of each code."""
        return codes if self.count == 1 else [code // self.count for code in codes]

    def excluded(self, codes: Sequence[int]) -> list[int]:
        """Return the items that a window of these clicks excludes from its list."""
        if not self.exclude_after:
            return []
        after = {self.numbers[name] for name in self.exclude_after}
        return [code // self.count for code in codes if code % self.count in after]

    def excludes(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each click excludes its item, (clicks,) bool; codes: (clicks,) int64."""
        after = [self.numbers[name] for name in self.exclude_after]
        excluded: NDArray[np.bool_] = np.isin(codes % self.count, after)
        return excluded


NO_EVENT_TYPES = EventTypes()
