"""A search space: which settings of a recipe are tried, within which bounds, and when.

A space is a TOML file with a table for each setting; its keys are the arguments of Optuna's
`suggest_int`, `suggest_float` and `suggest_categorical`.
"""

import dataclasses
import difflib
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import BaseTrial

from recsys.errors import BadRecipe, BadSpace
from training.recipe import SETTINGS, Recipe, checked_settings, read_toml

Value = bool | int | float | str
When = tuple[tuple[str, tuple[Value, ...]], ...]  # (setting, its values), all of which must hold


@dataclass(frozen=True, slots=True)
class WholeNumbers:
    """A setting of whole numbers: low, low + step, … high."""

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

    def suggest(self, trial: BaseTrial) -> Value:
        return trial.suggest_int(self.name, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True, slots=True)
class Numbers:
    """A setting of numbers from low to high, both included; in steps where `step` is given."""

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

    def suggest(self, trial: BaseTrial) -> Value:
        value = trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)
        return float(f"{value:.10g}")  # 0.15 and not 0.15000000000000002


@dataclass(frozen=True, slots=True)
class Choices:
    """A setting with a few values to choose from."""

    name: str
    choices: tuple[Value, ...]
    when: When = ()

    def contains(self, value: object) -> bool:
        return value in self.choices

    def suggest(self, trial: BaseTrial) -> Value:
        value = trial.suggest_categorical(self.name, self.choices)
        assert value is not None, "no setting has None as a choice"
        return value


Dimension = WholeNumbers | Numbers | Choices


@dataclass(frozen=True, slots=True)
class Space:
    """Dimensions in the order in which they are suggested; conditions look upwards only."""

    dimensions: tuple[Dimension, ...]

    def suggest(
        self, trial: BaseTrial, base: Recipe, only: Collection[str] | None = None
    ) -> dict[str, Value]:
        """Suggest the settings that replace those of `base`.

        Args:
            trial: An Optuna trial.
            base: The recipe; conditions on settings that are not tried look at it.
            only: Suggest no other settings than these.

        Returns:
            Setting → value, without those whose condition does not hold.
        """
        values = dataclasses.asdict(base)
        suggested = {}
        for dimension in self.dimensions:
            if _holds(dimension.when, values) and (only is None or dimension.name in only):
                suggested[dimension.name] = dimension.suggest(trial)
                values[dimension.name] = suggested[dimension.name]
        return suggested

    def values_of(self, base: Recipe) -> dict[str, Value]:
        """Return the recipe's own value of every dimension whose condition it meets."""
        values = dataclasses.asdict(base)
        return {d.name: values[d.name] for d in self.dimensions if _holds(d.when, values)}

    def holds(self, base: Recipe) -> dict[str, Value]:
        """Return those of `values_of` that lie within the bounds."""
        values = self.values_of(base)
        return {d.name: values[d.name] for d in self.dimensions if d.contains(values.get(d.name))}


def is_whole(ratio: float) -> bool:
    """Return whether a number is whole, up to rounding of floats: 0.24 / 0.005 is 48."""
    return math.isclose(ratio, round(ratio), rel_tol=1e-9, abs_tol=1e-9)


def _holds(when: When, values: Mapping[str, object]) -> bool:
    return all(values[name] in wanted for name, wanted in when)


KEYS = ("low", "high", "step", "log", "choices", "when")
FIXED = {  # setting that a search cannot try → the reason
    "validation": "it decides on which sessions trials are compared",
    "select_by": "it decides by which metric trials are compared",
    "refit": "a search never refits",
    "seed": "a lucky seed is not a better recipe",
}


def load_space(name_or_path: str, base: Recipe) -> Space:
    """Load a built-in space by name, or a TOML file by path, to be tried on top of `base`.

    Raises:
        BadSpace: The file cannot be used; with every problem of it.
    """
    tables = read_toml(name_or_path, "space", BadSpace)
    problems = [] if tables else ["it names no setting. Give a table for each setting to try."]
    dimensions: list[Dimension] = []
    for at, (name, table) in enumerate(tables.items()):
        above = list(tables)[:at]
        wrong = [*_wrong_name(name, table), *_wrong_when(name, table, above, list(tables))]
        if name in SETTINGS and isinstance(table, dict):
            wrong += _wrong_bounds(name, table)
        if not wrong:
            dimension = _dimension(name, table)
            wrong = _wrong_values(dimension, base)
            dimensions.append(dimension)
        problems += wrong
    if problems:
        raise BadSpace(f"The space {name_or_path} cannot be used", problems)
    return Space(tuple(dimensions))


