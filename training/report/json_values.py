"""Results as values of JSON, which has no dataclass and no infinity."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass


def json_values(value: object) -> object:
    """Return dataclasses as objects and sequences as arrays, at any depth.

    A number that is NaN or infinite is null.
    """
    if is_dataclass(value):
        return {each.name: json_values(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {name: json_values(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [json_values(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
