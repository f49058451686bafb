"""Repeat term: a bonus for the items that a session has clicked already, and a temperature.

Visitors return to what they opened before. The hidden state can hardly hold which of N items a
session has seen, so each item of the window gets a bonus on top of the model's score. The training
fits it on validation sessions (`training/additions/repeats.py`); evaluation and service add it.

With, for an item of the window,
    r  the number of other items clicked since the item, 0 for the item clicked last
    c  the clicks on the item
    n  the clicks of the window
    q  n / its distinct items, 1 where no item was clicked twice
the bonus is clicks · log c, and
    last + last_length · log n + last_repetition · log q                              where r = 0
    earlier + recency · log r + earlier_length · log n + earlier_repetition · log q   elsewhere

The bonus is on the scale of the scores that it is added to: those of the model, or of a blend with
session neighbours. The model's scores divided by the temperature give probabilities by a softmax;
a blend needs them.
Sources: Ren et al., AAAI 2019, arXiv:1812.02646 (RepeatNet: a repeat mode beside the model); Guo et
al., ICML 2017, arXiv:1706.04599 (temperature scaling).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

LARGEST_BONUS = 1e4  # of a manifest; scores are far smaller


@dataclass(frozen=True, slots=True)
class RepeatTerm:
    """Numbers of the formula, as the manifest stores them.

    Raises:
        ValueError: a number is outside its range.
    """

    temperature: float = 1.0
    last: float = 0.0
    earlier: float = 0.0
    recency: float = 0.0
    clicks: float = 0.0
    last_length: float = 0.0
    earlier_length: float = 0.0
    last_repetition: float = 0.0
    earlier_repetition: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is not float or not abs(value) <= LARGEST_BONUS:
                raise ValueError(
                    f"repeats.{name} must be a decimal number from -{LARGEST_BONUS:g} to "
                    f"{LARGEST_BONUS:g}, got {value!r}."
                )
        if not self.temperature > 0:
            raise ValueError(f"repeats.temperature must be above 0, got {self.temperature!r}.")

    @property
    def has_bonus(self) -> bool:
        """Return whether any number but the temperature counts."""
        return self != RepeatTerm(temperature=self.temperature)

    def calibrated(self) -> "RepeatTerm":
        """Return the term whose bonuses are for scores divided by the temperature."""
        numbers = {name: value / self.temperature for name, value in asdict(self).items()}
        return RepeatTerm(**{**numbers, "temperature": self.temperature})

    def bonuses(self, window: Sequence[int]) -> dict[int, float]:
        """Return item index → bonus for the distinct items of a window, the last one first.

        Args:
            window: known item indices, oldest first.
        """
        if not window:
            return {}
        counts: dict[int, int] = {}
        for item in reversed(window):
            counts[item] = counts.get(item, 0) + 1
        length = math.log(len(window))
        repetition = length - math.log(len(counts))
        last = self.last + self.last_length * length + self.last_repetition * repetition
        earlier = self.earlier + self.earlier_length * length + self.earlier_repetition * repetition
        log, recency, clicks = math.log, self.recency, self.clicks
        bonuses = {item: earlier + recency * log(since or 1) for since, item in enumerate(counts)}
        bonuses[window[-1]] = last
        if repetition > 0:
            for item, count in counts.items():
                bonuses[item] += clicks * log(count)
        return bonuses

    def add_to(self, scores: Tensor, windows: Sequence[Sequence[int]]) -> None:
        """Add the bonuses to the scores of all items, in place.

        Args:
            scores: (B, N) float32.
            windows: B windows of known item indices, oldest first.
        """
        rows: list[int] = []
        items: list[int] = []
        values: list[float] = []
        for row, window in enumerate(windows):
            bonuses = self.bonuses(window)
            rows += [row] * len(bonuses)
            items += bonuses.keys()
            values += bonuses.values()
        at = torch.tensor(rows, dtype=torch.int64), torch.tensor(items, dtype=torch.int64)
        scores[at] += torch.tensor(values, dtype=scores.dtype)


def temperature_of(repeats: RepeatTerm | None) -> float:
    """Return the temperature of the model's scores: divided by it, they are calibrated."""
    return 1.0 if repeats is None else repeats.temperature
