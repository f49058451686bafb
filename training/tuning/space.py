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
from training.recipe import (
    SETTINGS,
    Recipe,
    checked_settings,
    current_names,
    read_toml,
    warn_of_old_names,
)

Value = bool | int | float | str
When = tuple[tuple[str, tuple[Value, ...]], ...]  # (setting, its values), all of which must hold


@dataclass(frozen=True, slots=True)
class Dimension:
    """A setting to try: one of `choices`, or a number from `low` to `high`, both included."""

    name: str
    low: int | float = 0
    high: int | float = 0
    step: int | float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    when: When = ()

    def contains(self, value: Value) -> bool:
        """Return whether the setting can have a value."""
        if self.choices:
            return value in self.choices
        assert not isinstance(value, str), "a range is of numbers"
        on_step = self.step is None or is_whole((value - self.low) / self.step)
        return self.low <= value <= self.high and on_step

    def suggest(self, trial: BaseTrial) -> Value:
        """Let a trial choose a value."""
        if self.choices:
            value = trial.suggest_categorical(self.name, self.choices)
            assert value is not None, "no setting has None as a choice"
            return value
        if isinstance(self.low, int) and isinstance(self.high, int):
            step = int(self.step or 1)
            return trial.suggest_int(self.name, self.low, self.high, step=step, log=self.log)
        number = trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)
        return float(f"{number:.10g}")  # 0.15 and not 0.15000000000000002


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
        return {
            d.name: values[d.name]
            for d in self.dimensions
            if d.name in values and d.contains(values[d.name])
        }


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
    tables = _with_current_names(read_toml(name_or_path, "space", BadSpace))
    problems = [] if tables else ["it names no setting. Give a table for each setting to try."]
    dimensions: list[Dimension] = []
    for at, (name, table) in enumerate(tables.items()):
        wrong = [*_wrong_name(name, table), *_wrong_when(name, table, list(tables)[at:])]
        if name in SETTINGS and isinstance(table, dict):
            check = _wrong_choices if "choices" in table else _wrong_range
            wrong += check(name, table)
        if not wrong:
            dimensions.append(_dimension(name, table))
            wrong = _wrong_recipes(dimensions[-1], base)
        problems += wrong
    if problems:
        raise BadSpace(f"The space {name_or_path} cannot be used", problems)
    return Space(tuple(dimensions))


def _with_current_names(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables with the current names and values of renamed settings."""
    old_names: list[str] = []
    current: dict[str, Any] = current_names(tables, old_names)
    for name, table in current.items():
        if isinstance(table, dict) and "choices" in table:
            choices = current_names({name: table["choices"]}, old_names)
            table = table | {"choices": choices[name]}
        if isinstance(table, dict) and isinstance(table.get("when"), dict):
            table = table | {"when": current_names(table["when"], old_names)}
        current[name] = table
    warn_of_old_names("space", old_names)
    return current


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


def _wrong_when(name: str, table: Any, below: list[str]) -> Iterator[str]:
    """Check that a condition names settings, none of a table below, and values of them."""
    when = table.get("when", {}) if isinstance(table, dict) else {}
    if not isinstance(when, dict):
        yield f'{name}.when must be a table, got {when!r}. Write when = {{ loss = "bpr-max" }}.'
        return
    for setting, value in when.items():
        if setting in below:
            yield f"{name}.when looks at {setting}, which stands below. Move [{setting}] above."
        alternatives = value if isinstance(value, list) else [value]
        if not alternatives:
            yield f"{name}.when: {setting} has no values. Give at least one."
        for alternative in alternatives:
            yield from _wrong_value(f"{name}.when", setting, alternative)


def _wrong_value(place: str, setting: str, value: object) -> list[str]:
    return [f"{place}: {problem}" for problem in checked_settings({setting: value})[1]]


def _wrong_range(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Check that the bounds are complete, of the right type, and do not contradict each other."""
    if SETTINGS[name].type not in (int, float):
        yield f"{name} needs choices, a list of its values."
        return
    wrong = [f"{name} has no {key}." for key in ("low", "high") if key not in table]
    for key in ("low", "high", "step"):
        if key in table:
            wrong += _wrong_value(f"{name}.{key}", name, table[key])
            if table[key] in (math.inf, -math.inf) or table[key] != table[key]:
                wrong.append(f"{name}.{key} must be a finite number, got {table[key]!r}.")
    log, step = table.get("log", False), table.get("step")
    if type(log) is not bool:
        wrong.append(f"{name}.log must be true or false, got {log!r}.")
    yield from wrong
    if wrong:
        return
    low, high = table["low"], table["high"]
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
    wrong = [p for value in choices for p in _wrong_value(f"{name}.choices", name, value)]
    yield from wrong
    if not wrong and len(set(choices)) < len(choices):
        yield f"{name}.choices names a value twice, got {choices!r}."


def _dimension(name: str, table: Mapping[str, Any]) -> Dimension:
    when: When = tuple(
        (setting, tuple(value) if isinstance(value, list) else (value,))
        for setting, value in table.get("when", {}).items()
    )
    kind: Any = SETTINGS[name].type
    if "choices" in table:
        return Dimension(name, choices=tuple(kind(value) for value in table["choices"]), when=when)
    numbers = {key: kind(table[key]) for key in ("low", "high", "step") if key in table}
    return Dimension(name, **numbers, log=table.get("log", False), when=when)


def _wrong_recipes(dimension: Dimension, base: Recipe) -> list[str]:
    """Return the errors of recipes at the bounds, where the condition holds."""
    met: dict[str, Any] = {setting: values[0] for setting, values in dimension.when}
    wrong = []
    for value in dimension.choices or (dimension.low, dimension.high):
        try:
            dataclasses.replace(base, **{**met, dimension.name: value})
        except BadRecipe as refused:
            wrong += [p for p in refused.problems if p.startswith(f"{dimension.name} ")]
    return wrong


def _hint(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]}?" if near else f" Known: {', '.join(known)}."
