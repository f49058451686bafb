"""Format of the feedback streams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.feedback.entries import (
    ClickEntry,
    DeletionEntry,
    FeedbackEntry,
    ImpressionEntry,
    read_entry,
    stream_keys,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
OPTIONAL = st.none() | TEXT
ENTRIES = st.one_of(
    st.builds(
        ClickEntry, TEXT, TEXT, st.integers(1, 10**15), TEXT, OPTIONAL, OPTIONAL, OPTIONAL, OPTIONAL
    ),
    st.builds(ImpressionEntry, TEXT, TEXT, TEXT, TEXT, OPTIONAL, TEXT, st.lists(TEXT).map(tuple)),
    st.builds(DeletionEntry, TEXT),
)


def encoded(fields: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in fields.items()}


@given(ENTRIES)
def test_every_entry_is_read_as_it_was_written(entry: FeedbackEntry) -> None:
    assert read_entry(encoded(entry.fields())) == entry


CLICK = {"k": "c", "u": "u", "s": "s", "n": "1", "d": '["a",null,null,null,null]'}


@pytest.mark.parametrize(
    "changed",
    [
        {"k": "x"},
        {"n": "one"},
        {"d": "["},
        {"d": "[]"},
        {"d": '["a",null]'},
        {"d": "[7,null,null,null,null]"},
        {"d": '["a",7,null,null,null]'},
        {"k": "i"},
        {"k": "i", "d": '["l","m",null,"model","ab"]'},
        {"k": "i", "d": '["l","m",null,"model",[7]]'},
    ],
    ids=str,
)
def test_other_fields_are_refused(changed: dict[str, str]) -> None:
    read_entry(encoded(CLICK))

    with pytest.raises(ValueError, match="no click, impression or deletion"):
        read_entry(encoded(CLICK | changed))
    with pytest.raises(ValueError, match="no click, impression or deletion"):
        read_entry({b"k": b"c"})


def test_there_is_one_stream_for_each_shard() -> None:
    keys = stream_keys()

    assert (len(keys), len(set(keys))) == (64, 64)
    assert (keys[0], keys[63]) == ("recsys:{s00}:feedback", "recsys:{s63}:feedback")
