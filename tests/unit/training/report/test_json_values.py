"""Results become values that every JSON reader takes."""

import json
import math

from training.experiments.comparison import MetricResult
from training.experiments.estimates import UserRate
from training.report.json_values import json_values


def test_dataclasses_are_objects_and_numbers_without_a_value_are_null() -> None:
    result = MetricResult(UserRate(0.5, math.nan, 2, 1), rates=(UserRate(math.inf, 0.0, 0, 0),))

    values = json_values({"each": result})

    text = json.dumps(values, allow_nan=False)
    assert json.loads(text)["each"]["rate"] == {
        "value": 0.5,
        "variance": None,
        "users": 2,
        "users_with_event": 1,
    }
    assert json.loads(text)["each"]["rates"][0]["value"] is None
