"""A search space as a TOML file → `Space`; all that is wrong with it is reported together.

One table for each setting that is tried:

    [hidden]                    # whole numbers: low, high, step (1 where none is given)
    low = 64
    high = 512
    step = 32

    [learning_rate]             # numbers: low, high, and step or log
    low = 0.01
    high = 0.25
    log = true

    [loss]                      # one of a few
    choices = ["cross-entropy", "bpr-max"]

    [bpreg]                     # tried only when the settings above it have these values
    low = 0.0
    high = 2.0
    when = { loss = "bpr-max" }
"""

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any

from recsys.errors import BadRecipe, BadSpace
from training.recipe import SETTINGS, Recipe, checked_settings
from training.shipped import read_toml
from training.space import Choices, Dimension, Numbers, Space, Value, When, WholeNumbers, is_whole

KEYS = ("low", "high", "step", "log", "choices", "when")
FIXED = {  # settings that a search cannot try, and why
    "validation": "it decides on which sessions trials are compared",
    "select_by": "it decides by which metric trials are compared",
    "refit": "a search never refits",
    "seed": "a lucky seed is not a better recipe",
}


def load_space(chosen: str, base: Recipe) -> Space:
    """A built-in space by name or a TOML file by path, to be tried on top of `base`.

    Raises `BadSpace` with every problem of the file.
    """
    tables = read_toml(chosen, "space", BadSpace)
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
        raise BadSpace(f"The space {chosen} cannot be used", problems)
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
    """A condition names settings with values that they can have; those tried must stand above."""
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
    """What is missing, of the wrong type, or contradicts itself."""
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
    found: list[object] = []
    for value in choices:
        settings, wrong = checked_settings({name: value})
        yield from (f"{name}.choices: {problem}" for problem in wrong)
        found += settings.values()
    if len(set(found)) < len(found):
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
    """What a recipe says about the bounds, where the condition holds."""
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
