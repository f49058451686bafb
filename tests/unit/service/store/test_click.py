"""Entries of the click history."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from service.store.click import Click

PARTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(
    PARTS | st.sampled_from(["[", "[1]", "\x1f", "a\x1fb"]),
    st.none() | PARTS,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | PARTS,
)
def test_every_click_is_read_as_it_was_written(
    item_id: str, event_id: str | None, timestamp: float | None, event_type: str | None
) -> None:
    click = Click(item_id, event_id, timestamp, event_type)
    entry = click.to_entry().encode()

    assert Click.from_entry(entry) == click
    assert Click.item_id_of(entry) == item_id
    assert Click.event_type_of(entry) == event_type


def test_a_type_changes_no_entry_without_one_and_is_behind_what_earlier_versions_read() -> None:
    """Version 0.2 reads the first three values of a JSON list, and takes no fourth text else."""
    assert Click("a", "e1", 5.0).to_entry() == "a\x1f5.0\x1fe1"
    assert orjson.loads(Click("a", "e1", 5.0, "cart").to_entry()) == ["a", 5.0, "e1", "cart"]
    assert orjson.loads(Click("a", event_type="cart").to_entry()) == ["a", None, None, "cart"]


def test_clicks_written_as_json_are_read_too() -> None:
    assert Click.from_entry(b'["a",null,"e1"]') == Click("a", "e1")