def _wrong_name(name: str, table: object) -> Iterator[str]:
    if name not in SETTINGS:
        yield f"{name} is not a setting.{_hint(name, SETTINGS)}"
    elif name in FIXED:
        yield f"{name} cannot be tried: {FIXED[name]}. Give it with --set."
    if not isinstance(table, dict):
        yield f"{name} must be a table, got {table!r}. Write [{name}], then low and high."
        return
    for key in table.keys() - set(KEYS):
        yield f"{name}.{key} is not known.{_hint(key, dict.fromkeys(KEYS))}"


def _wrong_when(name: str, table: Any, above: list[str], tables: list[str]) -> Iterator[str]:
    """Check a condition: it names settings of the base or of tables above, and their values."""
    when = table.get("when", {}) if isinstance(table, dict) else {}
    if not isinstance(when, dict):
        yield f'{name}.when must be a table, got {when!r}. Write when = {{ loss = "bpr-max" }}.'
        return
    for setting, value in when.items():
        if setting in tables and setting not in above:
            yield f"{name}.when looks at {setting}, which stands below. Move [{setting}] above."
        alternatives = value if isinstance(value, list) else [value]
        if not alternatives:
            yield f"{name}.when: {setting} has no values. Give at least one."
        for alternative in alternatives:
            _, wrong = checked_settings({setting: alternative})
            yield from (f"{name}.when: {problem}" for problem in wrong)


def _wrong_bounds(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Check that the bounds are complete, of the right type, and do not contradict each other."""
    kind = SETTINGS[name].type
    if "choices" in table:
        yield from _wrong_choices(name, table)
        return
    if kind not in (int, float):
        yield f"{name} needs choices, a list of its values."
        return
    typed = (int,) if kind is int else (int, float)
    numbers = {key: table[key] for key in ("low", "high", "step") if key in table}
    wrong = [f"{name} has no {key}." for key in ("low", "high") if key not in table]
    for key, value in numbers.items():
        if type(value) not in typed or not math.isfinite(value):
            word = "a whole number" if kind is int else "a finite number"
            wrong.append(f"{name}.{key} must be {word}, got {value!r}.")
    log = table.get("log", False)
    if type(log) is not bool:
        wrong.append(f"{name}.log must be true or false, got {log!r}.")
    yield from wrong
    if wrong:
        return
    low, high, step = numbers["low"], numbers["high"], numbers.get("step")
    if low >= high:
        yield f"{name}.low must be below high, got {low} and {high}."
    if log and low <= 0:
        yield f"{name}.low must be above 0 where log is true, got {low}."
    if log and step is not None:
        yield f"{name} has both step and log. Leave one out."
    if step is not None and (step <= 0 or not is_whole((high - low) / step)):
        yield f"{name}.step must lead from {low} to {high} in whole steps, got {step}."


def _wrong_choices(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    others = [key for key in KEYS if key in table and key not in ("choices", "when")]
    if others:
        yield f"{name} has choices and {', '.join(others)}. Leave one or the other out."
    choices = table["choices"]
    if not isinstance(choices, list) or not choices:
        yield f"{name}.choices must be a list of at least one value, got {choices!r}."
        return
    values: list[object] = []
    for value in choices:
        settings, wrong = checked_settings({name: value})
        yield from (f"{name}.choices: {problem}" for problem in wrong)
        values += settings.values()
    if len(set(values)) < len(values):
        yield f"{name}.choices names a value twice, got {choices!r}."


def _dimension(name: str, table: Mapping[str, Any]) -> Dimension:
    when: When = tuple(
        (setting, tuple(value) if isinstance(value, list) else (value,))
        for setting, value in table.get("when", {}).items()
    )
    if "choices" in table:
        kind = float if SETTINGS[name].type is float else lambda value: value
        return Choices(name, tuple(kind(value) for value in table["choices"]), when)
    log = table.get("log", False)
    if SETTINGS[name].type is int:
        return WholeNumbers(name, table["low"], table["high"], table.get("step", 1), log, when)
    step = table.get("step")
    low, high = float(table["low"]), float(table["high"])
    return Numbers(name, low, high, None if step is None else float(step), log, when)


def _wrong_values(dimension: Dimension, base: Recipe) -> list[str]:
    """Return the errors of recipes at the bounds, where the condition holds."""
    ends: tuple[Value, ...]
    ends = dimension.choices if isinstance(dimension, Choices) else (dimension.low, dimension.high)
    met: dict[str, Any] = {setting: values[0] for setting, values in dimension.when}
    wrong = []
    for value in ends:
        try:
            dataclasses.replace(base, **{**met, dimension.name: value})
        except BadRecipe as refused:
            wrong += [p for p in refused.problems if p.startswith(f"{dimension.name} ")]
    return wrong


def _hint(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]}?" if near else f" Known: {', '.join(known)}."
