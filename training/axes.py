"""From values to places on a drawing: linear and logarithmic scales, and where ticks stand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

STEPS = (1, 2, 5, 10)  # what a tick may count by, times a power of ten


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` stand from `start` to `end`, which may run backwards."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log10(v) if self.log else v for v in (self.low, self.high))
        share = ((math.log10(value) if self.log else value) - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, about: int = 5, *, whole: bool = False) -> list[float]:
        """Round values within the scale; whole: no fractions. Powers of ten on a log scale."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * s for s in STEPS if power * s >= rough * 0.999)
        if whole:
            step = max(round(step), 1)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(n * step, 12) for n in range(first, last + 1)]


def spanning(
    values: Sequence[float], start: float, end: float, *, from_zero: bool = False, log: bool = False
) -> Scale:
    """A scale that holds all values with a little room; one value alone stands in the middle."""
    low, high = min(values), max(values)
    if log:
        return Scale(low, max(high, low * 10), start, end, log=True)
    if from_zero:
        low = 0.0
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Scale(low if from_zero else low - room, high + room, start, end)


def written(value: float) -> str:
    """A tick's text: 0.05, 3, 20k, 1M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:.6g}".replace("-", "−")
