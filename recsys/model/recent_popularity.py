"""Recent popularity: the newest clicks of each item, beside the model's scores.

Where items come and go, as news do, the model's bias of an item speaks of the whole training part.
So every item has

    strength · log(its newest clicks + 1/2)

on the scale of the model's scores; it stands beside the bias, and a request costs nothing more. A
session without a known click gets the items with the most of these clicks, not those with the most
in all of training. The training chooses the numbers on validation sessions
(`training/additions/recent_popularity.py`). There are two ways to count the newest clicks:

    fixed     those of the newest sessions of training, which have `clicks` clicks at most
    trending  a click counts 2^(-age / half-life). The clicks before the end of training are in the
              bundle; the service counts on (`service/trending/`). Repeated clicks of a session on
              an item count once. The `MOST_COUNTED` items with the most clicks have a count, the
              other items and those with less than `LEAST_COUNT` have none.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SMOOTHING = 0.5  # clicks that every item has beside its own
LARGEST_STRENGTH = 1e3  # of a manifest
MOST_COUNTED = 1000  # items with a count, where clicks decay
LEAST_COUNT = 1 / 64  # one click after six half-lives
MAX_HALF_LIFE_SECONDS = 10 * 365 * 86_400

Counts = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RecentPopularitySettings:
    """Numbers of the formula, as the manifest stores them: `clicks` or a half-life.

    Raises:
        ValueError: a number is outside its range.
    """

    strength: float  # 0: for sessions without a known click only
    clicks: int | None = None  # fixed: of the newest sessions of training, together, at most
    half_life_seconds: int | None = None  # trending

    def __post_init__(self) -> None:
        if type(self.strength) is not float or not 0 <= self.strength <= LARGEST_STRENGTH:
            raise ValueError(
                "recent_popularity.strength must be a decimal number from 0 to "
                f"{LARGEST_STRENGTH:g}, got {self.strength!r}."
            )
        if self.half_life_seconds is None and (type(self.clicks) is not int or self.clicks < 1):
            raise ValueError(
                f"recent_popularity.clicks must be a whole number above 0, got {self.clicks!r}."
            )
        if self.half_life_seconds is not None and (
            self.clicks is not None
            or type(self.half_life_seconds) is not int
            or not 1 <= self.half_life_seconds <= MAX_HALF_LIFE_SECONDS
        ):
            raise ValueError(
                "recent_popularity.half_life_seconds must be a whole number from 1 to "
                f"{MAX_HALF_LIFE_SECONDS:,}, without clicks, got {self.half_life_seconds!r} and "
                f"{self.clicks!r}."
            )


@dataclass(frozen=True)
class RecentPopularity:
    """The newest clicks of each item, and how they count."""

    newest: Counts  # (N,) clicks of each item; where they decay, float64
    settings: RecentPopularitySettings
    at_ms: int = 0  # time at which a click counts 1, where clicks decay

    @property
    def is_trending(self) -> bool:
        """Return whether clicks decay, so that a service counts on."""
        return self.settings.half_life_seconds is not None

    @cached_property
    def term(self) -> Tensor:
        """Return what is added to the score of each item, (N,) float32."""
        counted = np.flatnonzero(self.newest)  # a logarithm takes time, and most have no clicks
        term = np.full(len(self.newest), self.term_of(np.zeros(1)))
        term[counted] = self.term_of(self.newest[counted])
        return torch.from_numpy(term)

    def term_of(self, counts: Counts) -> NDArray[np.float32]:
        """Return what is added to the score of items with these counts, float32."""
        logs = np.log(counts + SMOOTHING)
        return (self.settings.strength * logs).astype(np.float32)

    def raised_among(self, first: int) -> NDArray[np.int64]:
        """Return those of the first items with a higher term than one without clicks, rising."""
        counted = np.flatnonzero(self.newest[:first])
        return counted if self.settings.strength > 0 else counted[:0]

    def order(self, by_popularity: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the items in falling number of their newest clicks, (N,) int32.

        Args:
            by_popularity: (N,) int32, all items; items with equal numbers keep this order.
        """
        is_counted = (self.newest != 0)[by_popularity]
        counted = by_popularity[is_counted]  # few of many: the others need no sorting
        first = counted[np.argsort(-self.newest[counted], kind="stable")]
        return np.concatenate([first, by_popularity[~is_counted]])

    def recounted(self, newest: NDArray[np.float64], at_ms: int) -> "RecentPopularity":
        """Return the same settings with other counts; see `largest_counts`."""
        return RecentPopularity(newest, self.settings, at_ms)

    def followed_by(self, new: int) -> "RecentPopularity":
        """Return the same counts with those of as many new items, which have no clicks yet."""
        newest = np.append(self.newest.astype(np.float64), np.zeros(new))
        return self.recounted(newest, self.at_ms)

    def without_counts(self) -> "RecentPopularity":
        """Return the same settings without any click."""
        return self.recounted(np.zeros(len(self.newest)), self.at_ms)


def largest_counts(counts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the places of the counts that count, rising: at most `MOST_COUNTED` of them."""
    places = np.flatnonzero(counts >= LEAST_COUNT)
    if len(places) <= MOST_COUNTED:
        return places
    largest = np.argpartition(counts[places], -MOST_COUNTED)[-MOST_COUNTED:]
    return np.sort(places[largest])
