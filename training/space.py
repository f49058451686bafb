"""A search space: which settings of a recipe are tried, between which bounds, and when.

`training.space_file` reads one from TOML. It knows nothing of how values are chosen: whoever
suggests them is asked through `Suggester`.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from training.recipe import Recipe

Value = bool | int | float | str
When = tuple[tuple[str, tuple[Value, ...]], ...]  # (setting, its values), all of which must hold


class Suggester(Protocol):
    """Whoever picks the next values; an Optuna trial is one."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int: ...
    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...
    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> object: ...


@dataclass(frozen=True, slots=True)
class WholeNumbers:
    """low, low + step, … high."""

    name: str
    low: int
    high: int
    step: int = 1
    log: bool = False
    when: When = ()

    def contains(self, value: object) -> bool:
        if not isinstance(value, int) or not self.low <= value <= self.high:
            return False
        return (value - self.low) % self.step == 0

    def suggest(self, trial: Suggester) -> Value:
        return trial.suggest_int(self.name, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True, slots=True)
class Numbers:
    """From low to high, both included; in steps where `step` is given."""

    name: str
    low: float
    high: float
    step: float | None = None
    log: bool = False
    when: When = ()

    def contains(self, value: object) -> bool:
        if not isinstance(value, float) or not self.low <= value <= self.high:
            return False
        return self.step is None or is_whole((value - self.low) / self.step)

    def suggest(self, trial: Suggester) -> Value:
        value = trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)
        return float(f"{value:.10g}")  # 0.15 and not 0.15000000000000002


@dataclass(frozen=True, slots=True)
class Choices:
    """One of a few values."""

    name: str
    choices: tuple[Value, ...]
    when: When = ()

    def contains(self, value: object) -> bool:
        return value in self.choices

    def suggest(self, trial: Suggester) -> Value:
        chosen = trial.suggest_categorical(self.name, self.choices)
        assert isinstance(chosen, Value), "it was one of ours"
        return chosen


Dimension = WholeNumbers | Numbers | Choices


@dataclass(frozen=True, slots=True)
class Space:
    """Dimensions in the order in which they are suggested; conditions look upwards only."""

    dimensions: tuple[Dimension, ...]

    def suggest(
        self, trial: Suggester, base: Recipe, only: Collection[str] | None = None
    ) -> dict[str, Value]:
        """Setting → value, to be put on top of `base`; `only`: suggest no others."""
        values = dataclasses.asdict(base)
        chosen = {}
        for dimension in self.dimensions:
            if _holds(dimension.when, values) and (only is None or dimension.name in only):
                chosen[dimension.name] = dimension.suggest(trial)
                values[dimension.name] = chosen[dimension.name]
        return chosen

    def values_of(self, base: Recipe) -> dict[str, Value]:
        """The recipe's own value of every dimension whose condition it meets."""
        values = dataclasses.asdict(base)
        return {d.name: values[d.name] for d in self.dimensions if _holds(d.when, values)}

    def holds(self, base: Recipe) -> dict[str, Value]:
        """Those of `values_of` that lie within the bounds."""
        values = self.values_of(base)
        return {d.name: values[d.name] for d in self.dimensions if d.contains(values.get(d.name))}


def is_whole(ratio: float) -> bool:
    """Whether a number of steps is whole, up to what floats lose: 0.24 / 0.005 is 48."""
    return math.isclose(ratio, round(ratio), rel_tol=1e-9, abs_tol=1e-9)


def _holds(when: When, values: Mapping[str, object]) -> bool:
    return all(values[name] in wanted for name, wanted in when)
