"""Click options check themselves, and every field is an option of the command line."""

import dataclasses
import json
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from data.click_options import ClickOptions, OptionHelp, remembered_reading
from recsys.errors import BadInput

CLICKS = Path("clicks.csv")


def test_all_options_that_cannot_be_used_are_reported_together() -> None:
    with pytest.raises(BadInput) as caught:
        ClickOptions(
            CLICKS, min_length=1, min_support=0, test_fraction=1.0, delimiter="ab", item_column=""
        )

    assert len(caught.value.problems) == 5
    assert "--min-length must be at least 2, got 1." in str(caught.value)


def test_sessions_come_from_a_column_or_are_cut_from_users() -> None:
    by_column = ClickOptions(CLICKS)
    by_user = ClickOptions(CLICKS, session_column="none", idle_gap_seconds=60)

    assert by_column.columns() == ["session_id", "item_id", "timestamp"]
    assert by_column.session_gap_seconds is None
    assert by_user.columns() == ["user_id", "item_id", "timestamp"]
    assert by_user.session_gap_seconds == 60


def test_event_types_need_the_event_column() -> None:
    assert "event_type" not in ClickOptions(CLICKS).columns()
    assert "event_type" in ClickOptions(CLICKS, events=("view",)).columns()
    assert "kind" in ClickOptions(CLICKS, events=("view",), event_column="kind").columns()


def test_every_field_has_a_help_text() -> None:
    hints = get_type_hints(ClickOptions, include_extras=True)

    for field in dataclasses.fields(ClickOptions):
        _, description = get_args(hints[field.name])
        assert isinstance(description, OptionHelp)
        assert description.text.endswith(".")


def test_options_of_reading_are_remembered() -> None:
    options = ClickOptions(
        CLICKS, session_column="none", delimiter=";", events=["view"], drop_duplicates=True,
        min_length=5,
    )  # fmt: skip

    reading = json.loads(json.dumps(options.reading()))
    again = ClickOptions(CLICKS, **remembered_reading({"reading": reading}))

    assert set(reading) == {"session_column", "delimiter", "events", "drop_duplicates"}
    assert again.reading() == options.reading()
    assert ClickOptions(CLICKS).reading() == {}


def test_what_a_manifest_cannot_mean_is_not_remembered() -> None:
    odd = {"path": "x", "delimiter": 7, "min_length": 9, "item_column": None, "time_column": "at"}

    assert remembered_reading({"reading": odd}) == {"time_column": "at"}
    assert remembered_reading({"reading": "odd"}) == remembered_reading({}) == {}
