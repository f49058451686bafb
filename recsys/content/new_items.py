"""Term of new items: what is added to biases so that items without a click find their place.

    shift                                  of an item without a click in training
    rate · max(days, −`OLDEST_DAYS`)       of every item, days from `reference_ms` to its appearance

The second part stands only where the content names a time. A term that falls linearly with age
makes the odds of an item fall exponentially. The moment of a request shifts the terms of all items
alike, so that it changes no list and is not needed; an item that appears after training goes on
along the same line. An item without a time is as old as the oldest.

The training chooses the numbers on validation sessions (`training/additions/new_items.py`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
OLDEST_DAYS = 7.0
LARGEST = 1e3  # of a bundle's numbers


@dataclass(frozen=True, slots=True)
class NewItemTerm:
    """Numbers of the formula.

    Raises:
        ValueError: a number is outside its range.
    """

    shift: float = 0.0
    rate: float = 0.0  # a day
    reference_ms: int = 0  # the last click of training

    def __post_init__(self) -> None:
        if not abs(self.shift) <= LARGEST or not 0 <= self.rate <= LARGEST:
            raise ValueError(
                f"shift must be from -{LARGEST:g} to {LARGEST:g}, and rate from 0, got {self}."
            )

    def of_items(
        self, is_new: NDArray[np.bool_], times_ms: NDArray[np.float64] | None
    ) -> NDArray[np.float32]:
        """Return what is added to the biases, (items,) float32.

        Args:
            is_new: (items,) bool, true for an item without a click in training.
            times_ms: (items,) as for `of_ages`; None where the content names no time.
        """
        term = np.where(is_new, np.float32(self.shift), np.float32(0.0))
        return term if times_ms is None else term + self.of_ages(times_ms)

    def of_ages(self, times_ms: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the part that depends on the time, (items,) float32.

        Args:
            times_ms: (items,) float64 times of appearance, NaN where an item has none.
        """
        days = np.nan_to_num((times_ms - self.reference_ms) / DAY_MS, nan=-OLDEST_DAYS)
        return (self.rate * np.maximum(days, -OLDEST_DAYS)).astype(np.float32)
