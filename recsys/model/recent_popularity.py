"""Recent popularity: the clicks of each item at the end of training, beside the model's scores.

Where items come and go, as news do, the model's bias of an item speaks of the whole training part.
Its end is nearest to the requests. So every item has

    strength · log(its clicks in the newest sessions, of `clicks` clicks at most, + 1/2)

on the scale of the model's scores; it stands beside the bias, and a request costs nothing more. A
session without a known click gets the items with the most of these clicks, not those with the most
in all of training. The training chooses both numbers on validation sessions
(`training/additions/recent_popularity.py`).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SMOOTHING = 0.5  # clicks that every item has beside its own
LARGEST_STRENGTH = 1e3  # of a manifest


@dataclass(frozen=True, slots=True)
class RecentPopularitySettings:
    """Numbers of the formula, as the manifest stores them.

    Raises:
        ValueError: a number is outside its range.
    """

    strength: float  # 0: for sessions without a known click only
    clicks: int  # of the newest sessions of training, together, at most

    def __post_init__(self) -> None:
        if type(self.strength) is not float or not 0 <= self.strength <= LARGEST_STRENGTH:
            raise ValueError(
                "recent_popularity.strength must be a decimal number from 0 to "
                f"{LARGEST_STRENGTH:g}, got {self.strength!r}."
            )
        if type(self.clicks) is not int or self.clicks < 1:
            raise ValueError(
                f"recent_popularity.clicks must be a whole number above 0, got {self.clicks!r}."
            )


@dataclass(frozen=True)
class RecentPopularity:
    """The newest clicks of each item, and how they count."""

    newest: NDArray[np.int64]  # (N,) clicks of each item among the newest
    settings: RecentPopularitySettings

    @cached_property
    def term(self) -> Tensor:
        """Return what is added to the score of each item, (N,) float32."""
        logs = np.log(self.newest + SMOOTHING)
        return torch.from_numpy((self.settings.strength * logs).astype(np.float32))

    def order(self, by_popularity: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the items in falling number of their newest clicks, (N,) int32.

        Args:
            by_popularity: (N,) int32, all items; items with equal numbers keep this order.
        """
        return by_popularity[np.argsort(-self.newest[by_popularity], kind="stable")]
